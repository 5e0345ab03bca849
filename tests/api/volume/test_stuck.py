"""Nothing stays stuck: what fails, hangs, or loses its task ends in a state that says so and can be left."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.volume import backends, reconcile
from pileus.volume.tables import attachment, backend, snapshot, volume
from pileus.work import tasks
from pileus.work.tables import task
from tests.api.compute.guests import eventually
from tests.api.volume.bench import V3, Volumes


def _lose(cloud: Cloud, table: sa.Table, row_id: str, **values: Any) -> None:
    """The row says that something goes on, and no task knows of it; long ago."""

    def write(tx: Any) -> None:
        tx.execute(table.update().where(table.c.id == row_id).values(changed=1.0, **values))

    cloud.db.run_sync(write)


def _repair(cloud: Cloud) -> None:
    cloud.db.run_sync(lambda tx: reconcile.reconcile(tx, cloud))


def test_a_create_that_fails_says_so_and_can_be_deleted(volumes: Volumes) -> None:
    made = volumes.make("error", metadata={"fake:create_error": "the disk is on fire"})
    volumes.drop(made)


def test_a_create_that_hangs_ends_by_its_deadline(volumes: Volumes, cloud: Cloud) -> None:
    made = volumes.ask(metadata={"fake:hang": "create"}).json()["volume"]["id"]

    def ended() -> bool:
        cloud.db.run_sync(lambda tx: tasks.expire(tx, cloud))
        return bool(volumes.show(made)["status"] == "error")

    eventually(volumes.client, ended)
    volumes.drop(made)


def test_a_delete_that_fails_can_be_tried_again(volumes: Volumes) -> None:
    made = volumes.make(metadata={"fake:delete_error": "busy"})
    assert volumes.client.delete(f"{V3}/volumes/{made}").status_code == 202
    eventually(volumes.client, lambda: volumes.show(made)["status"] == "error_deleting")
    assert volumes.client.put(f"{V3}/volumes/{made}/metadata", {"metadata": {}}).status_code == 200
    volumes.drop(made)


def test_an_extend_that_fails_leaves_its_size(volumes: Volumes) -> None:
    made = volumes.make(metadata={"fake:extend_error": "full"})
    volumes.act(made, "os-extend", {"new_size": 2})
    eventually(volumes.client, lambda: volumes.show(made)["status"] == "error_extending")
    assert volumes.show(made)["size"] == 1
    volumes.drop(made)


@pytest.mark.parametrize(("lost", "becomes"), [
    ("creating", "error"), ("extending", "error_extending"), ("reverting", "error"), ("uploading", "available"),
])
def test_a_volume_whose_task_is_lost(volumes: Volumes, cloud: Cloud, lost: str, becomes: str) -> None:
    made = volumes.make()
    _lose(cloud, volume, made, status=lost)
    _repair(cloud)
    assert volumes.show(made)["status"] == becomes
    volumes.drop(made)


def test_a_delete_whose_task_is_lost_is_done_all_the_same(volumes: Volumes, cloud: Cloud) -> None:
    made = volumes.make()
    taken = volumes.snap(made)
    _lose(cloud, snapshot, taken, status="deleting")
    _repair(cloud)
    volumes.gone(taken, "snapshots")
    _lose(cloud, volume, made, status="deleting")
    _repair(cloud)
    volumes.gone(made)


def test_a_snapshot_whose_task_is_lost(volumes: Volumes, cloud: Cloud) -> None:
    taken = volumes.snap(volumes.make())
    _lose(cloud, snapshot, taken, status="creating")
    _repair(cloud)
    assert volumes.get(f"/snapshots/{taken}")["snapshot"]["status"] == "error"


def test_an_attachment_whose_task_is_lost_says_so(volumes: Volumes, cloud: Cloud) -> None:
    made = volumes.make()
    reply = volumes.post("/attachments", {"attachment": {"volume_uuid": made}}).json()["attachment"]
    _lose(cloud, attachment, reply["id"], waits_for="none", status="attaching")
    _repair(cloud)
    row = cloud.db.run_sync(lambda tx: tx.first(sa.select(attachment).where(attachment.c.id == reply["id"])))
    assert row is not None
    assert (row.waits_for, row.connected) == (None, False)
    assert "lost" in row.error


def test_an_export_that_cannot_be_ended_is_ended_later(volumes: Volumes, cloud: Cloud) -> None:
    made = volumes.make(metadata={"fake:unexport_error": "busy"})
    body = {"attachment": {"volume_uuid": made, "connector": {"host": "rack1"}}}
    attached = volumes.post("/attachments", body).json()["attachment"]["id"]
    volumes.client.delete(f"{V3}/attachments/{attached}", version="3.71")

    def export() -> Any:
        return cloud.db.run_sync(lambda tx: tx.scalar(sa.select(volume.c.export).where(volume.c.id == made)))

    def failed() -> Any:
        return cloud.db.run_sync(lambda tx: tx.scalar(sa.select(task.c.id).where(
            task.c.resource == f"volume:{made}", task.c.kind == "volume.unexport", task.c.state == "failed"
        )))

    eventually(volumes.client, failed)
    assert volumes.show(made)["status"] == "available"
    assert export()["volume_id"] == made
    volumes.client.put(f"{V3}/volumes/{made}/metadata", {"metadata": {}})
    _repair(cloud)
    eventually(volumes.client, lambda: export() is None)


def test_a_node_that_is_down(volumes: Volumes, operator: Volumes, cloud: Cloud) -> None:
    made = volumes.make()
    node = backends.node_of(operator.show(made)["os-vol-host-attr:host"])

    def down(name: str | None) -> None:
        seen = cloud.world.now() - 100 if name else cloud.world.now()
        cloud.db.run_sync(lambda tx: tx.execute(backend.update().where(backend.c.node == node).values(seen=seen)))

    down(node)
    volumes.refused(volumes.act(made, "os-extend", {"new_size": 2}), 409, node, "is down")
    volumes.refused(volumes.post("/snapshots", {"snapshot": {"volume_id": made}}), 409, node)
    volumes.refused(volumes.ask(source_volid=made), 409, node)
    connector = {"connector": {"host": "rack1"}}
    volumes.refused(volumes.post("/attachments", {"attachment": {"volume_uuid": made, **connector}}), 409, node)
    volumes.refused(volumes.act(made, "os-initialize_connection", connector), 409, node)
    others = [volumes.make() for _ in range(2)]
    assert node not in {backends.node_of(operator.show(one)["os-vol-host-attr:host"]) for one in others}
    # A delete waits for it: here it does not take long.
    assert volumes.client.delete(f"{V3}/volumes/{made}").status_code == 202
    down(None)
    volumes.gone(made)


def test_the_deadline_of_a_delete_is_far_away(volumes: Volumes, cloud: Cloud) -> None:
    made = volumes.make(metadata={"fake:delete_delay": "0.5"})
    volumes.client.delete(f"{V3}/volumes/{made}")
    deadline = cloud.db.run_sync(lambda tx: tx.scalar(
        sa.select(task.c.deadline).where(task.c.resource == f"volume:{made}", task.c.kind == "volume.delete")
    ))
    assert deadline > cloud.world.now() + 30 * 86400
    volumes.gone(made)
