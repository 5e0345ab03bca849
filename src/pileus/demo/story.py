"""The story: an image, a flavor, a project and its user; as that user a network, a server, its whole life, and its end.

It is the second half of the RDO guide and the "Testing OpenStack" part of the GridKa school, in today's commands.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from pileus.cli.credentials import private
from pileus.demo.client import Client, StoryError, find_client, host

_USER_DATA = "#!/bin/sh\necho 'user-data was here' > /root/from-user-data\n"
_LOGIN = "pileus"
_SSH = (
    "ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5",
    "-o", "BatchMode=yes",
)


class Story:
    """Told on a running cloud whose clouds.yaml is `clouds`; files of its own are in `folder`."""

    def __init__(self, clouds: Path, folder: Path, image: Path, password: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.image, self._password = folder, image, password
        program = find_client()
        self.admin = Client(program, clouds, "pileus-admin")
        self.clouds = self._clouds(clouds)
        self.demo = Client(program, self.clouds, "demo")
        self.key = folder / "id_ed25519"

    def _clouds(self, admin: Path) -> Path:
        entry: dict[str, Any] = yaml.safe_load(admin.read_text())["clouds"]["pileus-admin"]
        entry["auth"] |= {"username": "demo", "password": self._password, "project_name": "demo"}
        path = self.folder / "clouds.yaml"
        private(path, yaml.safe_dump({"clouds": {"demo": entry}}))
        return path

    def tell(self) -> None:
        """All of it. Raises StoryError at the first step that does not come out as told."""
        self.prepare()
        self.network()
        address = self.boot()
        self.life(address)
        self.end()

    def prepare(self) -> None:
        """As admin: image, flavor, project, user, role."""
        admin = self.admin
        admin.run("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--public",
                  "--file", str(self.image), "guest")
        admin.run("flavor", "create", "--ram", "128", "--disk", "1", "--vcpus", "1", "m1.nano")
        admin.run("project", "create", "demo")
        admin.run("user", "create", "--project", "demo", "--password-prompt", "demo", secret=self._password)
        admin.run("role", "add", "--user", "demo", "--project", "demo", "member")

    def network(self) -> None:
        """As demo: a key, a network with a way out, and rules that let ping and SSH in."""
        demo = self.demo
        self.key.unlink(missing_ok=True)
        host("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key), say="ssh-keygen -t ed25519")
        demo.run("keypair", "create", "--public-key", f"{self.key}.pub", "demo")
        demo.run("network", "create", "net0")
        demo.run("subnet", "create", "--network", "net0", "--subnet-range", "10.0.0.0/24",
                 "--dns-nameserver", "172.24.4.1", "net0-subnet0")
        demo.run("router", "create", "extrouter")
        demo.run("router", "set", "--external-gateway", "public", "extrouter")
        demo.run("router", "add", "subnet", "extrouter", "net0-subnet0")
        demo.run("security", "group", "rule", "create", "--protocol", "icmp", "default")
        demo.run("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22", "default")

    def boot(self) -> str:
        """A server, reached from outside by its floating address, which is returned."""
        demo = self.demo
        script = self.folder / "user-data.sh"
        script.write_text(_USER_DATA)
        demo.run("server", "create", "--image", "guest", "--flavor", "m1.nano", "--network", "net0", "--key-name",
                 "demo", "--user-data", str(script), "--wait", "test0")
        address: str = demo.json("floating", "ip", "create", "public")["floating_ip_address"]
        demo.run("server", "add", "floating", "ip", "test0", address)
        host("ping", "-c", "1", "-W", "1", address)
        print(self.ssh(address, "uname -a"))
        self.expect(self.ssh(address, "hostname"), "test0", "the name that the metadata service gave")
        self.expect(self.ssh(address, "sudo cat /root/from-user-data"), "user-data was here", "what user-data wrote")
        log = demo.run("console", "log", "show", "test0")
        if "Linux version" not in log and "login:" not in log:
            raise StoryError(f"the console log shows no boot:\n{log[-500:]}")
        print("\n".join(log.splitlines()[-3:]))
        return address

    def life(self, address: str) -> None:
        """Stop, start, reboots, pause, suspend, rebuild, snapshot, and a server from the snapshot."""
        demo = self.demo
        demo.run("server", "stop", "test0")
        demo.wait("test0", "SHUTOFF")
        demo.run("server", "start", "test0")
        demo.wait("test0", "ACTIVE")
        self.ssh(address, "true")
        for kind in ("--soft", "--hard"):
            demo.run("server", "reboot", kind, "--wait", "test0")
            self.ssh(address, "true")
        for there, status, back in (("pause", "PAUSED", "unpause"), ("suspend", "SUSPENDED", "resume")):
            demo.run("server", there, "test0")
            demo.wait("test0", status)
            demo.run("server", back, "test0")
            demo.wait("test0", "ACTIVE")
            self.ssh(address, "true")
        demo.run("server", "rebuild", "--image", "guest", "--wait", "test0")
        self.ssh(address, "sudo sh -c 'echo kept > /root/mark; sync'")
        demo.run("server", "image", "create", "--name", "snap0", "--wait", "test0")
        demo.run("server", "create", "--image", "snap0", "--flavor", "m1.nano", "--network", "net0", "--key-name",
                 "demo", "--wait", "test1")
        demo.run("server", "remove", "floating", "ip", "test0", address)
        demo.run("server", "add", "floating", "ip", "test1", address)
        self.expect(self.ssh(address, "sudo cat /root/mark"), "kept", "what the snapshot kept")
        self.expect(self.ssh(address, "hostname"), "test1", "the new server's own name")

    def end(self) -> None:
        """Delete everything."""
        demo, admin = self.demo, self.admin
        demo.run("server", "delete", "--wait", "test0", "test1")
        for address in demo.json("floating", "ip", "list", show=False):
            demo.run("floating", "ip", "delete", address["ID"])
        demo.run("router", "remove", "subnet", "extrouter", "net0-subnet0")
        demo.run("router", "delete", "extrouter")
        demo.run("network", "delete", "net0")
        demo.run("image", "delete", "snap0")
        demo.run("keypair", "delete", "demo")
        admin.run("image", "delete", "guest")
        admin.run("flavor", "delete", "m1.nano")
        admin.run("user", "delete", "demo")
        groups = admin.json("security", "group", "list", "--project", "demo", show=False)
        for group in groups:
            admin.run("security", "group", "delete", group["ID"])
        admin.run("project", "delete", "demo")

    def ssh(self, address: str, command: str) -> str:
        """What a command prints inside the guest."""
        words = (*_SSH, "-i", str(self.key), f"{_LOGIN}@{address}", command)
        return host(*words, say=f"ssh {_LOGIN}@{address} {command}")

    @staticmethod
    def expect(seen: str, wanted: str, what: str) -> None:
        """Raises StoryError unless it is there."""
        if wanted not in seen:
            raise StoryError(f"{what} should be '{wanted}', and is '{seen}'")


def traces(prefix: str) -> list[str]:
    """What guests and tenants' networks have left on the host: namespaces by their prefix, and QEMU processes."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(prefix + "-")]
