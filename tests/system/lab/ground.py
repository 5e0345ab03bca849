"""What tests of faults stand on: a small image, flavor and network, guests and their processes, a power switch."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.system.lab.api import Api
from tests.system.lab.building import doctor, guest_image

from pileus.lab import Lab
from pileus.lab.layouts import UNDERLAY

SWITCH_PORT = 623
FENCE = (
    f"bash -c 'exec 3<>/dev/tcp/{UNDERLAY}.2/{SWITCH_PORT} && echo $PILEUS_NODE >&3 && read -t 30 said <&3; "
    'echo "the switch says: $said"; test "$said" = off\''
)
"""A `fence_command` that asks `Switch`, as one asks a switched power strip."""


def server_body(api: Api) -> dict[str, Any]:
    """What a server without a system needs: an empty image, 64 MB, a network; its part of the request."""
    _lift_quotas(api)
    image = _upload(api, "empty", "raw", bytes(1 << 20))
    flavor = api.ask("POST", "compute", "/flavors", {"flavor": {"name": "empty", "ram": 64, "vcpus": 1, "disk": 0}})
    return {"imageRef": image, "flavorRef": flavor["flavor"]["id"], "networks": [{"uuid": network(api, "empty")}]}


def _lift_quotas(api: Api) -> None:
    """Servers that are being deleted count too, and a load does not wait for them."""
    project = api.ask("GET", "identity", "/v3/auth/projects")["projects"][0]["id"]
    new = {"quota_set": {"instances": 500, "cores": 500, "ram": -1}}
    api.ask("PUT", "compute", f"/os-quota-sets/{project}", new)
    api.ask("PUT", "network", f"/v2.0/quotas/{project}", {"quota": {"port": 500}})


def network(api: Api, name: str, cidr: str = "10.0.0.0/24") -> str:
    """A network with a subnet; its id."""
    made: str = api.ask("POST", "network", "/v2.0/networks", {"network": {"name": name}})["network"]["id"]
    api.ask("POST", "network", "/v2.0/subnets", {"subnet": {"network_id": made, "ip_version": 4, "cidr": cidr}})
    return made


def _upload(api: Api, name: str, disk_format: str, data: bytes) -> str:
    new = {"name": name, "disk_format": disk_format, "container_format": "bare"}
    image: str = api.ask("POST", "image", "/v2/images", new)["id"]
    api.ask("PUT", "image", f"/v2/images/{image}/file", content=data,
            headers={"Content-Type": "application/octet-stream"})
    return image


class Street:
    """Guests that boot, on a network behind a router, each with a floating address that answers ping."""

    def __init__(self, api: Api) -> None:
        self.api = api
        image = _upload(api, "guest", "qcow2", guest_image().read_bytes())
        flavor = api.ask("POST", "compute", "/flavors", {
            "flavor": {"name": "guest", "ram": 128, "vcpus": 1, "disk": 1}
        })["flavor"]["id"]
        self.network = network(api, "street", "10.1.0.0/24")
        self.outside = api.ask("GET", "network", "/v2.0/networks?router:external=true")["networks"][0]["id"]
        self.router = api.ask("POST", "network", "/v2.0/routers", {
            "router": {"name": "street", "external_gateway_info": {"network_id": self.outside}}
        })["router"]["id"]
        subnet = api.ask("GET", "network", f"/v2.0/subnets?network_id={self.network}")["subnets"][0]["id"]
        api.ask("PUT", "network", f"/v2.0/routers/{self.router}/add_router_interface", {"subnet_id": subnet})
        group = api.ask("POST", "network", "/v2.0/security-groups", {"security_group": {"name": "ping"}})
        api.ask("POST", "network", "/v2.0/security-group-rules", {"security_group_rule": {
            "security_group_id": group["security_group"]["id"], "direction": "ingress", "protocol": "icmp",
        }})
        self.body = {"imageRef": image, "flavorRef": flavor, "networks": [{"uuid": self.network}],
                     "security_groups": [{"name": "ping"}]}

    def boot(self, name: str, host: str) -> tuple[str, str]:
        """A guest on this node; its id and its floating address."""
        made = self.api.ask("POST", "compute", "/servers", {
            "server": {**self.body, "name": name, "availability_zone": f"nova:{host}"},
        })["server"]["id"]
        wait_for(self.api, made)
        port = self.api.ask("GET", "network", f"/v2.0/ports?device_id={made}")["ports"][0]["id"]
        address = self.api.ask("POST", "network", "/v2.0/floatingips", {
            "floatingip": {"floating_network_id": self.outside, "port_id": port},
        })["floatingip"]["floating_ip_address"]
        return made, address


# -- servers


def show(api: Api, server: str) -> dict[str, Any]:
    """A server as its administrator sees it."""
    found: dict[str, Any] = api.ask("GET", "compute", f"/servers/{server}")["server"]
    return found


def host_of(api: Api, server: str) -> str:
    """The node of a server."""
    return str(show(api, server)["OS-EXT-SRV-ATTR:host"])


def wait_for(api: Api, server: str, *fine: str, seconds: float = 90.0) -> dict[str, Any]:
    """The server once nothing goes on with it; it must be in one of these states (ACTIVE, where none is named)."""
    until = time.monotonic() + seconds
    while (seen := show(api, server))["OS-EXT-STS:task_state"] is not None or seen["status"] == "BUILD":
        assert time.monotonic() < until, f"{server} is stuck: {seen['status']}, {seen['OS-EXT-STS:task_state']}"
        time.sleep(0.1)
    assert seen["status"] in (fine or ("ACTIVE",)), (seen["status"], seen.get("fault"))
    return seen


def create(api: Api, body: dict[str, Any], name: str, host: str = "") -> str:
    """Ask for a server, on this node if one is named; its id."""
    where = {"availability_zone": f"nova:{host}"} if host else {}
    made: str = api.ask("POST", "compute", "/servers", {"server": {**body, "name": name, **where}})["server"]["id"]
    return made


def processes(server: str) -> set[tuple[str, str]]:
    """Pid and start time of each process of a real guest, on whatever machine of the lab."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
                if "qemu-system" in words.split("\0")[0] and f"/instances/{server}/" in words:
                    stat = (entry / "stat").read_text()
                    state, *rest = stat[stat.rindex(")") + 2 :].split()
                    if state not in "ZX":
                        found.add((entry.name, rest[18]))
    return found


