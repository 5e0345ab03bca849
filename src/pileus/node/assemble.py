"""Puts a node together from the settings: which drivers, where their state is, how they reach each other."""

from __future__ import annotations

import contextlib
import grp
import ipaddress
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pileus.cluster.invitation import ROLES
from pileus.node.agent import Agent
from pileus.node.contract import ImageRef, MetadataServer, NetworkDriver, NodeFault, NodeLink
from pileus.node.hypervisor.protocol import Hypervisor
from pileus.node.net.settings import HostBridge, NetSettings
from pileus.node.storage.protocol import Storage
from pileus.settings import Settings

if TYPE_CHECKING:
    from pileus.node.images.cache import ImageCache

NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "ip": "iproute2",
    "genisoimage": "genisoimage",
}
"""Programs that real guests need, and the Debian package of each."""


class Missing(Exception):
    """This host cannot run real guests; says what is missing and what to do."""


_FOR = {
    "qemu-system-x86_64": {"compute"}, "genisoimage": {"compute"}, "qemu-img": {"compute", "storage"},
    "qemu-storage-daemon": {"compute", "storage"},
}
"""Which roles need a program; all do, if it is not here."""


def check_host(settings: Settings, roles: Collection[str] = ROLES) -> None:
    """Raises Missing unless this host can do what the settings and its roles ask for."""
    if settings.hypervisor != "qemu":
        return
    reasons = []
    if os.geteuid() != 0:
        reasons.append("it must run as root, to make namespaces, bridges and taps")
    needed = {name: package for name, package in NEEDED.items() if _FOR.get(name, set(ROLES)) & set(roles)}
    packages = [package for program, package in needed.items() if _which(program) is None]
    if packages:
        reasons.append(f"packages are missing: apt-get install --no-install-recommends {' '.join(packages)}")
    if not os.path.exists("/dev/net/tun"):
        reasons.append("/dev/net/tun is missing: modprobe tun")
    if reasons:
        raise Missing(
            "This host cannot boot real guests yet:\n  - " + "\n  - ".join(reasons)
            + "\nFor a cloud that boots none, but has every API, say so: --hypervisor fake"
        )


def prepare_host(settings: Settings) -> None:
    """Make the accounts of guests and of volumes, if they are missing, and note in the state folder that it was us.

    Raises Missing."""
    if settings.hypervisor != "qemu":
        return
    _make_account(settings, settings.qemu_user, "kvm")  # may open /dev/kvm
    _make_account(settings, settings.storage_user)


def _make_account(settings: Settings, name: str, *groups: str) -> None:
    try:
        pwd.getpwnam(name)
        return
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    for group in groups:
        with contextlib.suppress(KeyError):
            grp.getgrnam(group)
            command += ["--groups", group]
    done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"The account {name} could not be made: {done.stderr.strip()}")
    with open(settings.state / "made-user", "a") as note:
        note.write(name + "\n")


def clean_host(settings: Settings) -> None:
    """Undo `prepare_host`: remove the accounts that this cloud made, as long as nothing runs as them any more."""
    note = settings.state / "made-user"
    for name in note.read_text().split() if note.exists() else ():
        subprocess.run(["userdel", name], capture_output=True, check=False)


