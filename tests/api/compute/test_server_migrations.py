"""`/servers/{id}/migrations`: only live migrations under way are seen, and nothing can be done to others."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.compute.tables import migration
from tests.api.compute.people import Person, join
from tests.api.compute.rows import add_server
from tests.api.conftest import Client

V = "/compute/v2.1/servers"


@pytest.fixture(scope="module")
def member(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


def add_migration(cloud: Cloud, server_id: str, **more: Any) -> int:
    now = cloud.world.now()
    row = {
        "uuid": str(uuid.uuid4()), "server_id": server_id, "kind": "live-migration", "status": "running",
        "source": "a", "dest": "b", "user_id": "u", "project_id": "p", "created": now, "updated": now, **more,
    }

    def write(tx: Any) -> int:
        return int(tx.execute(migration.insert(), row).inserted_primary_key[0])

    return cloud.db.run_sync(write)


def test_only_live_migrations_under_way_are_seen(cloud: Cloud, admin: Client) -> None:
    server_id = add_server(cloud, "p")
    running = add_migration(cloud, server_id)
    over = add_migration(cloud, server_id, status="completed")
    cold = add_migration(cloud, server_id, kind="migration", status="migrating")
    listed = admin.get(f"{V}/{server_id}/migrations", version="2.80").json()["migrations"]
    assert [item["id"] for item in listed] == [running]
    assert admin.get(f"{V}/{server_id}/migrations/{running}", version="2.80").json()["migration"] == listed[0]
    for hidden in (over, cold, 10**15, "x"):
        assert admin.get(f"{V}/{server_id}/migrations/{hidden}", version="2.80").status_code == 404
    other = add_server(cloud, "p")
    assert admin.get(f"{V}/{other}/migrations/{running}", version="2.80").status_code == 404


@pytest.mark.parametrize(("version", "more"), [
    ("2.23", set()), ("2.59", {"uuid"}), ("2.80", {"uuid", "user_id", "project_id"}),
])
def test_the_fields_of_each_version(cloud: Cloud, admin: Client, version: str, more: set[str]) -> None:
    server_id = add_server(cloud, "p")
    number = add_migration(cloud, server_id)
    found = admin.get(f"{V}/{server_id}/migrations/{number}", version=version).json()["migration"]
    amounts = {f"{what}_{part}_bytes" for what in ("memory", "disk") for part in ("total", "processed", "remaining")}
    assert set(found) == amounts | more | {
        "id", "server_uuid", "status", "source_compute", "source_node", "dest_compute", "dest_node", "dest_host",
        "created_at", "updated_at",
    }


def test_the_resource_is_as_old_as_its_version(cloud: Cloud, admin: Client) -> None:
    path = f"{V}/{add_server(cloud, 'p')}/migrations"
    assert admin.get(path, version="2.22").status_code == 404
    assert admin.delete(f"{path}/1", version="2.23").status_code in (404, 405)


def test_what_does_not_migrate_can_be_neither_hurried_nor_stopped(cloud: Cloud, admin: Client) -> None:
    server_id = add_server(cloud, "p")
    path = f"{V}/{server_id}/migrations/1"
    assert admin.post(path + "/action", {"force_complete": None}, version="2.22").status_code == 409
    assert admin.delete(path, version="2.24").status_code == 409
    assert admin.post(path + "/action", {"force_complete": 1}, version="2.22").status_code == 400
    assert admin.post(path + "/action", {}, version="2.22").status_code == 400


def test_a_migration_that_is_not_there_or_over(cloud: Cloud, admin: Client) -> None:
    server_id = add_server(cloud, "p", task_state="migrating")
    over = add_migration(cloud, server_id, status="completed")
    for number, aborted in ((over, 400), (10**9, 404)):
        path = f"{V}/{server_id}/migrations/{number}"
        assert admin.post(path + "/action", {"force_complete": None}, version="2.22").status_code == 400
        assert admin.delete(path, version="2.24").status_code == aborted


def test_users_see_no_migrations(cloud: Cloud, member: Person) -> None:
    mine, theirs = add_server(cloud, member.project_id), add_server(cloud, "p")
    for server_id, status in ((mine, 403), (theirs, 404)):
        assert member.client.get(f"{V}/{server_id}/migrations", version="2.23").status_code == status
        assert member.client.get(f"{V}/{server_id}/migrations/1", version="2.23").status_code == status
        assert member.client.delete(f"{V}/{server_id}/migrations/1", version="2.24").status_code == status


def test_topology_names_no_numa_nodes(cloud: Cloud, admin: Client, member: Person) -> None:
    mine, theirs = add_server(cloud, member.project_id), add_server(cloud, "p")
    assert member.client.get(f"{V}/{mine}/topology", version="2.78").json() == {"nodes": [], "pagesize_kb": None}
    assert member.client.get(f"{V}/{theirs}/topology", version="2.78").status_code == 404
    assert admin.get(f"{V}/{mine}/topology", version="2.77").status_code == 404
