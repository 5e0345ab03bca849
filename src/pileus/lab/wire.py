"""The networks that join the machines: the underlay between nodes, and the network outside the cloud.

Both are bridges in a machine that nothing else runs in. It is also the router between the outside network and the
client's own, so that what comes to a floating address comes from beyond a router, as it does in the world.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence

from pileus.lab.faults import LabError
from pileus.lab.layouts import UNDERLAY, Spec
from pileus.lab.machine import Machine

OUTSIDE = "172.24.4.0/24"
"""The external network, from which floating addresses are."""
GATEWAY = "172.24.4.1"
CLIENT = "client"
CLIENT_UNDERLAY = 2
_STREET = ipaddress.ip_network("198.51.100.0/30")
"""Where the client lives, as seen from the outside network."""
LEGS = {"underlay": "u-", "outside": "o-"}
"""The networks, and how the wire's end of a machine's cable to each is called."""


class Wire:
    """The bridges in the machine `wire`, and every cable from them to other machines."""

    def __init__(self, machine: Machine, mtu: int = 1500) -> None:
        self._machine, self._mtu = machine, mtu

    def make(self) -> None:
        """Make the bridges."""
        length = ipaddress.ip_network(OUTSIDE).prefixlen
        self._machine.devices(
            *(f"link add {bridge} mtu {self._mtu} type bridge forward_delay 0 stp_state 0" for bridge in LEGS),
            *(f"link set {bridge} up" for bridge in LEGS), f"addr add {GATEWAY}/{length} dev outside",
        )
        self._machine.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def join(self, machine: Machine, spec: Spec, cut: Sequence[str] = ()) -> None:
        """Plug a node in: `eth0` to the underlay, a network node's `br-ex` to the outside, but for where it is cut."""
        self._cable(machine, "underlay", "eth0", cut="underlay" in cut)
        lines = [f"addr add {spec.address}/24 dev eth0"]
        if spec.outside:
            self._cable(machine, "outside", "eth1", cut="outside" in cut)
            lines += ["link add br-ex type bridge forward_delay 0 stp_state 0", "link set eth1 master br-ex",
                      "link set br-ex up"]
        machine.devices(*lines)

    def join_client(self, machine: Machine) -> None:
        """Plug the client in: to the underlay, where the APIs are, and to its own network beyond the gateway."""
        gateway, client = _STREET.hosts()
        self._cable(machine, "underlay", "eth0", cut=False)
        self._machine.devices(
            f"link add o-{machine.name} type veth peer name eth1 netns {_pid(machine)}",
            f"addr add {gateway}/{_STREET.prefixlen} dev o-{machine.name}", f"link set o-{machine.name} up",
        )
        machine.devices(
            f"addr add {UNDERLAY}.{CLIENT_UNDERLAY}/24 dev eth0",
            f"addr add {client}/{_STREET.prefixlen} dev eth1", "link set eth1 up", f"route add default via {gateway}",
        )

    def cut(self, spec: Spec, legs: Sequence[str] = tuple(LEGS)) -> None:
        """Lose everything that a node sends and is sent. Its own interfaces stay up, as behind a broken switch."""
        self._machine.devices(*(f"link set {LEGS[leg]}{spec.name} nomaster" for leg in legs_of(spec, legs)))

    def mend(self, spec: Spec, legs: Sequence[str] = tuple(LEGS)) -> None:
        """Undo `cut`."""
        self._machine.devices(*(f"link set {LEGS[leg]}{spec.name} master {leg}" for leg in legs_of(spec, legs)))

    def _cable(self, machine: Machine, bridge: str, device: str, cut: bool) -> None:
        end = LEGS[bridge] + machine.name
        if self._machine.has_device(end):  # of the machine before it was switched off; the kernel takes its time
            try:
                self._machine.devices(f"link del {end}")
            except LabError:
                if self._machine.has_device(end):  # else the kernel was first
                    raise
        self._machine.devices(
            f"link add {end} mtu {self._mtu} type veth peer name {device} address {_mac(machine.name, device)} "
            f"mtu {self._mtu} netns {_pid(machine)}",
            f"link set {end} addrgenmode none up" + ("" if cut else f" master {bridge}"),
        )
        machine.devices(f"link set {device} up")


def legs_of(spec: Spec, legs: Sequence[str]) -> list[str]:
    """Those of the named networks that a node is on. Raises LabError for one that no lab has."""
    if unknown := set(legs) - set(LEGS):
        raise LabError(f"there is no network '{unknown.pop()}' to cut; there are {', '.join(LEGS)}")
    return [leg for leg in legs if leg == "underlay" or spec.outside]


def _mac(machine: str, device: str) -> str:
    """A node has the same when it is switched on again, as its neighbours expect."""
    return (b"\x02" + hashlib.sha256(f"{machine} {device}".encode()).digest()[:5]).hex(":")


def _pid(machine: Machine) -> int:
    if machine.first is None:
        raise LabError(f"machine {machine.name} is off")
    return machine.first.pid
