"""Several nodes with an underlay and an outside between them, told what to carry by the real network service."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import secrets
import subprocess
import time
from pathlib import Path
from typing import Any

from net_bench import Guest, Node, must
from tests.api.conftest import Client

from pileus.auth.context import Context
from pileus.cloud import Cloud
from pileus.cluster.tables import node as cluster_node
from pileus.db.engine import Tx
from pileus.network import networks, ports, subnets, wiring
from pileus.network.ports import PortInfo
from pileus.network.schemas import NetworkNew, SubnetNew
from pileus.node.contract import NetworkReport, NodeNetwork, PortState
from pileus.node.net import namespaces
from pileus.settings import Settings
from pileus.web.app import App
from pileus.world import World

SECRET = "a secret for tests"


class Clock(World):
    """A clock that can be put forward."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Lab:
    """`Lab(state, a=("network",), b=())`: nodes by name with their roles, and a cloud that places things on them."""

    def __init__(self, state: Path, six: bool = False, **roles: tuple[str, ...]) -> None:
        self.prefix = "t" + secrets.token_hex(3)
        self.wire = f"{self.prefix}-wire"
        namespaces.ip_batch(None, [f"netns add {self.wire}"])
        for name in ("under", "public"):
            must(self.wire, f"ip link add {name} type bridge forward_delay 0; ip link set {name} up")
        must(self.wire, "ip addr add 172.24.4.1/24 dev public; ip link set lo up")
        settings = Settings(state_dir=str(state), hypervisor="qemu", admin_password=SECRET, bcrypt_rounds=4,
                            log_level="error", listen="cloud.test:80", public_url="http://cloud.test")
        self.clock = Clock()
        self.cloud = Cloud(settings, self.clock, rooms=("identity", "network"))
        self.cloud.open()
        self.loop = asyncio.new_event_loop()
        self.admin = Client(App(self.cloud, self.cloud.served, {}), self.loop).login("admin", SECRET, "admin")
        self.project = self.admin.get("/identity/v3/projects?name=admin").json()["projects"][0]["id"]
        self.me = Context(user_id="u", project_id=self.project, roles=("admin", "member", "reader"))
        self.nodes: dict[str, Node] = {}
        self.cut: set[str] = set()
        for number, (name, has) in enumerate(roles.items(), 1):
            self._add(number, name, has, six)
        self.turn(*self.nodes)

    def _add(self, number: int, name: str, roles: tuple[str, ...], six: bool) -> None:
        address = f"fd99::{number}" if six else f"192.0.2.{number}"
        reaches = None if "network" in roles else {}
        node = Node(f"{self.prefix}{name}", vtep=address, addresses=(), physical=reaches)
        self.nodes[name] = node
        flags = " nodad" if six else ""
        for end, bridge in (("u0", "under"), ("p0", "public")):
            must(node.host, f"ip link add {end} type veth peer name {end}-{name} netns {self.wire}")
            must(node.host, f"ip link set {end} up")
            must(self.wire, f"ip link set {end}-{name} master {bridge} up")
        must(node.host, f"ip addr add {address}/{64 if six else 24} dev u0{flags}; ip link set p0 master {node.bridge}")
        self.cloud.db.run_sync(lambda tx: tx.execute(cluster_node.insert().values(
            name=name, roles=["compute", *roles], key_digest="", token_id="", address=address, controller="",
            session="", seen=0.0, joined=0.0, draining=False, version="",
        )))

    # -- what agents do

    def state(self, name: str) -> NodeNetwork:
        return self.cloud.db.run_sync(lambda tx: wiring.node_state(tx, self.cloud, name), write=False)

    def turn(self, *names: str) -> dict[str, NetworkReport]:
        """These nodes, or all that are not cut off, fetch their state, apply it, and report."""
        said = {}
        for name in names or [name for name in self.nodes if name not in self.cut]:
            report = self.nodes[name].apply(self.state(name))
            self.cloud.db.run_sync(lambda tx, n=name, r=report: wiring.report(tx, self.cloud, n, r))  # type: ignore[misc]
            said[name] = report
        return said

    def settled(self) -> None:
        """Two turns, with nothing wrong at the end."""
        self.turn()
        assert {name: report.errors for name, report in self.turn().items() if report.errors} == {}

    # -- what users do

    def do(self, work: Any) -> Any:
        return self.cloud.db.run_sync(work)

    def network(self, *cidrs: str, **more: Any) -> str:
        def make(tx: Tx) -> str:
            identity = networks.insert(tx, self.cloud, self.project, NetworkNew(name="net", **more))
            row = networks.visible_row(tx, self.me, identity)
            for cidr in cidrs:
                found = ipaddress.ip_network(cidr)
                new = SubnetNew(network_id=identity, ip_version=found.version)
                subnets.insert(tx, self.cloud, row, self.project, new, found)
            return identity

        return self.do(make)

    def port(self, network: str, host: str, server: str = "", ip: str | None = None) -> PortInfo:
        server = server or self.clock.uuid()
        port = self.do(lambda tx: ports.create(
            tx, self.cloud, self.me, network_id=network, device_id=server, device_owner="compute:nova", host=host,
            fixed_ip=ip,
        ))
        self.open(port)
        return port

    def open(self, port: PortInfo) -> None:
        """All may come in."""
        for version in ("IPv4", "IPv6"):
            self.admin.post("/network/v2.0/security-group-rules", {"security_group_rule": {
                "security_group_id": port.security_group_ids[0], "direction": "ingress", "ethertype": version,
            }})

    def guest(self, port: PortInfo, host: str = "") -> Guest:
        """A guest at the port; of a network that the node has."""
        ips = tuple(ip for _, ip in port.fixed_ips)
        state = PortState(id=port.id, network_id=port.network_id, mac=port.mac, ips=ips)
        return self.nodes[host or port.host].guest(state)

    def router(self, *subnet_ids: str, public: bool = True) -> dict[str, Any]:
        body: dict[str, Any] = {"name": "r"}
        if public:
            body["external_gateway_info"] = {"network_id": self.public()}
        made: dict[str, Any] = self.admin.post("/network/v2.0/routers", {"router": body}).json()["router"]
        for subnet_id in subnet_ids:
            path = f"/network/v2.0/routers/{made['id']}/add_router_interface"
            assert self.admin.put(path, {"subnet_id": subnet_id}).status_code == 200
        return made

    def public(self) -> str:
        found = self.admin.get("/network/v2.0/networks?router:external=True").json()["networks"]
        return str(found[0]["id"])

    def subnets(self, network: str) -> list[str]:
        return list(self.admin.get(f"/network/v2.0/networks/{network}").json()["network"]["subnets"])

    def agents(self, path: str) -> list[str]:
        """The nodes of `routers/ID/l3-agents` or `networks/ID/dhcp-agents`."""
        return [agent["host"] for agent in self.admin.get(f"/network/v2.0/{path}").json()["agents"]]

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()
        namespaces.remove(self.wire)
        self.cloud.close()
        self.loop.close()


class Pings:
    """One ping every 50 ms from a namespace, and how many were lost."""

    def __init__(self, namespace: str, address: str) -> None:
        with namespaces.inside(namespace):
            self._process = subprocess.Popen(
                ["ping", "-n", "-D", "-i", "0.05", "-w", "60", address],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
        time.sleep(0.4)

    def stop(self) -> tuple[int, float]:
        """How many of them were lost, and the longest silence in seconds."""
        time.sleep(0.4)
        self._process.send_signal(2)
        lines = self._process.communicate(timeout=10)[0].splitlines()
        times = [float(line[1 : line.index("]")]) for line in lines if line.startswith("[") and "bytes from" in line]
        words = next(line for line in lines if "packets transmitted" in line).split()
        sent, got = int(words[0]), int(words[3])
        return max(0, sent - got - 1), max((b - a for a, b in itertools.pairwise(times)), default=99.0)