# -- waiting and judging


def deadlocks(lab: Lab) -> int:
    """How many transactions PostgreSQL has ended because two waited for each other."""
    database = lab.node("database").part("postgresql")
    return int(database.sql("SELECT sum(deadlocks) FROM pg_stat_database") or 0)  # type: ignore[attr-defined]


def until(fine: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until it is so; how many seconds it took."""
    began = time.monotonic()
    while not fine():
        assert time.monotonic() - began < seconds, f"not after {seconds:.0f} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


def service(api: Api, host: str) -> str:
    """Whether a node's compute service is `up` or `down`."""
    found = api.ask("GET", "compute", f"/os-services?host={host}&binary=nova-compute")["services"]
    return str(found[0]["state"])


def pings(lab: Lab, address: str) -> bool:
    """Whether an address outside answers the client within a second."""
    return lab.client.run("ping", "-c", "1", "-W", "1", address, check=False).returncode == 0


def agrees(lab: Lab, *without: str, wait: float = 90.0) -> None:
    """The doctor has judged all nodes but these, and found nothing. Raises LabError with what it found."""
    said = doctor(lab, wait, without)
    assert "All agrees" in said, said


class Switch:
    """A power strip of all machines, on the lab's client: told a name, it pulls that machine's plug and says `off`.

    As long as it is not `working` it says so, and nothing is switched off."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.working = lab, True
        self.asked: list[str] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[Switch]:
        """In a `with` block."""
        with self.lab.client.inside():
            sock = socket.create_server((f"{UNDERLAY}.2", SWITCH_PORT))
        thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            thread.join(10)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = sock.accept()
                with line, line.makefile("rw") as talk:
                    name = talk.readline().strip()
                    self.asked.append(name)
                    if self.working:
                        self.lab.node(name).power_off()
                    talk.write("off\n" if self.working else "broken\n")
                    talk.flush()
