"""Real RabbitMQ servers for tests: a cluster of any size on loopback, each member a process that a test may kill.

Nothing of it is the machine's own RabbitMQ: folders, ports, cookie, node names and the Erlang port mapper are its own.
What root starts runs as the user that the Debian package made.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import IO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ports import free_port

_BIN = Path("/usr/lib/rabbitmq/bin")
_WAIT = 90.0
_USER = "rabbitmq"
PASSWORD = "pass/of:rabbit@tests"
"""With everything that a URL has to escape."""


@contextmanager
def rabbitmq(members: int = 1) -> Iterator[RabbitMq]:
    """A cluster that takes connections; its folder and processes are gone at the end."""
    if not _BIN.exists():
        raise RuntimeError("RabbitMQ is missing: install it with `scripts/install-system test`")
    folder = Path(tempfile.mkdtemp(prefix="pileus-rabbitmq-"))
    cluster = RabbitMq(folder, members)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _certificate(folder: Path) -> None:
    """A certificate for 127.0.0.1 that is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))


class RabbitMq:
    """A cluster. Members are numbered from 0."""

    def __init__(self, folder: Path, members: int) -> None:
        self.folder = folder
        self.user = pwd.getpwnam(_USER) if os.geteuid() == 0 else None
        self.mapper_port = free_port()
        self.mapper: subprocess.Popen[bytes] | None = None
        tag = secrets.token_hex(3)
        names = [f"m{number}-{tag}@localhost" for number in range(members)]
        self.members = [Member(self, names, number) for number in range(members)]
        (folder / ".erlang.cookie").write_text(secrets.token_hex(16))
        (folder / ".erlang.cookie").chmod(0o400)
        _certificate(folder)
        for member in self.members:
            member.prepare()
        self._own()

    def _own(self) -> None:
        if self.user:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def start(self) -> None:
        """Start all members and wait until they are one cluster with the account of the tests."""
        self.mapper = self.run("epmd", "-address", "127.0.0.1", "-port", str(self.mapper_port))
        for member in self.members:
            member.start()
        for member in self.members:
            member.wait()
        until = time.monotonic() + _WAIT
        while len(json.loads(self.ctl("cluster_status", "--formatter", "json"))["running_nodes"]) < len(self.members):
            assert time.monotonic() < until, "the members did not find each other"
            time.sleep(0.2)
        self.ctl("add_user", "pileus", PASSWORD)
        self.ctl("set_permissions", "pileus", r"^pileus\..*", r"^(pileus\..*|amq\.default)$", r"^pileus\..*")

    def stop(self) -> None:
        """End all members at once; what they hold is thrown away."""
        for member in self.members:
            member.kill()
        if self.mapper:
            self.mapper.kill()
            self.mapper.wait(20)

    def url(self, *numbers: int) -> str:
        """The setting `bus` for these members, or for all."""
        hosts = ",".join(f"127.0.0.1:{self.members[n].port}" for n in numbers or range(len(self.members)))
        return f"amqp://pileus:pass%2Fof%3Arabbit%40tests@{hosts}"

    @property
    def tls_url(self) -> str:
        """The same for the first member, over TLS."""
        place = f"127.0.0.1:{self.members[0].tls_port}/?cafile={self.folder / 'cert.pem'}"
        return f"amqps://pileus:pass%2Fof%3Arabbit%40tests@{place}"

    def ctl(self, *words: str, member: int = 0) -> str:
        """What rabbitmqctl says. Fails with what it said."""
        return self.members[member].ctl(*words)

    def run(self, *words: str, log: IO[bytes] | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program as RabbitMQ's user with an environment of its own."""
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log or subprocess.DEVNULL, stderr=log or subprocess.DEVNULL,
            cwd=self.folder, env=self.environment | environment, start_new_session=True,
            user=self.user and self.user.pw_uid, group=self.user and self.user.pw_gid,
            extra_groups=[] if self.user else None,
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder), "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.mapper_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }


class Member:
    """One server of the cluster."""

    def __init__(self, cluster: RabbitMq, names: list[str], number: int) -> None:
        self.cluster = cluster
        self.names = names
        self.name = names[number]
        self.folder = cluster.folder / f"m{number}"
        self.port, self.tls_port, self.dist_port = free_port(), free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Write the configuration."""
        for name in ("mnesia", "log"):
            (self.folder / name).mkdir(parents=True)
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}", "loopback_users = none", "log.file = false",
            "log.console = true", "log.console.level = warning", "disk_free_limit.absolute = 10MB",
            "vm_memory_high_watermark.absolute = 800MB", "vm_memory_calculation_strategy = allocated",
            "cluster_formation.peer_discovery_backend = classic_config",
            "cluster_formation.randomized_startup_delay_range.min = 0",
            "cluster_formation.randomized_startup_delay_range.max = 1",
            "cluster_partition_handling = pause_minority", "net_ticktime = 8",
            *(f"cluster_formation.classic_config.nodes.{n} = {peer}" for n, peer in enumerate(self.names, 1)),
        ]
        files = {"cacertfile": "cert.pem", "certfile": "cert.pem", "keyfile": "key.pem"}
        lines += [f"ssl_options.{option} = {self.cluster.folder / name}" for option, name in files.items()]
        lines.append(f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}")
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "plugins").write_text("[].\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "RABBITMQ_NODENAME": self.name, "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"), "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"), "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def start(self) -> None:
        """Start it without waiting."""
        with (self.folder / "out").open("ab") as log:
            self.process = self.cluster.run(str(_BIN / "rabbitmq-server"), log=log, **self.environment)

    def wait(self) -> None:
        """Until it takes connections."""
        until = time.monotonic() + _WAIT
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self.process is None or self.process.poll() is not None or time.monotonic() > until:
                text = (self.folder / "out").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"RabbitMQ {self.name} does not start:\n{text}")
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)  # the server is the child of a shell script
            self.process.wait(20)
            self.process = None
        until = time.monotonic() + _WAIT
        with suppress(ConnectionRefusedError):  # it is gone when its port is
            while time.monotonic() < until:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                time.sleep(0.02)

    def ctl(self, *words: str) -> str:
        """What rabbitmqctl says of this member. Fails with what it said."""
        done = subprocess.run(
            [str(_BIN / "rabbitmqctl"), "-q", "-n", self.name, *words], timeout=_WAIT, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=self.cluster.folder,
            env=self.cluster.environment | self.environment, extra_groups=[] if self.cluster.user else None,
            user=self.cluster.user and self.cluster.user.pw_uid, group=self.cluster.user and self.cluster.user.pw_gid,
        )
        text = done.stdout.decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {words[0]} failed: {text[-2000:]}")
        return text
