"""Servers keep their volumes wherever they go, and whatever is done to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from pileus.node.contract import NodeFault
from pileus.volume.tables import attachment, backend, volume
from tests.api.compute.disks import Disks, from_image, from_volume
from tests.api.compute.guests import Servers, eventually, make_image, several_nodes
from tests.api.compute.test_evacuate import Outage
from tests.api.compute.test_moves import held, host_of
from tests.api.compute.test_volume_boot import has, remove
from tests.api.conftest import Client

V = "/compute/v2.1"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    """Two, of which the first keeps the volumes."""
    with several_nodes(cloud, loop, 2) as nodes:
        cloud.db.run_sync(lambda tx: tx.execute(
            backend.update().where(backend.c.node == "node-2").values(disabled=True)
        ))
        yield nodes


@pytest.fixture(scope="module")
def disks(admin: Client, guests: Servers) -> Disks:
    return Disks(admin, guests)


@pytest.fixture(autouse=True)
def clean(disks: Disks) -> Iterator[None]:
    yield
    disks.clean()


@pytest.fixture
def made(disks: Disks, guests: Servers) -> Iterator[str]:
    """A server that boots from a volume and has another."""
    server_id = disks.boot(from_image(guests.image_id, delete_on_termination=True))
    disks.attached(server_id, disks.make())
    yield server_id
    if guests.client.get(f"{V}/servers/{server_id}").status_code == 200:
        remove(guests, server_id)


def _away(guests: Servers, server_id: str) -> str:
    """Have the server on the node that keeps no volumes; its name."""
    if host_of(guests, server_id) == "node-1":
        assert guests.act(server_id, "os-migrateLive", {"host": None, "block_migration": "auto"}).status_code == 202
        guests.settled(server_id, "ACTIVE")
    assert host_of(guests, server_id) == "node-2"
    return "node-2"


def _volumes(disks: Disks, server_id: str) -> tuple[str, ...]:
    return tuple(one["volumeId"] for one in disks.listed(server_id))


def _key(cloud: Cloud, volume_id: str) -> str:
    return str(cloud.db.run_sync(lambda tx: tx.scalar(sa.select(volume.c.export_key).where(volume.c.id == volume_id))))


def _hosts(cloud: Cloud, server_id: str) -> set[str]:
    query = sa.select(attachment.c.host).where(attachment.c.server_id == server_id)
    return set(cloud.db.run_sync(lambda tx: tx.scalars(query)))


@pytest.mark.parametrize(("action", "value", "status"), [
    ("reboot", {"type": "HARD"}, "ACTIVE"), ("rescue", {}, "RESCUE"), ("resize", {"flavorRef": "2"}, "VERIFY_RESIZE"),
    ("migrate", None, "VERIFY_RESIZE"), ("pause", None, "PAUSED"),
])
def test_a_guest_is_always_started_with_its_volumes(
    disks: Disks, guests: Servers, nodes: LocalNodes, made: str, action: str, value: Any, status: str
) -> None:
    reply = guests.act(made, action, value)
    assert reply.status_code in (200, 202), reply.text
    guests.settled(made, status)
    volumes = _volumes(disks, made)
    assert len(volumes) == 2
    assert has(nodes, guests, made) == volumes
    assert [disks.show(one)["status"] for one in volumes] == ["in-use"] * 2


def test_a_rescue_of_a_volume_is_from_2_87_on(guests: Servers, made: str) -> None:
    assert guests.act(made, "rescue", version="2.86").status_code == 400


def test_a_rebuild_leaves_the_volume_as_it_is(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes, made: str
) -> None:
    volumes, image = _volumes(disks, made), guests.image_id
    assert guests.act(made, "rebuild", {"imageRef": image, "name": "again"}, version="2.92").status_code == 202
    shown = guests.settled(made, "ACTIVE")
    assert (shown["name"], shown["image"]) == ("again", "")
    assert (has(nodes, guests, made), _volumes(disks, made)) == (volumes, volumes)
    assert "DISK_GB" not in held(cloud, made)[host_of(guests, made)]
    other = {"imageRef": make_image(cloud)}
    assert "different image" in guests.act(made, "rebuild", other, version="2.92").text


@pytest.mark.parametrize("status", ["ACTIVE", "SHUTOFF"])
def test_a_rebuild_overwrites_the_volume_from_2_93_on(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes, made: str, status: str
) -> None:
    volumes, other = _volumes(disks, made), make_image(cloud)
    if status == "SHUTOFF":
        guests.act(made, "os-stop")
        guests.settled(made, "SHUTOFF")
    assert guests.act(made, "rebuild", {"imageRef": other}, version="2.93").status_code == 202
    guests.settled(made, status)
    assert (has(nodes, guests, made), _volumes(disks, made)) == (volumes, volumes)
    root = disks.show(volumes[0])
    assert (root["status"], root["volume_image_metadata"]["image_id"]) == ("in-use", other)
    assert [disks.show(one)["status"] for one in volumes] == ["in-use"] * 2
    large = {"imageRef": make_image(cloud, min_disk=5)}
    assert "smaller than" in guests.act(made, "rebuild", large, version="2.93").text


def test_a_rebuild_that_cannot_overwrite_the_volume_is_an_error(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(order: Any) -> None:
        raise NodeFault("the disk is full")

    volumes = _volumes(disks, made)
    with monkeypatch.context() as patch:
        patch.setattr(nodes.agents["node-1"].storage, "reimage", broken)
        guests.act(made, "rebuild", {"imageRef": guests.image_id}, version="2.93")
        assert "the disk is full" in guests.settled(made, "ERROR")["fault"]["message"]
    assert disks.show(volumes[0])["status"] == "error"
    assert guests.act(made, "rebuild", {"imageRef": guests.image_id}, version="2.93").status_code == 202
    guests.settled(made, "ACTIVE")
    assert disks.show(volumes[0])["status"] == "in-use"


def test_a_resize_takes_no_disk_for_the_root(cloud: Cloud, guests: Servers, made: str) -> None:
    assert guests.act(made, "resize", {"flavorRef": "2"}).status_code == 202
    guests.settled(made, "VERIFY_RESIZE")
    assert guests.act(made, "confirmResize").status_code == 204
    guests.settled(made, "ACTIVE")
    assert "DISK_GB" not in held(cloud, made)[host_of(guests, made)]


def test_a_move_goes_back_with_the_volumes(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes, made: str
) -> None:
    source = host_of(guests, made)
    guests.act(made, "migrate")
    guests.settled(made, "VERIFY_RESIZE")
    assert _hosts(cloud, made) == {host_of(guests, made)} != {source}
    assert guests.act(made, "revertResize").status_code == 202
    guests.settled(made, "ACTIVE")
    assert (host_of(guests, made), _hosts(cloud, made)) == (source, {source})
    assert has(nodes, guests, made) == _volumes(disks, made)


def test_a_live_migration_needs_no_copy(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes, made: str
) -> None:
    source, volumes = host_of(guests, made), _volumes(disks, made)
    keys = [_key(cloud, one) for one in volumes]
    reply = guests.act(made, "os-migrateLive", {"host": None, "block_migration": False})
    assert reply.status_code == 202, reply.text
    guests.settled(made, "ACTIVE")
    assert host_of(guests, made) != source
    assert has(nodes, guests, made) == volumes
    assert _hosts(cloud, made) == {host_of(guests, made)}
    assert [_key(cloud, one) for one in volumes] == keys
    plain = guests.boot()
    refused = guests.act(plain, "os-migrateLive", {"host": None, "block_migration": False}, version="2.30")
    assert refused.status_code == 400


def test_a_server_is_shelved_without_an_image(
    disks: Disks, guests: Servers, nodes: LocalNodes, made: str, admin: Client
) -> None:
    images = len(admin.get("/image/v2/images").json()["images"])
    volumes = _volumes(disks, made)
    assert guests.act(made, "shelve").status_code == 202
    guests.settled(made, "SHELVED_OFFLOADED")
    assert len(admin.get("/image/v2/images").json()["images"]) == images
    assert [disks.show(one)["status"] for one in volumes] == ["in-use"] * 2
    assert guests.act(made, "unshelve").status_code == 202
    guests.settled(made, "ACTIVE")
    assert has(nodes, guests, made) == volumes


def test_an_evacuated_server_gets_new_keys(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, volumes = _away(guests, made), _volumes(disks, made)
    keys = {one: _key(cloud, one) for one in volumes}
    outage = Outage(guests, nodes, source, monkeypatch)
    reply = guests.act(made, "evacuate", {}, version="2.94")
    assert reply.status_code == 200, reply.text
    guests.settled(made, "ACTIVE")
    assert host_of(guests, made) != source
    assert has(nodes, guests, made) == volumes
    assert all(_key(cloud, one) not in ("", keys[one]) for one in volumes)
    outage.end()
    assert [disks.show(one)["status"] for one in volumes] == ["in-use"] * 2


def test_what_needs_a_volume_of_a_node_that_is_down_is_refused(
    disks: Disks, guests: Servers, nodes: LocalNodes, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, data = _away(guests, made), disks.make()
    shelved = disks.boot(from_volume(disks.bootable()))
    guests.act(shelved, "shelve")
    guests.settled(shelved, "SHELVED_OFFLOADED")
    keeper, own = Outage(guests, nodes, "node-1", monkeypatch), Outage(guests, nodes, source, monkeypatch)
    reply = guests.act(made, "evacuate", {}, version="2.94")
    assert (reply.status_code, "out of reach" in reply.text) == (400, True)
    own.end()
    reply = disks.attach(made, data)
    assert (reply.status_code, "out of reach" in reply.text) == (409, True)
    assert guests.act(shelved, "unshelve").status_code == 409
    assert guests.settled(made, "ACTIVE")["OS-EXT-SRV-ATTR:host"] == source
    keeper.end()
    remove(guests, shelved)


def test_volumes_are_freed_while_the_node_is_down(
    disks: Disks, guests: Servers, nodes: LocalNodes, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, data = _volumes(disks, made)
    more = disks.make()
    outage = Outage(guests, nodes, _away(guests, made), monkeypatch)
    assert disks.attach(made, more).status_code == 409
    assert disks.detach(made, data).status_code == 409
    assert disks.show(more)["status"] == "available"
    guests.client.delete(f"{V}/servers/{made}")
    guests.gone(made)
    disks.gone(root)
    disks.settled(data, "available")
    outage.end()


def test_a_build_that_goes_elsewhere_takes_its_volumes(
    cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes
) -> None:
    volume_id = disks.bootable()
    made = disks.boot(from_volume(volume_id), metadata={"fake:build_error": "no luck", "fake:nodes": "node-1"})
    assert host_of(guests, made) == "node-2"
    assert has(nodes, guests, made) == (volume_id,)
    assert _hosts(cloud, made) == {"node-2"}
    remove(guests, made)
    disks.settled(volume_id, "available")


def test_a_guest_is_shown_that_a_volume_has_grown(disks: Disks, guests: Servers, admin: Client, made: str) -> None:
    data = _volumes(disks, made)[1]
    event = {"name": "volume-extended", "server_uuid": made, "tag": data}
    path = f"{V}/os-server-external-events"
    assert admin.post(path, {"events": [event]}, version="2.50").status_code == 400
    untagged = {name: value for name, value in event.items() if name != "tag"}
    assert admin.post(path, {"events": [untagged]}, version="2.51").status_code == 400
    assert admin.post(path, {"events": [event]}, version="2.51").status_code == 200

    def done() -> bool:
        found = admin.get(f"{V}/servers/{made}/os-instance-actions", version="2.96").json()["instanceActions"]
        return bool(found[0]["action"] == "extend_volume" and found[0]["updated_at"] > found[0]["start_time"])

    eventually(admin, done)
    reply = admin.post(f"/volume/v3/volumes/{data}/action", {"os-extend": {"new_size": 2}}, version="3.42")
    assert reply.status_code == 202, reply.text
    eventually(admin, lambda: disks.show(data)["size"] == 2)
    eventually(admin, lambda: len([one for one in _names(admin, made) if one == "extend_volume"]) == 2)
    assert disks.show(data)["status"] == "in-use"


def _names(client: Client, server_id: str) -> list[str]:
    """What was done to a server, the last first."""
    found = client.get(f"{V}/servers/{server_id}/os-instance-actions", version="2.96").json()["instanceActions"]
    return [one["action"] for one in found]
