"""`pileus destroy`: every guest, namespace, bridge, process and file that the cloud made goes, and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys

from pileus.cli import running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings

_OURS = (
    "admin-password", "cache", "cluster", "clouds.yaml", "demo", "images", "instances", "lock", "made-user", "member",
    "net", "nodes", "openrc", "pileus.db", "pileus.db.moved", "pileus.db-shm", "pileus.db-wal", "pileus.log", "run",
    "scratch", "tmp", "volume-backups", "volumes",
)
"""What a cloud puts into its state folder."""


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)


def run(options: argparse.Namespace) -> int:
    """0 when nothing is left."""
    settings = running.as_started(read_settings(options))
    try:
        running.stop(settings)
        asyncio.run(remove_all(settings))
    except (TimeoutError, OSError) as error:
        print(f"pileus destroy: {error}", file=sys.stderr)
        return 1
    if settings.database:
        print("The database is not Pileus' own and stays as it is; drop it by hand.")
    print("Gone.")
    return 0


async def remove_all(settings: Settings) -> None:
    """Remove guests, network, volumes and files; the cloud's process must not run."""
    from pileus.node.assemble import clean_host, make_offline
    from pileus.node.storage import adoption

    if settings.hypervisor == "qemu" and settings.state.exists():
        hypervisor, network = make_offline(settings)
        await hypervisor.start(_ignore)
        for guest in await hypervisor.guests():
            await hypervisor.destroy(guest.id)
        await hypervisor.stop()
        await network.teardown()
        await adoption.remove_all(settings.state)
        clean_host(settings)
    for name in _OURS:
        path = settings.state / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if settings.state.is_dir() and not any(settings.state.iterdir()):
        settings.state.rmdir()


async def _ignore(server_id: str, power: str) -> None:
    pass
