"""The judge on what nodes keep: each volume is where it is placed, given out when it is to be, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.doctor import host, kept, storage
from pileus.doctor.findings import Finding, Host, Kept
from pileus.node.storage.files import Record, VolumeFiles
from pileus.volume import tables
from tests.api.doctor.test_volumes import found, patient

__all__ = ["patient"]
_VOLUME = tables.volume


def _judged(cloud: Cloud, change: Callable[[Host], Host], hurt: Callable[[Tx], object] | None = None) -> list[Finding]:
    seen = change(host.look(cloud.settings))
    return found(cloud, hurt, lambda tx: kept.agree(tx, [seen]))


def _volumes(change: Callable[[dict[str, Kept]], Any]) -> Callable[[Host], Host]:
    def changed(seen: Host) -> Host:
        volumes = dict(seen.volumes)
        change(volumes)
        return msgspec.structs.replace(seen, volumes=volumes)

    return changed


def test_a_healthy_node_keeps_what_it_shall(patient: Cloud) -> None:
    seen = host.look(patient.settings)
    assert len(seen.volumes) == 2
    assert all(one.given_out and one.daemons == 1 for one in seen.volumes.values())
    assert _judged(patient, lambda seen: seen) == []


@pytest.mark.parametrize(("wrong", "change"), [
    ("does not have it", _volumes(dict.clear)),
    ("there is no such volume there", _volumes(lambda volumes: volumes.update(stray=Kept("nowhere")))),
    ("0 daemons do it", _volumes(lambda volumes: volumes.update({k: Kept(v.node, True) for k, v in volumes.items()}))),
    ("no such backup", lambda seen: msgspec.structs.replace(seen, backups={seen.nodes[0]: frozenset({"stray"})})),
])
def test_what_a_node_shows_wrongly_is_found(patient: Cloud, wrong: str, change: Callable[[Host], Host]) -> None:
    said = _judged(patient, change)
    assert said
    assert all(wrong in one.wrong for one in said), said


def test_what_is_given_out_and_nobody_has_is_found(patient: Cloud) -> None:
    def withdrawn(tx: Tx) -> None:
        tx.execute(_VOLUME.update().values(export=None, export_key=""))

    said = _judged(patient, lambda seen: seen, withdrawn)
    assert len(said) == 2
    assert all("nobody has it" in one.wrong for one in said)


def test_volumes_on_nodes_that_were_not_looked_at_are_not_judged(patient: Cloud) -> None:
    def elsewhere(tx: Tx) -> None:
        first = tx.scalar(sa.select(_VOLUME.c.id).limit(1))
        tx.execute(_VOLUME.update().where(_VOLUME.c.id == first).values(node="far-away"))

    said = _judged(patient, lambda seen: seen, elsewhere)
    assert len(said) == 1
    assert "there is no such volume there" in said[0].wrong


def test_a_host_shows_files_and_daemons(tmp_path: Path) -> None:
    files = VolumeFiles(tmp_path / "volumes" / "v1")
    files.directory.mkdir(parents=True)
    files.disk.touch()
    files.write(Record(size=1, port=24000))
    (tmp_path / "volumes" / "v2").mkdir()
    (tmp_path / "volume-backups").mkdir()
    for name in ("b1", "b2.tmp"):
        (tmp_path / "volume-backups" / name).touch()
    stray = VolumeFiles(tmp_path / "volumes" / "v3")
    commands = [(1, ["qemu-storage-daemon", "--object", files.marker]), (2, ["x", stray.marker]), (3, ["sh"])]
    volumes, backups = storage.files(tmp_path, "n1", commands)
    assert volumes == {"v1": Kept("n1", True, 1), "v3": Kept("n1", False, 1)}
    assert backups == {"n1": frozenset({"b1"})}
