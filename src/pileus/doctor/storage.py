"""Volumes and backups as their nodes show them. An agent looks too: nothing here knows a database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pileus.doctor.findings import Kept

Seen = tuple[dict[str, Kept], dict[str, frozenset[str]]]


def fake(state: Path, nodes: Sequence[str]) -> Seen:
    """What fake nodes keep. Reads only."""
    from pileus.node.storage.fake.shelf import Shelf

    volumes: dict[str, Kept] = {}
    backups = {}
    for node in nodes:
        shelf = Shelf(state / "nodes" / node)
        shelf.read()
        for volume in shelf.volumes.values():
            volumes[volume.id] = Kept(node, bool(volume.secret), int(bool(volume.secret)))
        backups[node] = frozenset(shelf.backups)
    return volumes, backups


def files(state: Path, node: str, commands: Sequence[tuple[int, list[str]]]) -> Seen:
    """What a node of real guests keeps, and the daemons that give it out. Reads only."""
    from pileus.node.storage.files import VolumeFiles, marker_of

    folder, start = state / "volumes", marker_of(state / "volumes") + "/"
    daemons: dict[str, int] = {}
    for _, words in commands:
        for word in words:
            if word.startswith(start):
                name = word.removeprefix(start).partition("/")[0]
                daemons[name] = daemons.get(name, 0) + 1
    there = {name for name in _names(folder) if (folder / name / "disk").exists()}
    volumes = {
        name: Kept(node, VolumeFiles(folder / name).read().port != 0, daemons.get(name, 0))
        for name in there | set(daemons)
    }
    backups = frozenset(name for name in _names(state / "volume-backups") if not name.endswith(".tmp"))
    return volumes, {node: backups}


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []
