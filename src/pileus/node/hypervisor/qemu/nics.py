"""The NICs of a guest: models, command-line form, and hot plug. A tap comes as a file descriptor."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from pileus.node.contract import NicSpec, NodeFault, TapSource
from pileus.node.hypervisor.qemu.monitor import Monitor, QmpError

MODELS = {
    "virtio": "virtio-net-pci",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
    "vmxnet3": "vmxnet3",
}


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A NIC with the port it is plugged into and, when QEMU is started, its open tap."""

    spec: NicSpec
    slot: int
    fd: int = -1


def device_id(port_id: str) -> str:
    """QEMU's id of a port's NIC."""
    return f"nic-{port_id}"


def netdev_id(port_id: str) -> str:
    """QEMU's id of the host's side of a port's NIC."""
    return f"tap-{port_id}"


def device(nic: NicSpec, slot: int) -> dict[str, Any]:
    """A NIC's device as device_add takes it. Raises NodeFault for an unknown hw_vif_model."""
    if nic.model not in MODELS:
        raise NodeFault(f"hw_vif_model '{nic.model}' is not possible here: use one of {', '.join(MODELS)}")
    found: dict[str, Any] = {
        "driver": MODELS[nic.model],
        "id": device_id(nic.port_id),
        "netdev": netdev_id(nic.port_id),
        "mac": nic.mac,
        "bus": f"port{slot}",
        # No network boot: a guest without a system shall say so at once.
        "romfile": "",
    }
    if nic.model == "virtio":
        found["host_mtu"] = nic.mtu
    return found


@contextlib.asynccontextmanager
async def open_taps(taps: TapSource, nics: Sequence[NicSpec]) -> AsyncIterator[list[int]]:
    """Descriptors of the taps of these NICs, closed here when QEMU has its own."""
    fds: list[int] = []
    try:
        for nic in nics:
            fds.append(await taps.open_tap(nic))
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


async def plug(monitor: Monitor, taps: TapSource, nic: NicSpec, slot: int) -> None:
    """Give a running guest a NIC. Raises NodeFault; then nothing of it is left in QEMU."""
    name = netdev_id(nic.port_id)
    options = device(nic, slot)
    async with open_taps(taps, [nic]) as fds:
        await monitor.send_fd(name, fds[0])
    await remove_netdev(monitor, nic.port_id)
    await monitor.execute("netdev_add", type="tap", id=name, fd=name)
    try:
        await monitor.execute("device_add", **options)
    except NodeFault:
        await remove_netdev(monitor, nic.port_id)
        raise


async def remove_netdev(monitor: Monitor, port_id: str) -> None:
    """Let QEMU close the tap of a NIC that is gone; missing is fine."""
    with contextlib.suppress(QmpError):
        await monitor.execute("netdev_del", id=netdev_id(port_id))
