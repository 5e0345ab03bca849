"""Subports of trunks: 802.1Q devices on the tap of the trunk's parent, each in the namespace of its own network.

Such a device has the name that the port's tap would have, so the network's rules hold for it as for any tap. The kernel
hands it the frames of its tag before the parent's bridge sees them, and removes it when the tap goes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from pileus.node.contract import Branch, NodeFault, PortState
from pileus.node.net import names, namespaces

Root = tuple[str, int]  # the tap that a device is on, and its VLAN id


def root_of(branch: Branch) -> Root:
    """Where the device of a subport shall be."""
    return names.tap(branch.parent_id), branch.vlan


def observe(namespace: str) -> dict[str, Root]:
    """The devices of subports in a namespace, read from the host. None where the kernel has no 802.1Q."""
    with namespaces.inside(namespace):
        try:
            return parse(Path("/proc/thread-self/net/vlan/config").read_text())
        except FileNotFoundError:
            return {}


def parse(text: str) -> dict[str, Root]:
    """The devices of subports in the kernel's table of VLAN devices; uplinks to physical networks are none."""
    found: dict[str, Root] = {}
    for line in text.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) == 3 and words[0].startswith("tap") and words[1].isdigit():
            found[words[0]] = words[2], int(words[1])
    return found


def make(prefix: str, branch: Branch, namespace: str, name: str) -> bool:
    """Make the device of a subport, down and in no bridge; whether the parent's tap was there to make it on.

    Raises NodeFault if this kernel cannot do VLANs."""
    home, tap = names.network_namespace(prefix, branch.network_id), names.tap(branch.parent_id)
    try:
        namespaces.ip_batch(
            home, [f"link add link {tap} name {name} netns {namespace} type vlan id {branch.vlan}"]
        )
    except namespaces.CommandFailed as failure:
        if "not supported" in str(failure) or "Unknown device type" in str(failure):
            raise NodeFault(
                f"VLAN {branch.vlan} of a trunk: this kernel has no 802.1Q; load the module 8021q on this node "
                "(modprobe 8021q) or run a kernel that has it"
            ) from None
        if not _is_there(home, tap):
            return False  # its guest ended just now
        raise
    return True


def wire(
    prefix: str, namespace: str, ports: Iterable[PortState], present: Collection[str], ready: Collection[str],
    join: Callable[[PortState], list[str]],
) -> tuple[set[str], dict[str, str]]:
    """Join the subports of a network whose parents' taps are `ready`; the enabled ones that are joined, and why others
    are not. `present` are the devices that there are, `join` gives the commands that join one."""
    up: set[str] = set()
    errors: dict[str, str] = {}
    for port in ports:
        if port.branch is None or port.id not in ready:
            continue
        name = names.tap(port.id)
        try:
            if name not in present and not make(prefix, port.branch, namespace, name):
                continue
            namespaces.ip_batch(namespace, join(port))
        except (NodeFault, OSError) as fault:
            errors[port.id] = str(fault)
            continue
        if port.admin_state_up:
            up.add(port.id)
    return up, errors


def remove(namespace: str, devices: Iterable[str]) -> None:
    """Delete devices of subports. One that is gone already, with the parent's tap, is fine."""
    for name in devices:
        try:
            namespaces.ip_batch(namespace, [f"link del {name}"])
        except namespaces.CommandFailed:
            if _is_there(namespace, name):
                raise


def _is_there(namespace: str, device: str) -> bool:
    if not namespaces.exists(namespace):
        return False
    with namespaces.inside(namespace):
        return any(name == device for _, name in socket.if_nameindex())
