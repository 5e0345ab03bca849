"""Deleted servers are forgotten after `purge_deleted_days`, with all that was written of them."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import purge
from pileus.compute.tables import action, console_token, event, migration, server, server_tag
from tests.api.compute.rows import add_server

DAY = 86400.0


def add_deleted(cloud: Cloud, days: float) -> str:
    """A server deleted so many days ago, with a row in every table that tells of it."""
    now = cloud.world.now()
    then = now - days * DAY
    server_id = add_server(cloud, "p", deleted=True, deleted_at=then, terminated=then, vm_state="deleted")

    def write(tx: Any) -> None:
        made = tx.execute(action.insert(), {
            "server_id": server_id, "action": "delete", "request_id": "req-1", "user_id": "u", "project_id": "p",
            "started": then, "updated": then,
        })
        tx.execute(event.insert(), {"action_id": made.inserted_primary_key[0], "event": "e", "started": then})
        tx.execute(server_tag.insert(), {"server_id": server_id, "name": "t"})
        tx.execute(console_token.insert(), {
            "digest": uuid.uuid4().hex, "server_id": server_id, "host": "h", "kind": "novnc", "created": then,
            "expires": then,
        })
        tx.execute(migration.insert(), {
            "uuid": str(uuid.uuid4()), "server_id": server_id, "kind": "resize", "status": "confirmed",
            "created": then, "updated": then,
        })

    cloud.db.run_sync(write)
    return server_id


def told_of(cloud: Cloud, server_id: str) -> int:
    """How many rows tell of a server."""
    def count(tx: Any) -> int:
        of_server = (action, console_token, migration, server_tag)
        found = sum(
            tx.scalar(sa.select(sa.func.count()).select_from(t).where(t.c.server_id == server_id)) for t in of_server
        )
        found += tx.scalar(sa.select(sa.func.count()).select_from(server).where(server.c.id == server_id))
        events = sa.select(sa.func.count()).select_from(event.join(action)).where(action.c.server_id == server_id)
        return int(found + tx.scalar(events))

    return cloud.db.run_sync(count)


def test_old_rows_go_with_all_that_tells_of_them_and_young_ones_stay(cloud: Cloud) -> None:
    old, young, living = add_deleted(cloud, 30.1), add_deleted(cloud, 29.9), add_server(cloud, "p", created=0.0)
    events = cloud.db.run_sync(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(event)))
    assert cloud.db.run_sync(lambda tx: purge.purge(tx, cloud)) == 1
    assert [told_of(cloud, i) for i in (old, young, living)] == [0, 6, 1]
    assert cloud.db.run_sync(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(event))) == events - 1
    assert cloud.db.run_sync(lambda tx: purge.purge(tx, cloud)) == 0


def test_it_can_be_turned_off(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    old = add_deleted(cloud, 3000)
    monkeypatch.setattr(cloud, "settings", msgspec.structs.replace(cloud.settings, purge_deleted_days=0))
    assert cloud.db.run_sync(lambda tx: purge.purge(tx, cloud)) == 0
    assert told_of(cloud, old) == 6


def test_it_runs_by_itself(cloud: Cloud) -> None:
    assert "compute.purge" in {job.name for job in cloud.periodic}
