"""What the host shows: guests, namespaces, taps, image files. Reads only, and needs no running agent."""

from __future__ import annotations

from pathlib import Path

from pileus.doctor.findings import Guest
from pileus.node.assemble import make_offline, node_names
from pileus.settings import Settings


def guests(settings: Settings) -> dict[str, Guest]:
    """Every guest of this host's nodes by server id: those with files, and those with a process."""
    return _fake(settings) if settings.hypervisor == "fake" else _qemu(settings)


def _fake(settings: Settings) -> dict[str, Guest]:
    from pileus.node.hypervisor.fake.journal import Journal

    found = {}
    for node in node_names(settings):
        journal = Journal(settings.state / "nodes" / node / "guests")
        journal.read()
        for guest in journal.guests.values():
            found[guest.id] = Guest(node, guest.power in ("running", "paused"), power=guest.power)
    return found


def _qemu(settings: Settings) -> dict[str, Guest]:
    from pileus.node.hypervisor.qemu.process import arguments

    node = node_names(settings)[0]
    folder = settings.state / "instances"
    counts = {path.name: 0 for path in folder.iterdir()} if folder.is_dir() else {}
    marker = f"{folder}/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        words = arguments(int(entry.name))
        if not words or "qemu-system" not in words[0]:
            continue
        text = " ".join(words)
        if marker in text:
            server = text.split(marker, 1)[1].split("/", 1)[0].split(",")[0]
            counts[server] = counts.get(server, 0) + 1
    return {server: Guest(node, count > 0, count) for server, count in counts.items()}


async def network(settings: Settings) -> dict[str, set[str]]:
    """Ids of the networks, routers and ports that the host carries."""
    if settings.hypervisor == "fake":
        return {}
    _, driver = make_offline(settings)
    return await driver.inventory()


def image_files(settings: Settings) -> dict[str, int]:
    """Size in bytes of each stored image file, by name."""
    folder = settings.state / "images"
    return {p.name: p.stat().st_size for p in folder.iterdir() if p.is_file()} if folder.is_dir() else {}