def _which(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def node_names(settings: Settings) -> list[str]:
    """The names of the nodes that this process is."""
    base = settings.node_name or socket.gethostname().split(".")[0]
    if settings.hypervisor == "fake" and settings.fake_nodes > 1:
        return [f"{base}-{number}" for number in range(1, settings.fake_nodes + 1)]
    return [base]


def make_agents(
    settings: Settings, link: Callable[[str], NodeLink], local_image: Callable[[ImageRef], Path | None],
    roles: Collection[str] = ROLES,
) -> dict[str, Agent]:
    """This process's nodes by name. `local_image` finds an image's file on this machine, if it is here."""
    names = node_names(settings)
    if settings.hypervisor == "fake":
        return {name: _fake(settings, link(name), roles) for name in names}
    return {names[0]: _qemu(settings, link(names[0]), local_image, roles)}


def _fake(settings: Settings, link: NodeLink, roles: Collection[str]) -> Agent:
    from pileus.node.hypervisor.fake import Fake, FakeSettings
    from pileus.node.net.fake import FakeNetworkDriver
    from pileus.node.storage.fake.driver import FakeSettings as StorageSettings
    from pileus.node.storage.fake.driver import FakeStorage

    state = settings.state / "nodes" / link.node
    hypervisor: Hypervisor = _no_guests(link.node)
    if "compute" in roles:
        hypervisor = Fake(FakeSettings(state_dir=state, hostname=link.node))
    storage = FakeStorage(StorageSettings(state_dir=state, hostname=link.node)) if "storage" in roles else None
    return Agent(link, hypervisor, FakeNetworkDriver(), state / "scratch", storage)


def _no_guests(name: str) -> Hypervisor:
    from pileus.node.hypervisor.none import NoGuests

    return cast(Hypervisor, NoGuests(name))


def _qemu(
    settings: Settings, link: NodeLink, local_image: Callable[[ImageRef], Path | None], roles: Collection[str]
) -> Agent:
    from pileus.node.guestmetadata import GuestMetadata

    agent: Agent | None = None

    async def refresh() -> None:
        if agent is not None:
            await agent.network_now()

    images = _images(settings, link.image_bytes, local_image)
    hypervisor, network = _drivers(settings, images, GuestMetadata(link), refresh)
    if "compute" not in roles:
        hypervisor = _no_guests(link.node)
    storage = _storage(settings, images) if "storage" in roles else None
    agent = Agent(link, hypervisor, network, settings.state / "scratch", storage)
    agent.chores.append(lambda: images.clean(settings.image_cache_hours * 3600, hypervisor.images_in_use()))
    return agent


def make_offline(settings: Settings) -> tuple[Hypervisor, NetworkDriver]:
    """The drivers of a node of real guests without an agent, to look at what is there or to remove it."""

    async def no_bytes(image_id: str) -> AsyncIterator[bytes]:
        raise NodeFault(f"image {image_id}: there is no controller to fetch it from")
        yield b""

    return _drivers(settings, _images(settings, no_bytes, lambda image: None), lambda place: None, None)


def _images(
    settings: Settings, fetch: Callable[[str], AsyncIterator[bytes]], local_image: Callable[[ImageRef], Path | None]
) -> ImageCache:
    from pileus.node.images.cache import ImageCache

    return ImageCache(settings.state / "cache", fetch, local=local_image)


def _drivers(
    settings: Settings, images: ImageCache, metadata: MetadataServer, refresh: Callable[[], Awaitable[None]] | None
) -> tuple[Hypervisor, NetworkDriver]:
    from pileus.node.hypervisor.qemu import Qemu
    from pileus.node.hypervisor.qemu.settings import QemuSettings
    from pileus.node.net.bridge import BridgeDriver

    network = BridgeDriver(net_settings(settings), metadata, refresh)
    options = QemuSettings(
        state_dir=settings.state, user=settings.qemu_user, accel=settings.accelerator, address=settings.address,
        move_ports=settings.move_ports, cpu_model=settings.cpu_model,
        disks_dir=Path(settings.disks_dir) if settings.disks_dir else None,
    )
    return Qemu(options, images, network), network


def _storage(settings: Settings, images: ImageCache) -> Storage:
    from pileus.node.storage.driver import FileStorage
    from pileus.node.storage.settings import FileSettings

    options = FileSettings(
        state_dir=settings.state, user=settings.storage_user, address=settings.address, ports=settings.volume_ports,
    )
    return FileStorage(options, images)


def net_settings(settings: Settings) -> NetSettings:
    """The network driver's settings. Only one node is the gateway of the external network: the one that is all there
    is, or the one whose settings say so; to the others physical networks are bridges that their owner has made."""
    bridges: tuple[HostBridge, ...] = ()
    bridge = settings.physical_networks.get("public")
    mine = settings.host_gateway == "yes" or (settings.host_gateway == "auto" and not settings.address)
    if mine and bridge and settings.public_network and settings.public_gateway:
        length = ipaddress.ip_network(settings.public_network).prefixlen
        address = f"{settings.public_gateway}/{length}"
        bridges = (HostBridge(name=bridge, addresses=(address,), masquerade=settings.masquerade),)
    return NetSettings(
        state_dir=settings.state / "net", prefix=settings.namespace_prefix, host_bridges=bridges,
        physical_networks=settings.physical_networks, dns_forwarders=settings.dns_servers,
        vtep=settings.address or None,
    )
