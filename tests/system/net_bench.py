"""A node's network in a namespace of its own, and guests that are namespaces too, to send real packets."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pileus.node.contract import NetworkReport, NodeNetwork, PortState
from pileus.node.net import names, namespaces
from pileus.node.net.bridge import BridgeDriver
from pileus.node.net.settings import HostBridge, NetSettings

T = TypeVar("T")
PATIENCE = 5
"""Seconds until what must be reached is reached: the kernel tells of a new link when it comes to it, and what is sent
before is lost."""
AT_ONCE = 0
"""The patience for what must not be reached: one try."""


def new_id() -> str:
    return str(uuid.uuid4())


def command(namespace: str | None, words: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    with namespaces.inside(namespace):
        return subprocess.run(
            ["sh", "-c", words],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )


def must(namespace: str | None, words: str) -> str:
    done = command(namespace, words)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Node:
    """A driver whose host namespace is one made for it; its event loop runs in a thread that lives there."""

    def __init__(
        self, prefix: str, vtep: str | None = None, masquerade: bool = False,
        addresses: tuple[str, ...] = ("172.24.4.1/24",), physical: dict[str, str] | None = None,
    ) -> None:
        self.prefix = prefix
        self.host = f"{prefix}-host"
        self.outside = f"{prefix}-world"
        self.bridge = "pub0"
        namespaces.ip_batch(None, [f"netns add {self.host}", f"netns add {self.outside}"])
        must(self.host, "ip link set lo up")
        bridge = HostBridge(name=self.bridge, addresses=addresses, masquerade=masquerade)
        self.settings = NetSettings(
            state_dir=Path("/run") / f"pileus-{prefix}",
            prefix=prefix,
            physical_networks={"public": self.bridge} if physical is None else physical,
            host_bridges=(bridge,),
            vtep=vtep,
            tap_wait_seconds=2,
        )
        self.state = NodeNetwork(revision=0)
        self.guests: list[Guest] = []
        self.asked: list[str] = []
        self.begin()

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()

        def run() -> None:
            with namespaces.inside(self.host):
                self.loop.call_soon(ready.set)
                self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(5)
        self.driver = self.do(self._make)
        self.do(self.driver.start)

    def metadata(self, identity: str) -> Any:
        """Answers with the id that it was made for, the client's address and the path."""

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.asked.append(scope["path"])
            body = f"{identity} {scope['client'][0]} {scope['path']}".encode()
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

        return app

    async def _make(self) -> BridgeDriver:
        async def refresh() -> None:
            await self.driver.apply(self.state)

        return BridgeDriver(self.settings, self.metadata, refresh)

    def do(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        return asyncio.run_coroutine_threadsafe(function(*arguments), self.loop).result(60)

    def end(self) -> None:
        """The agent ends; what it made stays."""
        self.do(self.driver.stop)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    def apply(self, state: NodeNetwork | None = None) -> NetworkReport:
        self.state = state if state is not None else self.state
        return self.do(self.driver.apply, self.state)

    def world(self) -> None:
        """A machine outside, on the public bridge."""
        must(self.host, f"ip link add w0 type veth peer name eth0 netns {self.outside}")
        must(self.host, f"ip link set w0 master {self.bridge} up")
        must(self.outside, "ip link set lo up; ip link set eth0 up; ip addr add 172.24.4.200/24 dev eth0")

    def guest(self, port: PortState) -> Guest:
        guest = Guest(self, port)
        self.guests.append(guest)
        return guest

    def close(self) -> None:
        for guest in self.guests:
            guest.close()
        self.do(self.driver.teardown)
        self.end()
        for name in (self.host, self.outside):
            namespaces.remove(name)
        shutil.rmtree(self.settings.state_dir, ignore_errors=True)


class Guest:
    """A namespace whose eth0 is one end of a veth pair; the other stands where the port's tap would."""

    def __init__(self, node: Node, port: PortState) -> None:
        self.port = port
        self.namespace = f"{node.prefix}-g-{port.id[:8]}"
        self.network = names.network_namespace(node.prefix, port.network_id)
        namespaces.ip_batch(
            None,
            [
                f"netns add {self.namespace}",
                f"link add eth0 netns {self.namespace} address {port.mac} type veth "
                f"peer name {names.tap(port.id)} netns {self.network}",
            ],
        )
        must(self.namespace, "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; "
             "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set lo up; ip link set eth0 up")

    def carried(self) -> None:
        """Wait until the bridge forwards for the port: the kernel tells it of the carrier a little later."""
        deadline = time.monotonic() + 5
        name = names.tap(self.port.id)
        while "state forwarding" not in must(self.network, f"bridge link show dev {name}"):
            assert time.monotonic() < deadline, f"{name} does not forward"
            time.sleep(0.02)

    def static(self, gateway: str | None = None, gateway6: str | None = None) -> Guest:
        for ip in self.port.ips:
            must(self.namespace, f"ip addr add {ip}/{64 if ':' in ip else 24} dev eth0" + (" nodad" * (":" in ip)))
        if gateway:
            must(self.namespace, f"ip route add default via {gateway}")
        if gateway6:
            must(self.namespace, f"ip -6 route add default via {gateway6}")
        return self

    def dhcp(self) -> str:
        """A lease from busybox's client; the options that it got, as NAME=value lines."""
        script = Path(f"/run/{self.namespace}.sh")
        script.write_text(
            "#!/bin/sh\n"
            "[ \"$1\" = bound ] || exit 0\nenv\nip addr replace $ip/$mask dev eth0\n"
            "[ -n \"$mtu\" ] && ip link set eth0 mtu $mtu\n"
            "set -- $staticroutes\nwhile [ $# -ge 2 ]; do\n"
            " if [ $2 = 0.0.0.0 ]; then ip route replace $1 dev eth0; else ip route replace $1 via $2; fi\n"
            " shift 2\ndone\n"
        )
        script.chmod(0o755)
        try:
            return must(
                self.namespace,
                f"busybox udhcpc -i eth0 -n -q -t 5 -T 1 -s {script} "
                "-O staticroutes -O mtu -O domain -O ntpsrv -O tftp",
            )
        finally:
            script.unlink()

    def run(self, words: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        return command(self.namespace, words, timeout)

    def pings(self, address: str, count: int = 1, patience: int = PATIENCE) -> bool:
        return self.run(f"ping -n -c {count} -i 0.2 -w {patience} {address}").returncode == 0

    def listen(self, port: int, kind: str = "tcp") -> Listener:
        return Listener(self.namespace, port, kind)

    def connects(self, address: str, port: int, kind: str = "tcp", patience: float = PATIENCE) -> bool:
        return connects(self.namespace, address, port, kind, patience)

    def close(self) -> None:
        namespaces.remove(self.namespace)


_SERVE = """
import socket, sys, threading
kind, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", port))
def echo(c, a):
    while data := c.recv(100): c.sendall(a[0].encode() + b" " + data)
if kind == "tcp":
    s.listen()
    print("ready", flush=True)
    while True:
        threading.Thread(target=echo, args=s.accept(), daemon=True).start()
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(100); s.sendto(peer[0].encode() + b" " + data, peer)
"""


class Listener:
    """An echo server in a namespace, which says the client's address first."""

    def __init__(self, namespace: str, port: int, kind: str) -> None:
        with namespaces.inside(namespace):
            self._process = subprocess.Popen(
                ["/usr/bin/env", "python3", "-c", _SERVE, kind, str(port)], stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Talk:
    """An open TCP connection from a namespace."""

    def __init__(self, namespace: str, address: str, port: int, kind: str = "tcp", timeout: float = 0.6) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with namespaces.inside(namespace):
            self._socket = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect((address, port))
        except OSError:
            self._socket.close()
            raise

    def says(self, word: str = "hi") -> str | None:
        """The server's answer; None if there is none."""
        try:
            self._socket.send(word.encode())
            answer = self._socket.recv(100).decode()
        except OSError:
            return None
        assert answer.endswith(word), answer
        return answer.split()[0].removeprefix("::ffff:")

    def close(self) -> None:
        self._socket.close()


def seen_as(
    namespace: str, address: str, port: int, kind: str = "tcp", patience: float = PATIENCE
) -> str | None:
    """How a server at `address` sees a client in this namespace; None if it cannot be reached for so long."""
    until = time.monotonic() + patience
    while True:
        answer = None
        with contextlib.suppress(OSError):
            talk = Talk(namespace, address, port, kind)
            answer = talk.says()
            talk.close()
        if answer is not None or time.monotonic() > until:
            return answer
        time.sleep(0.1)


def connects(namespace: str, address: str, port: int, kind: str = "tcp", patience: float = PATIENCE) -> bool:
    return seen_as(namespace, address, port, kind, patience) is not None


class Wire:
    """Raw frames at a guest's eth0, as a hostile guest would send them."""

    def __init__(self, namespace: str) -> None:
        with namespaces.inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self._socket.bind(("eth0", 3))
        self._socket.settimeout(0.3)

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def heard(self, words: Iterable[bytes]) -> set[bytes]:
        """Which of these words came in frames within a moment."""
        frames, deadline = [], time.monotonic() + 0.5
        with contextlib.suppress(OSError):
            while time.monotonic() < deadline:
                frames.append(self._socket.recv(2000))
        return {word for word in words if any(word in frame for frame in frames)}

    def close(self) -> None:
        self._socket.close()


class Applier:
    """A process that applies states in turn for ever, to be killed at any moment."""

    def __init__(self, node: Node, states: list[NodeNetwork]) -> None:
        file = node.settings.state_dir / "states"
        file.write_bytes(pickle.dumps((node.settings, states)))
        with namespaces.inside(node.host):
            self._process = subprocess.Popen([sys.executable, __file__, str(file)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"

    def kill(self) -> str:
        """Kill it; returns the errors that it had met."""
        self._process.kill()
        return self._process.communicate()[0]


async def _apply_for_ever(settings: NetSettings, states: list[NodeNetwork]) -> None:
    driver = BridgeDriver(settings, lambda identity: None)
    await driver.start()
    print("started", flush=True)
    while True:
        for state in states:
            report = await driver.apply(state)
            if report.errors:
                print(report.errors, flush=True)


if __name__ == "__main__":
    asyncio.run(_apply_for_ever(*pickle.loads(Path(sys.argv[1]).read_bytes())))
