"""Volumes are given to servers and taken from them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.cloud import Cloud
from tests.api.compute.disks import Disks
from tests.api.compute.guests import Servers, eventually, make_image, several_nodes
from tests.api.conftest import Client


@pytest.fixture(scope="module")
def guests(cloud: Cloud, admin: Client, loop: asyncio.AbstractEventLoop) -> Iterator[Servers]:
    image = make_image(cloud)
    with several_nodes(cloud, loop, 1):
        yield Servers(admin, image)


@pytest.fixture(scope="module")
def disks(admin: Client, guests: Servers) -> Disks:
    return Disks(admin, guests)


@pytest.fixture(autouse=True)
def clean(disks: Disks) -> Iterator[None]:
    yield
    disks.clean()


@pytest.fixture(scope="module")
def server_id(guests: Servers) -> str:
    return guests.boot()


def _history(client: Client, server_id: str) -> list[tuple[str, str | None]]:
    found = client.get(f"/compute/v2.1/servers/{server_id}/os-instance-actions", version="2.96").json()
    return [(one["action"], one["message"]) for one in found["instanceActions"]]


def test_a_volume_is_attached_and_detached(disks: Disks, guests: Servers, server_id: str, admin: Client) -> None:
    volume = disks.make()
    made = disks.attached(server_id, volume)
    assert made == {
        "id": volume, "volumeId": volume, "serverId": server_id, "device": "/dev/vdb", "tag": None,
        "delete_on_termination": False,
    }
    (attachment,) = disks.show(volume)["attachments"]
    assert (attachment["server_id"], attachment["device"]) == (server_id, "/dev/vdb")
    shown = guests.show(server_id)
    assert shown["os-extended-volumes:volumes_attached"] == [{"id": volume, "delete_on_termination": False}]
    assert guests.show(server_id, "2.2")["os-extended-volumes:volumes_attached"] == [{"id": volume}]
    assert disks.detach(server_id, volume).status_code == 202
    disks.settled(volume, "available")
    assert disks.listed(server_id) == []
    assert _history(admin, server_id)[:2] == [("detach_volume", None), ("attach_volume", None)]


def test_what_an_attachment_looks_like_depends_on_the_version(disks: Disks, server_id: str, admin: Client) -> None:
    volume = disks.make()
    disks.attached(server_id, volume, tag="data", delete_on_termination=True)
    old = {"id": volume, "volumeId": volume, "serverId": server_id, "device": "/dev/vdb"}
    assert disks.listed(server_id, "2.1") == [old]
    assert disks.listed(server_id, "2.70") == [{**old, "tag": "data"}]
    assert disks.listed(server_id, "2.79") == [{**old, "tag": "data", "delete_on_termination": True}]
    (new,) = disks.listed(server_id)
    (attachment,) = disks.show(volume)["attachments"]
    assert new.pop("attachment_id") == attachment["attachment_id"]
    assert uuid.UUID(new.pop("bdm_uuid"))
    assert new == {
        "volumeId": volume, "serverId": server_id, "device": "/dev/vdb", "tag": "data", "delete_on_termination": True,
    }
    path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{volume}"
    assert admin.get(path).json()["volumeAttachment"] == old
    change = {"volumeAttachment": {"volumeId": volume, "delete_on_termination": False}}
    assert admin.put(path, change, version="2.85").status_code == 202
    assert disks.listed(server_id)[0]["delete_on_termination"] is False
    assert admin.put(path, {"volumeAttachment": {"volumeId": volume, "tag": "x"}}, version="2.85").status_code == 400
    assert disks.detach(server_id, volume).status_code == 202
    disks.settled(volume, "available")


def test_attachments_come_in_pages(disks: Disks, server_id: str, admin: Client) -> None:
    volumes = [disks.make() for _ in range(3)]
    for volume in volumes:
        disks.attached(server_id, volume)
    path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
    page = admin.get(path + "?limit=1&offset=1").json()["volumeAttachments"]
    assert [(one["volumeId"], one["device"]) for one in page] == [(volumes[1], "/dev/vdc")]
    assert admin.get(path + "?limit=-1").status_code == 400
    for volume in volumes:
        disks.detach(server_id, volume)
        disks.settled(volume, "available")


def test_a_volume_is_attached_once(disks: Disks, guests: Servers, server_id: str) -> None:
    volume = disks.make()
    disks.attached(server_id, volume)
    assert "already attached" in disks.attach(server_id, volume).text
    other = guests.boot()
    assert disks.attach(other, volume).status_code == 400
    assert disks.detach(other, volume).status_code == 404
    assert disks.listed(other) == []
    disks.detach(server_id, volume)
    disks.settled(volume, "available")


def test_only_a_volume_service_swaps_volumes(disks: Disks, server_id: str, admin: Client) -> None:
    volume, other = disks.make(), disks.make()
    disks.attached(server_id, volume)
    nobody = str(uuid.uuid4())

    def swap(old: str, new: str) -> int:
        path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{old}"
        return admin.put(path, {"volumeAttachment": {"volumeId": new}}).status_code

    assert swap(nobody, other) == 404
    assert swap(volume, nobody) == 400
    assert swap(volume, other) == 409
    assert [one["volumeId"] for one in disks.listed(server_id)] == [volume]
    disks.detach(server_id, volume)
    disks.settled(volume, "available")


@pytest.mark.parametrize("fields", [
    {"volumeId": "nonsense"}, {"device": "two words"}, {"device": ""}, {"tag": "a,b"}, {"unknown": 1},
    {"delete_on_termination": "perhaps"},
])
def test_bad_input_is_refused(disks: Disks, server_id: str, fields: dict[str, Any]) -> None:
    body = {"volume_id": str(uuid.uuid4()), **fields}
    volume = str(body.pop("volumeId", body.pop("volume_id", "")))
    body.pop("volume_id", None)
    assert disks.attach(server_id, volume, **body).status_code == 400


def test_what_is_not_there_is_not_found(disks: Disks, server_id: str) -> None:
    nobody = str(uuid.uuid4())
    assert disks.attach(server_id, nobody).status_code == 404
    assert disks.attach(nobody, disks.make()).status_code == 404
    assert disks.detach(server_id, nobody).status_code == 404


def test_a_server_that_is_rescued_keeps_its_volumes(disks: Disks, guests: Servers) -> None:
    made, volume, other = guests.boot(), disks.make(), disks.make()
    disks.attached(made, volume)
    assert guests.act(made, "rescue").status_code == 200
    guests.settled(made, "RESCUE")
    assert disks.attach(made, other).status_code == 409
    assert disks.detach(made, volume).status_code == 409
    guests.act(made, "unrescue")
    guests.settled(made, "ACTIVE")
    assert disks.show(volume)["status"] == "in-use"


def test_a_server_that_is_off_takes_volumes_too(disks: Disks, guests: Servers) -> None:
    made, volume = guests.boot(), disks.make()
    guests.act(made, "os-stop")
    guests.settled(made, "SHUTOFF")
    disks.attached(made, volume)
    assert disks.detach(made, volume).status_code == 202
    disks.settled(volume, "available")


def test_a_shelved_server_gets_its_volumes_when_it_comes_back(disks: Disks, guests: Servers) -> None:
    made, volume, other = guests.boot(), disks.make(), disks.make()
    disks.attached(made, volume)
    guests.act(made, "shelve")
    guests.settled(made, "SHELVED_OFFLOADED")
    assert disks.attach(made, other, tag="no").status_code == 400
    assert disks.attached(made, other)["device"] == "/dev/vdc"
    assert disks.detach(made, volume).status_code == 202
    disks.settled(volume, "available")
    guests.act(made, "unshelve")
    guests.settled(made, "ACTIVE")
    assert [one["volumeId"] for one in disks.listed(made)] == [other]
    assert disks.show(other)["status"] == "in-use"


def test_a_deleted_server_lets_go_of_its_volumes(disks: Disks, guests: Servers, admin: Client) -> None:
    made, kept, lost = guests.boot(), disks.make(), disks.make()
    disks.attached(made, kept)
    disks.attached(made, lost, delete_on_termination=True)
    assert admin.delete(f"/compute/v2.1/servers/{made}").status_code == 204
    guests.gone(made)
    disks.settled(kept, "available")
    disks.gone(lost)


def test_a_guest_that_cannot_have_a_volume_leaves_it_free(disks: Disks, guests: Servers, admin: Client) -> None:
    made = guests.boot(metadata={"fake:attach_volume_error": "no room"})
    volume = disks.make()
    assert disks.attach(made, volume).status_code == 200
    eventually(admin, lambda: disks.listed(made) == [])
    disks.settled(volume, "available")
    assert _history(admin, made)[0] == ("attach_volume", "Error")


def test_a_guest_that_does_not_let_go_keeps_the_volume(disks: Disks, guests: Servers, admin: Client) -> None:
    made = guests.boot(metadata={"fake:detach_volume_error": "it is mounted"})
    volume = disks.make()
    disks.attached(made, volume)
    assert disks.detach(made, volume).status_code == 202
    eventually(admin, lambda: _history(admin, made)[0] == ("detach_volume", "Error"))
    disks.settled(volume, "in-use")
    assert len(disks.listed(made)) == 1


def test_old_proxies_show_the_volume_service(disks: Disks, server_id: str, admin: Client) -> None:
    path = "/compute/v2.1/os-volumes"
    reply = admin.post(path, {"volume": {"size": 1, "display_name": "old"}})
    assert reply.status_code == 200, reply.text
    volume = reply.json()["volume"]
    disks.settled(volume["id"], "available")
    shown = admin.get(f"{path}/{volume['id']}").json()["volume"]
    assert (shown["displayName"], shown["size"], shown["attachments"]) == ("old", 1, [{}])
    disks.attached(server_id, volume["id"])
    (attachment,) = admin.get(f"{path}/{volume['id']}").json()["volume"]["attachments"]
    assert (attachment["serverId"], attachment["device"]) == (server_id, "/dev/vdb")
    assert volume["id"] in [one["id"] for one in admin.get(path + "/detail").json()["volumes"]]
    assert admin.get(path, version="2.36").status_code == 404
    snapshot = admin.post("/compute/v2.1/os-snapshots", {"snapshot": {"volume_id": volume["id"], "force": True}})
    assert snapshot.status_code == 200, snapshot.text
    snapshot_id = snapshot.json()["snapshot"]["id"]
    one = f"/compute/v2.1/os-snapshots/{snapshot_id}"
    eventually(admin, lambda: admin.get(one).json()["snapshot"]["status"] == "available")
    assert admin.delete(one).status_code == 202
    eventually(admin, lambda: admin.get(one).status_code == 404)
    disks.detach(server_id, volume["id"])
    disks.settled(volume["id"], "available")
    assert admin.delete(f"{path}/{volume['id']}").status_code == 202
    disks.gone(volume["id"])
