"""The judge on servers' volumes: each thing that is broken on purpose is found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import tables as compute
from pileus.db.engine import Tx
from pileus.doctor import block_devices, database
from pileus.doctor.findings import Finding
from pileus.volume import tables as volume
from pileus.work.tables import task
from tests.api.compute.disks import Disks, from_image
from tests.api.compute.guests import Servers, make_image, several_nodes
from tests.api.conftest import Client
from tests.api.doctor.test_judge import Rollback

Check = Callable[[Tx], Iterator[Finding]]


@pytest.fixture(scope="module")
def patient(cloud: Cloud, admin: Client, loop: asyncio.AbstractEventLoop) -> Iterator[Cloud]:
    """A cloud with a server that boots from a volume and has another, which has a snapshot."""
    with several_nodes(cloud, loop, 1):
        servers = Servers(admin, make_image(cloud))
        disks = Disks(admin, servers)
        made = disks.boot(from_image(servers.image_id))
        data = disks.make()
        disks.attached(made, data)
        servers.boot()
        yield cloud


def found(
    cloud: Cloud, hurt: Callable[[Tx], object] | None = None, check: Check = block_devices.agree
) -> list[Finding]:
    """What the judge says after `hurt`, which is then undone."""

    def work(tx: Tx) -> None:
        if hurt is not None:
            hurt(tx)
        raise Rollback(list(check(tx)))

    try:
        cloud.db.run_sync(work)
    except Rollback as done:
        answer: list[Finding] = done.args[0]
        return answer
    raise AssertionError("unreachable")


def test_a_healthy_cloud_has_no_findings(patient: Cloud) -> None:
    assert found(patient) == []
    assert found(patient, check=block_devices.unsettled) == []


_DISK, _VOLUME, _ATTACHMENT = compute.block_device, volume.volume, volume.attachment


def _update(table: sa.Table, *where: Any, **values: Any) -> Callable[[Tx], object]:
    return lambda tx: tx.execute(table.update().where(*where).values(**values))


def _delete(table: sa.Table, *where: Any) -> Callable[[Tx], object]:
    return lambda tx: tx.execute(table.delete().where(*where))


def _other_volume(tx: Tx) -> None:
    ids = tx.scalars(sa.select(_VOLUME.c.id).order_by(_VOLUME.c.seq))
    tx.execute(_ATTACHMENT.update().values(volume_id=ids[0]))


WRONG: dict[str, tuple[str, Callable[[Tx], object]]] = {
    "server gone": ("there is no such server", _update(compute.server, deleted=True)),
    "volumes gone": ("which is not there", lambda tx: [_delete(_ATTACHMENT)(tx), _delete(_VOLUME)(tx)]),
    "attachments gone": ("has attachment", _delete(_ATTACHMENT)),
    "attachments gone: the volumes": ("by its attachments it is available", _delete(_ATTACHMENT)),
    "attachments gone: the exports": ("nobody has it", lambda tx: [
        _delete(_ATTACHMENT)(tx), _update(_VOLUME, status="available")(tx)
    ]),
    "disks gone": ("does not have it", _delete(_DISK)),
    "disks gone: the root": ("none to boot from", _delete(_DISK)),
    "attachment of another server": ("which is of volume", _update(_ATTACHMENT, server_id="somebody")),
    "attachment of another volume": ("which is of volume", _other_volume),
    "attachment not attached": ("its attachment is reserved", _update(_ATTACHMENT, status="reserved")),
    "status wrong": ("by its attachments it is in-use", _update(_VOLUME, status="available")),
    "not given out": ("is not given out", _update(_VOLUME, export=None)),
    "given out to another node": ("is not given out", _update(_ATTACHMENT, host="elsewhere")),
    "not connected": ("is not given out", _update(_ATTACHMENT, connected=False)),
    "image not on a volume": ("boots from an image", _update(compute.server, image=None)),
    "snapshot of nothing": ("is of volume nobody", lambda tx: tx.execute(volume.snapshot.insert().values(
        id="s", volume_id="nobody", project_id="p", user_id="u", size=1, status="available", metadata={}, created=0.0,
        changed=0.0,
    ))),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(patient: Cloud, name: str) -> None:
    wrong, hurt = WRONG[name]
    said = found(patient, hurt)
    assert [one for one in said if one.check == "volumes" and wrong in one.wrong], said


@pytest.mark.parametrize("hurt", [
    _update(_VOLUME, status="extending"), _update(_DISK, state="detaching"), _update(_DISK, state="giving"),
])
def test_what_goes_on_is_unsettled(patient: Cloud, hurt: Callable[[Tx], object]) -> None:
    assert {one.check for one in found(patient, hurt, block_devices.unsettled)} == {"unsettled"}


def test_a_server_that_waits_for_its_volume_has_a_task(patient: Cloud) -> None:
    def waits(tx: Tx) -> None:
        server_id = tx.scalar(sa.select(_DISK.c.server_id).limit(1))
        volume_id = tx.scalar(sa.select(_DISK.c.volume_id).limit(1))
        waiting = compute.server.update().where(compute.server.c.id == server_id)
        tx.execute(waiting.values(task_state="block_device_mapping"))
        tx.execute(_DISK.update().values(state="giving"))
        tx.execute(task.insert().values(
            id="t", kind="volume.export", node="n", resource=f"volume:{volume_id}", state="pending", arguments="{}",
            attempt=0, created=0.0,
        ))

    assert found(patient, waits, database.states) == []
    def loses(tx: Tx) -> None:
        waits(tx)
        tx.execute(task.delete())

    lost = found(patient, loses, database.states)
    assert ["no task is left" in one.wrong for one in lost] == [True]
