"""Transfers: a volume changes its project by a key that is told once."""

from __future__ import annotations

from typing import Any

import pytest

from pileus.cloud import Cloud
from tests.api.compute.people import Person, join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_quotas import allow
from tests.api.volume.test_types import make as make_type

OLD, NEW = "/os-volume-transfer", "/volume-transfers"


@pytest.fixture
def another(cloud: Cloud, anonymous: Client) -> Person:
    return join(cloud, anonymous)


def offer(volumes: Volumes, volume_id: str, path: str = NEW, version: str = "3.71", **fields: Any) -> dict[str, Any]:
    """An offer, with its key."""
    reply = volumes.post(path, {"transfer": {"volume_id": volume_id, **fields}}, version)
    assert reply.status_code == 202, reply.text
    found: dict[str, Any] = reply.json()["transfer"]
    return found


def accept(volumes: Volumes, made: dict[str, Any], path: str = NEW, key: str | None = None) -> Any:
    return volumes.post(f"{path}/{made['id']}/accept", {"accept": {"auth_key": key or made["auth_key"]}})


def test_a_volume_changes_its_project(volumes: Volumes, another: Person) -> None:
    other = Volumes(another.client)
    one = volumes.make()
    made = offer(volumes, one, name="gift")
    assert (made["accepted"], made["destination_project_id"]) == (False, None)
    assert made["source_project_id"] == volumes.show(one)["os-vol-tenant-attr:tenant_id"]
    assert volumes.show(one)["status"] == "awaiting-transfer"
    volumes.refused(volumes.client.delete(f"{V3}/volumes/{one}"), 400, "awaiting-transfer")
    shown = volumes.get(f"{NEW}/{made['id']}")["transfer"]
    assert "auth_key" not in shown
    assert shown["volume_id"] == one
    assert [t["id"] for t in volumes.get(NEW)["transfers"]] == [made["id"]]
    assert [t["created_at"] for t in volumes.get(NEW + "/detail")["transfers"]] == [made["created_at"]]
    other.refused(other.client.get(f"{V3}{NEW}/{made['id']}", version="3.71"), 404)
    other.refused(accept(other, made, key="guess"), 400, "invalid auth key")
    taken = accept(other, made)
    assert taken.status_code == 202
    assert taken.json()["transfer"].keys() == {"id", "volume_id", "name", "links"}
    found = other.show(one)
    assert (found["status"], found["os-vol-tenant-attr:tenant_id"]) == ("available", another.project_id)
    assert found["user_id"] == another.user_id
    volumes.refused(volumes.client.get(f"{V3}/volumes/{one}"), 404)
    other.refused(accept(other, made), 404)
    other.drop(one)


def test_an_offer_is_withdrawn(volumes: Volumes) -> None:
    one = volumes.make()
    made = offer(volumes, one, OLD, "3.0")
    assert made.keys() == {"id", "volume_id", "name", "auth_key", "created_at", "links"}
    volumes.refused(volumes.post(OLD, {"transfer": {"volume_id": one}}), 400, "awaiting-transfer")
    assert volumes.client.delete(f"{V3}{OLD}/{made['id']}").status_code == 202
    assert volumes.show(one)["status"] == "available"
    volumes.drop(one)


def test_snapshots_go_with_their_volume_unless_it_is_said_not_to(volumes: Volumes, another: Person) -> None:
    other = Volumes(another.client)
    for fields, path, version, moved in (
        ({}, NEW, "3.55", True), ({"no_snapshots": True}, NEW, "3.55", False), ({}, OLD, "3.0", False)
    ):
        one = volumes.make()
        taken = volumes.snap(one)
        assert accept(other, offer(volumes, one, path, version, **fields)).status_code == 202
        owner, stranger = (other, volumes) if moved else (volumes, other)
        assert owner.get(f"/snapshots/{taken}")["snapshot"]["status"] == "available"
        stranger.refused(stranger.client.get(f"{V3}/snapshots/{taken}"), 404)
        assert owner.client.delete(f"{V3}/snapshots/{taken}").status_code == 202
        owner.gone(taken, "snapshots")
        other.drop(one)


def test_who_takes_a_volume_needs_room_and_its_type(operator: Volumes, volumes: Volumes, another: Person,
                                                    person: Person) -> None:
    other = Volumes(another.client)
    kind = make_type(operator, **{"os-volume-type-access:is_public": False})
    path = f"/types/{kind['id']}/action"
    assert operator.post(path, {"addProjectAccess": {"project": person.project_id}}).status_code == 202
    made = offer(volumes, volumes.make(volume_type=kind["id"]))
    other.refused(accept(other, made), 400, "private")
    assert operator.post(path, {"addProjectAccess": {"project": another.project_id}}).status_code == 202
    allow(operator, another, volumes=0)
    other.refused(accept(other, made), 413, "volumes")
    assert volumes.show(made["volume_id"])["status"] == "awaiting-transfer"
    allow(operator, another, volumes=1)
    assert accept(other, made).status_code == 202


def test_what_cannot_be_offered(volumes: Volumes, another: Person) -> None:
    other = Volumes(another.client)
    one = volumes.make()
    other.refused(other.post(NEW, {"transfer": {"volume_id": one}}), 404)
    volumes.refused(volumes.post(NEW, {"transfer": {"volume_id": "x"}}), 400)
    volumes.refused(volumes.post(OLD, {"transfer": {"volume_id": one, "no_snapshots": True}}, "3.54"), 400)
    volumes.refused(volumes.post(NEW, {"transfer": {"volume_id": one}}, "3.54"), 404, "not in this version")
    assert volumes.act(one, "os-reserve").status_code == 202
    volumes.refused(volumes.post(NEW, {"transfer": {"volume_id": one}}), 400, "must be available")
