"""Volumes that move between nodes, become of another type, and are taken out of the API's hands and back."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from pileus.volume import room_rest
from pileus.volume.tables import volume
from pileus.volume.tables_rest import migration, unmanaged
from pileus.work.tables import task
from tests.api.compute.guests import eventually
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import make as make_type


def host(operator: Volumes, volume_id: str) -> str:
    return str(operator.show(volume_id)["os-vol-host-attr:host"])


def other(operator: Volumes, volume_id: str) -> str:
    """The host that does not keep it."""
    names = [one["name"] for one in operator.get("/scheduler-stats/get_pools")["pools"]]
    return next(str(name) for name in names if name != host(operator, volume_id))


def moved(operator: Volumes, volume_id: str, status: str = "success") -> dict[str, Any]:
    """The volume once its move has ended so."""

    def test() -> Any:
        found = operator.show(volume_id)
        return found if found["migration_status"] == status and found["status"] == "available" else None

    found: dict[str, Any] = eventually(operator.client, test)
    return found


def tasks_of(cloud: Cloud, volume_id: str) -> list[Any]:
    """Node, kind and state of all tasks about a volume, in order."""
    wanted = sa.select(task).where(task.c.resource.like(f"volume:{volume_id}%")).order_by(task.c.seq)
    return [(row.node, row.kind, row.state) for row in cloud.db.run_sync(lambda tx: tx.all(wanted))]


def test_a_volume_moves_to_another_node(operator: Volumes, volumes: Volumes, cloud: Cloud) -> None:
    one = volumes.make(size=2, name="n")
    here, there = host(operator, one), other(operator, one)
    assert operator.act(one, "os-migrate_volume", {"host": there, "force_host_copy": False}).status_code == 202
    found = moved(operator, one)
    assert (found["os-vol-host-attr:host"], found["size"], found["name"]) == (there, 2, "n")
    nodes = here.partition("@")[0], there.partition("@")[0]
    eventually(operator.client, lambda: tasks_of(cloud, one)[-1] == (nodes[0], "volume.delete", "done"))
    assert [(node, kind) for node, kind, _ in tasks_of(cloud, one)] == [
        (nodes[0], "volume.create"), (nodes[0], "volume.export"), (nodes[1], "volume.fetch"),
        (nodes[0], "volume.delete"),
    ]
    # And back, where it had been.
    assert operator.act(one, "os-migrate_volume", {"host": here.partition("#")[0]}).status_code == 202
    eventually(operator.client, lambda: host(operator, one) == here)
    moved(operator, one)
    volumes.act(one, "os-extend", {"new_size": 3})
    volumes.settled(one, "available")
    volumes.drop(one)


def test_a_move_that_fails_leaves_it_where_it_was(operator: Volumes, volumes: Volumes) -> None:
    for operation in ("fetch", "export"):
        one = volumes.make(metadata={f"fake:{operation}_error": "line is down"})
        here, there = host(operator, one), other(operator, one)
        assert operator.act(one, "os-migrate_volume", {"host": there}).status_code == 202
        found = moved(operator, one, "error")
        assert (found["os-vol-host-attr:host"], found["status"]) == (here, "available")
        [told] = [m for m in volumes.get("/messages")["messages"] if m["resource_uuid"] == one]
        assert told["user_message"] == "migrate volume: line is down"
        volumes.drop(one)


def test_a_move_whose_task_is_lost_is_undone(operator: Volumes, volumes: Volumes, cloud: Cloud) -> None:
    one = volumes.make(metadata={"fake:hang": "fetch"})
    here, there = host(operator, one), other(operator, one)
    assert operator.act(one, "os-migrate_volume", {"host": there}).status_code == 202
    eventually(operator.client, lambda: any(kind == "volume.fetch" for _, kind, _ in tasks_of(cloud, one)))
    assert volumes.show(one)["status"] == "maintenance"
    volumes.refused(volumes.client.delete(f"{V3}/volumes/{one}"), 400, "maintenance")

    def lose(tx: Any) -> None:
        tx.execute(task.delete().where(task.c.kind == "volume.fetch"))
        tx.execute(migration.update().values(created=0.0))

    cloud.db.run_sync(lose)
    cloud.db.run_sync(lambda tx: room_rest.reconcile(tx, cloud))
    assert moved(operator, one, "error")["os-vol-host-attr:host"] == here
    assert cloud.db.run_sync(lambda tx: tx.all(sa.select(migration))) == []


def test_what_cannot_move(operator: Volumes, volumes: Volumes) -> None:
    one = volumes.make()
    there = other(operator, one)

    def refused(body: Any, status: int, *words: str) -> None:
        operator.refused(operator.act(one, "os-migrate_volume", body), status, *words)

    volumes.refused(volumes.act(one, "os-migrate_volume", {"host": there}), 403)
    refused({"host": host(operator, one)}, 400, "already")
    refused({"host": "nowhere"}, 400, "no node")
    refused({"cluster": "c"}, 400, "clusters")
    refused({}, 400)
    taken = volumes.snap(one)
    refused({"host": there}, 400, "snapshots")
    assert volumes.client.delete(f"{V3}/snapshots/{taken}").status_code == 202
    volumes.gone(taken, "snapshots")
    assert volumes.act(one, "os-reserve").status_code == 202
    refused({"host": there}, 400, "available")


# -- retype


def test_a_volume_becomes_of_another_type_where_it_is(operator: Volumes, volumes: Volumes) -> None:
    kind = make_type(operator, extra_specs={"multiattach": "<is> True"})
    one = volumes.make()
    taken = volumes.snap(one)
    before = host(operator, one)
    assert volumes.act(one, "os-retype", {"new_type": kind["name"], "migration_policy": "never"}).status_code == 202
    found = operator.show(one)
    assert (found["volume_type"], found["multiattach"], found["status"]) == (kind["name"], True, "available")
    assert (found["migration_status"], found["os-vol-host-attr:host"]) == (None, before)
    volumes.refused(volumes.act(one, "os-retype", {"new_type": kind["id"]}), 400, "already")
    volumes.refused(volumes.act(one, "os-retype", {"new_type": "nothing"}), 404)
    volumes.refused(volumes.act(one, "os-retype", {"new_type": kind["id"], "migration_policy": "x"}), 400)
    assert volumes.client.delete(f"{V3}/snapshots/{taken}").status_code == 202


def test_a_volume_moves_to_where_its_new_type_is_kept(operator: Volumes, volumes: Volumes) -> None:
    one = volumes.make()
    there = other(operator, one)
    kind = make_type(operator, extra_specs={"volume_backend_name": there.partition("@")[0]})
    body = {"new_type": kind["id"], "migration_policy": "never"}
    volumes.refused(volumes.act(one, "os-retype", body), 400, "on-demand")
    assert volumes.act(one, "os-retype", {**body, "migration_policy": "on-demand"}).status_code == 202
    found = moved(operator, one)
    assert (found["volume_type"], found["os-vol-host-attr:host"]) == (kind["name"], there)
    moon = make_type(operator, extra_specs={"RESKEY:availability_zones": "moon"})
    volumes.refused(volumes.act(one, "os-retype", {**body, "new_type": moon["id"]}), 400, "on-demand")
    nowhere = make_type(operator, extra_specs={"volume_backend_name": "nowhere"})
    reply = volumes.act(one, "os-retype", {"new_type": nowhere["id"], "migration_policy": "on-demand"})
    volumes.refused(reply, 400, "cannot move")
    assert volumes.show(one)["status"] == "available"


def test_a_volume_in_use_does_not_change_whether_it_is_multiattach(operator: Volumes, volumes: Volumes) -> None:
    several, plain = make_type(operator, extra_specs={"multiattach": "<is> True"}), make_type(operator)
    one = volumes.make()
    assert volumes.act(one, "os-reserve").status_code == 202
    assert volumes.act(one, "os-attach", {"mountpoint": "/dev/vdb", "host_name": "x"}).status_code == 202
    volumes.refused(volumes.act(one, "os-retype", {"new_type": several["id"]}), 400, "multiattach")
    assert volumes.act(one, "os-retype", {"new_type": plain["id"]}).status_code == 202
    assert (volumes.show(one)["volume_type"], volumes.show(one)["status"]) == (plain["name"], "in-use")


# -- out of the API's hands, and back


def manage(operator: Volumes, **fields: Any) -> Any:
    return operator.post("/os-volume-manage", {"volume": fields})


def test_a_volume_is_taken_out_and_brought_back(operator: Volumes, cloud: Cloud) -> None:
    old = operator.make(size=3)
    assert operator.act(old, "os-set_bootable", {"bootable": True}).status_code == 200
    where = host(operator, old)
    assert operator.act(old, "os-unmanage").status_code == 202
    operator.refused(operator.client.get(f"{V3}/volumes/{old}"), 404)
    query = where.replace("#", "%23")
    listed = operator.get(f"/manageable_volumes?host={query}")["manageable-volumes"]
    assert {"reference": {"source-name": f"volume-{old}"}, "size": 3, "safe_to_manage": True} in listed
    details = operator.get(f"/os-volume-manage/detail?host={query}&limit=1")["manageable-volumes"]
    assert [(one["cinder_id"], one["reason_not_safe"]) for one in details] == [(None, None)]
    reply = manage(operator, host=where, ref={"source-name": f"volume-{old}"}, name="back", metadata={"a": "b"})
    assert reply.status_code == 202
    new = reply.json()["volume"]["id"]
    found = operator.settled(new, "available")
    assert new != old
    assert (found["size"], found["name"], found["bootable"], found["metadata"]) == (3, "back", "true", {"a": "b"})
    assert found["os-vol-host-attr:host"] == where
    operator.refused(manage(operator, host=where, ref={"source-name": f"volume-{old}"}), 400, "not managed")
    operator.snap(new)
    assert cloud.db.run_sync(lambda tx: tx.all(sa.select(unmanaged).where(unmanaged.c.id == old))) == []


def test_what_a_node_keeps_is_listed_by_pages(operator: Volumes) -> None:
    small = [operator.make(size=7) for _ in range(3)]
    where = host(operator, small[0]).replace("#", "%23")

    def listed(query: str) -> list[tuple[int, str]]:
        found = operator.get(f"/manageable_volumes/detail?host={where}&{query}")["manageable-volumes"]
        return [(one["size"], one["reference"]["source-name"]) for one in found]

    everything = sorted(listed(""))
    assert listed("sort=size:asc,reference:asc") == everything
    assert listed("sort_key=size,reference&sort_dir=desc,desc") == everything[::-1]
    assert listed("sort=reference") == sorted(everything, key=lambda one: one[1], reverse=True)
    marker = quote(json.dumps({"source-name": everything[0][1]}))
    assert listed(f"sort=size:asc,reference:asc&limit=1&marker={marker}") == everything[1:2]
    for query in ("sort=name", "sort=size:up", "marker=x", "marker=" + quote('{"source-name": "x"}')):
        operator.refused(operator.client.get(f"{V3}/manageable_volumes?host={where}&{query}", version="3.8"), 400)
    for one in small:
        operator.drop(one)


def test_what_cannot_be_brought_back_is_left_as_it_is(operator: Volumes) -> None:
    old = operator.make()
    where = host(operator, old)
    assert operator.act(old, "os-unmanage").status_code == 202
    ref = {"source-id": old}
    reply = manage(operator, host=where, ref=ref, metadata={"fake:adopt_error": "it is open"})
    new = reply.json()["volume"]["id"]
    eventually(operator.client, lambda: operator.show(new)["status"] == "error_managing")
    operator.drop(new)
    operator.settled(manage(operator, host=where, ref=ref).json()["volume"]["id"], "available")


@pytest.mark.parametrize(("fields", "words"), [
    ({"ref": {"source-name": "volume-x"}}, "'host'"), ({"host": "nowhere", "ref": {"source-name": "x"}}, "no node"),
    ({"host": "HOST", "ref": {}}, "source-name"), ({"host": "HOST", "ref": {"source-name": "x"}}, "not managed"),
    ({"host": "HOST", "ref": {"source-name": 7}}, "source-name"),
])
def test_bad_references_are_refused(operator: Volumes, fields: dict[str, Any], words: str) -> None:
    where = operator.get("/scheduler-stats/get_pools")["pools"][0]["name"]
    said = {name: where if value == "HOST" else value for name, value in fields.items()}
    operator.refused(manage(operator, **said), 400, words)


def test_only_administrators_take_volumes_out(volumes: Volumes, operator: Volumes) -> None:
    one = volumes.make()
    volumes.refused(volumes.act(one, "os-unmanage"), 403)
    volumes.refused(volumes.client.get(f"{V3}/os-volume-manage?host=x"), 403)
    volumes.snap(one)
    operator.refused(operator.act(one, "os-unmanage"), 400, "has snapshots")


def test_a_snapshot_is_taken_out_and_brought_back(operator: Volumes, cloud: Cloud, nodes: LocalNodes) -> None:
    one, another = operator.make(size=2), operator.make()
    taken = operator.snap(one)
    assert operator.post(f"/snapshots/{taken}/action", {"os-unmanage": None}).status_code == 202
    operator.refused(operator.client.get(f"{V3}/snapshots/{taken}"), 404)
    where = host(operator, one).replace("#", "%23")
    listed = operator.get(f"/os-snapshot-manage?host={where}")["manageable-snapshots"]
    assert {
        "reference": {"source-name": f"snapshot-{taken}"}, "source_reference": {"source-name": f"volume-{one}"},
        "size": 2, "safe_to_manage": True,
    } in listed
    body = {"volume_id": another, "ref": {"source-name": f"_snapshot-{taken}"}, "name": "s", "metadata": {"a": "b"}}
    operator.refused(operator.post("/os-snapshot-manage", {"snapshot": body}), 400, "no snapshot of volume")
    reply = operator.post("/manageable_snapshots", {"snapshot": {**body, "volume_id": one}})
    assert reply.status_code == 202
    found = operator.get(f"/snapshots/{reply.json()['snapshot']['id']}")["snapshot"]
    assert (found["status"], found["size"], found["name"], found["metadata"]) == ("available", 2, "s", {"a": "b"})
    operator.make(size=2, snapshot_id=found["id"])


def test_snapshots_that_went_with_their_volume_are_forgotten(operator: Volumes, cloud: Cloud) -> None:
    one = operator.make()
    taken = operator.snap(one)
    assert operator.post(f"/snapshots/{taken}/action", {"os-unmanage": None}).status_code == 202
    operator.drop(one)
    assert cloud.db.run_sync(lambda tx: room_rest.forget(tx, cloud)) >= 1
    left = sa.select(unmanaged.c.id).where(unmanaged.c.id == taken)
    assert cloud.db.run_sync(lambda tx: tx.all(left)) == []
    assert cloud.db.run_sync(lambda tx: tx.scalar(sa.select(volume.c.id).where(volume.c.id == one))) is None
