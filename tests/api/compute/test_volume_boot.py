"""Servers boot from volumes: from which, what else they get, and what is refused."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.compute import metadata
from pileus.controller import LocalNodes
from pileus.node.contract import NodeFault
from pileus.volume.tables import backend
from tests.api.compute.disks import Disks, from_image, from_volume
from tests.api.compute.guests import Servers, eventually, several_nodes
from tests.api.compute.test_moves import held, host_of
from tests.api.conftest import Client


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 1) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def disks(admin: Client, guests: Servers) -> Disks:
    return Disks(admin, guests)


@pytest.fixture(autouse=True)
def clean(disks: Disks) -> Iterator[None]:
    yield
    disks.clean()


def has(nodes: LocalNodes, guests: Servers, server_id: str) -> tuple[str, ...]:
    """The volumes that the guest was started with, as its node knows."""
    journal = nodes.agents[host_of(guests, server_id)].hypervisor._journal  # type: ignore[attr-defined]
    found: tuple[str, ...] = journal.guests[server_id].volumes
    return found


def remove(guests: Servers, server_id: str) -> None:
    guests.client.delete(f"/compute/v2.1/servers/{server_id}")
    guests.gone(server_id)


def test_a_server_boots_from_a_volume(cloud: Cloud, disks: Disks, guests: Servers, nodes: LocalNodes) -> None:
    volume = disks.bootable()
    made = disks.boot(from_volume(volume, delete_on_termination=True))
    shown = guests.show(made)
    assert shown["image"] == ""
    assert shown["os-extended-volumes:volumes_attached"] == [{"id": volume, "delete_on_termination": True}]
    (attachment,) = disks.show(volume)["attachments"]
    assert (attachment["server_id"], attachment["device"], disks.show(volume)["status"]) == (made, "/dev/vda", "in-use")
    assert has(nodes, guests, made) == (volume,)
    assert "DISK_GB" not in held(cloud, made)[host_of(guests, made)]
    assert "root device" in disks.detach(made, volume).text
    remove(guests, made)
    disks.gone(volume)


def test_a_server_waits_for_the_last_of_its_volumes(
    disks: Disks, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (agent,) = nodes.agents.values()
    assert agent.storage is not None
    root, data, export = disks.bootable(), disks.make(), agent.storage.export

    async def slow(order: Any) -> Any:
        await asyncio.sleep(0.5 if order.volume_id == data else 0)
        return await export(order)

    monkeypatch.setattr(agent.storage, "export", slow)
    made = disks.boot(from_volume(root), from_volume(data, boot_index=None))
    assert has(nodes, guests, made) == (root, data)
    remove(guests, made)
    disks.settled(data, "available")


def test_a_volume_is_made_of_an_image(disks: Disks, guests: Servers, nodes: LocalNodes) -> None:
    made = disks.boot(from_image(guests.image_id, volume_size=2, tag="root"))
    (one,) = disks.listed(made)
    volume = disks.show(one["volumeId"])
    assert (volume["size"], volume["bootable"], one["device"], one["tag"]) == (2, "true", "/dev/vda", "root")
    assert volume["volume_image_metadata"]["image_id"] == guests.image_id
    assert has(nodes, guests, made) == (volume["id"],)
    remove(guests, made)
    disks.settled(volume["id"], "available")
    disks.made.append(volume["id"])


def test_other_disks_are_made_too(cloud: Cloud, disks: Disks, guests: Servers, admin: Client) -> None:
    flavor = admin.post("/compute/v2.1/flavors", {"flavor": {
        "name": "disks", "id": "disks", "vcpus": 1, "ram": 64, "disk": 1, "swap": 512, "OS-FLV-EXT-DATA:ephemeral": 2,
    }})
    assert flavor.status_code == 200
    blank = {"source_type": "blank", "destination_type": "volume", "volume_size": 1, "delete_on_termination": True}
    made = disks.boot(
        {"source_type": "image", "destination_type": "local", "uuid": guests.image_id, "boot_index": 0, "tag": "sys"},
        {"source_type": "blank", "destination_type": "local", "volume_size": 1, "guest_format": "ext4"},
        {"source_type": "blank", "destination_type": "local", "volume_size": 64, "guest_format": "swap"},
        {**blank, "tag": "data"}, image=guests.image_id, flavorRef="disks",
    )
    assert guests.show(made)["image"]["id"] == guests.image_id
    (one,) = disks.listed(made)
    assert one["device"] == "/dev/vdd"

    def ask(path: str) -> bytes:
        return cloud.db.run_sync(lambda tx: metadata.answer(tx, cloud, made, None, path))[2]

    assert json.loads(ask("/openstack/latest/meta_data.json"))["devices"] == [
        {"type": "disk", "bus": "none", "address": "none", "path": "/dev/vda", "tags": ["sys"]},
        {"type": "disk", "bus": "none", "address": "none", "serial": one["volumeId"], "path": "/dev/vdd",
         "tags": ["data"]},
    ]
    assert ask("/latest/meta-data/block-device-mapping/ebs0") == b"/dev/vdd"
    assert ask("/latest/meta-data/block-device-mapping/ephemeral0") == b"/dev/vdb"
    assert ask("/latest/meta-data/block-device-mapping/swap") == b"/dev/vdc"
    remove(guests, made)
    disks.gone(one["volumeId"])


def test_the_older_form_works_too(disks: Disks, guests: Servers) -> None:
    volume = disks.bootable()
    reply = guests.ask(imageRef="", block_device_mapping=[{"device_name": "/dev/vda", "volume_id": volume}])
    assert reply.status_code == 202, reply.text
    made = reply.json()["server"]["id"]
    guests.settled(made, "ACTIVE")
    assert [one["device"] for one in disks.listed(made)] == ["/dev/vda"]
    remove(guests, made)
    data = disks.make()
    made = guests.boot(block_device_mapping=[{"device_name": "/dev/vdb", "volume_id": data}])
    assert guests.show(made)["image"]["id"] == guests.image_id
    assert [one["device"] for one in disks.listed(made)] == ["/dev/vdb"]
    remove(guests, made)


def test_an_image_of_a_server_on_volumes_makes_others(disks: Disks, guests: Servers, admin: Client) -> None:
    made = disks.boot(from_image(guests.image_id, delete_on_termination=True))
    data = disks.make()
    disks.attached(made, data)
    image = guests.act(made, "createImage", {"name": "both"}).json()["image_id"]
    shown = admin.get(f"/image/v2/images/{image}").json()
    assert (shown["status"], shown["size"], shown["bdm_v2"]) == ("active", 0, "True")
    mapping = json.loads(shown["block_device_mapping"])
    assert [(one["boot_index"], one["device_name"]) for one in mapping] == [(0, "/dev/vda"), (None, "/dev/vdb")]
    assert admin.get(f"/image/v2/images/{image}/file").status_code == 204

    def ready() -> bool:
        paths = [f"/volume/v3/snapshots/{one['snapshot_id']}" for one in mapping]
        return all(admin.get(path).json()["snapshot"]["status"] == "available" for path in paths)

    eventually(admin, ready)
    other = guests.boot(imageRef=image)
    assert guests.show(other)["image"] == ""
    found = disks.listed(other)
    assert [one["device"] for one in found] == ["/dev/vda", "/dev/vdb"]
    assert disks.show(found[0]["volumeId"])["snapshot_id"] == mapping[0]["snapshot_id"]
    assert guests.act(made, "createBackup", {"name": "b", "backup_type": "d", "rotation": 1}).status_code == 400
    for server_id in (made, other):
        remove(guests, server_id)
    disks.made += [one["volumeId"] for one in found]


@pytest.mark.parametrize(("devices", "image", "words"), [
    ([{"source_type": "volume", "uuid": "VOLUME"}], "", "Boot sequence"),
    ([{"source_type": "volume", "uuid": "VOLUME", "boot_index": 1}], "", "Boot sequence"),
    ([{"source_type": "volume", "boot_index": 0}], "", "Missing device UUID"),
    ([{"source_type": "blank", "uuid": "VOLUME", "boot_index": 0}], "", "Invalid device UUID"),
    ([{"source_type": "volume", "uuid": "NOBODY", "boot_index": 0}], "", "failed to get volume"),
    ([{"source_type": "snapshot", "uuid": "NOBODY", "boot_index": 0}], "", "failed to get snapshot"),
    ([{"source_type": "image", "uuid": "NOBODY", "boot_index": 0, "destination_type": "volume", "volume_size": 1}], "",
     "failed to get image"),
    ([{"source_type": "image", "uuid": "IMAGE", "boot_index": 0, "destination_type": "volume"}], "", "non-zero size"),
    ([{"source_type": "blank", "destination_type": "volume", "boot_index": 0}], "", "non-zero size"),
    ([{"source_type": "image", "uuid": "IMAGE", "boot_index": 0}], "", "Mapping image to local"),
    ([{"source_type": "volume", "uuid": "VOLUME", "boot_index": 0}], "", "not bootable"),
    ([{"source_type": "volume", "uuid": "VOLUME", "boot_index": 0, "destination_type": "local"}], "", "Mapping volume"),
    ([{"source_type": "volume", "uuid": "VOLUME", "destination_type": "invalid"}], "IMAGE", "Invalid"),
    ([{"source_type": "volume", "uuid": "VOLUME", "volume_type": "x"}], "IMAGE", "volume_type"),
    ([{"boot_index": 0}], "", "source_type"),
    ([{"source_type": "image", "uuid": "IMAGE", "boot_index": 0, "destination_type": "local"},
      {"source_type": "blank", "guest_format": "swap", "volume_size": 1}], "IMAGE", "Swap drive"),
    ([{"source_type": "image", "uuid": "IMAGE", "boot_index": 0, "destination_type": "local"},
      {"source_type": "blank", "volume_size": 1}], "IMAGE", "Ephemeral disks"),
    ([], "", "imageRef"),
])
def test_what_makes_no_sense_is_refused(
    disks: Disks, guests: Servers, devices: list[dict[str, Any]], image: str, words: str
) -> None:
    names = {"VOLUME": disks.make(), "IMAGE": guests.image_id, "NOBODY": str(uuid.uuid4()), "": ""}
    asked = [{k: names.get(v, v) if isinstance(v, str) else v for k, v in one.items()} for one in devices]
    reply = guests.ask(imageRef=names[image], block_device_mapping_v2=asked, version="2.66")
    assert reply.status_code == 400, reply.text
    assert words in reply.json()["badRequest"]["message"]


def test_volumes_that_are_there_are_for_one_server(disks: Disks, guests: Servers) -> None:
    volume = disks.bootable()
    reply = guests.ask(imageRef="", block_device_mapping_v2=[from_volume(volume)], min_count=2)
    assert "multiple instances" in reply.text
    made = disks.boot(from_volume(volume))
    reply = guests.ask(imageRef="", block_device_mapping_v2=[from_volume(volume)])
    assert (reply.status_code, "must be available" in reply.text) == (400, True)
    remove(guests, made)
    disks.settled(volume, "available")


def test_several_servers_get_a_volume_each(disks: Disks, guests: Servers, admin: Client) -> None:
    reply = guests.ask(
        imageRef="", block_device_mapping_v2=[from_image(guests.image_id, delete_on_termination=True)], min_count=2,
        return_reservation_id=True,
    )
    listed = admin.get(f"/compute/v2.1/servers?reservation_id={reply.json()['reservation_id']}").json()["servers"]
    for one in listed:
        guests.settled(one["id"], "ACTIVE")
    volumes = {disks.listed(one["id"])[0]["volumeId"] for one in listed}
    assert len(volumes) == 2
    for one in listed:
        remove(guests, one["id"])


def test_a_volume_that_cannot_be_made_is_told(
    disks: Disks, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch, admin: Client
) -> None:
    async def broken(order: Any) -> None:
        raise NodeFault("the disk is full")

    (agent,) = nodes.agents.values()
    with monkeypatch.context() as patch:
        patch.setattr(agent.storage, "create", broken)
        made = guests.ask(imageRef="", block_device_mapping_v2=[from_image(guests.image_id)]).json()["server"]["id"]
        shown = guests.settled(made, "ERROR")
    assert "the disk is full" in shown["fault"]["message"]
    actions = admin.get(f"/compute/v2.1/servers/{made}/os-instance-actions").json()["instanceActions"]
    assert [(one["action"], one["message"]) for one in actions] == [("create", "Error")]
    (one,) = disks.listed(made)
    remove(guests, made)
    disks.gone(one["volumeId"])


def test_a_server_is_deleted_while_its_volume_is_being_made(
    disks: Disks, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (agent,) = nodes.agents.values()
    begun = asyncio.Event()

    async def slow(order: Any) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    with monkeypatch.context() as patch:
        patch.setattr(agent.storage, "create", slow)
        made = guests.ask(imageRef="", block_device_mapping_v2=[from_image(guests.image_id)]).json()["server"]["id"]
        eventually(guests.client, begun.is_set)
        assert guests.show(made)["status"] == "BUILD"
        (one,) = disks.listed(made)
        remove(guests, made)
    disks.gone(one["volumeId"])


def test_a_volume_that_cannot_be_given_out_is_told(
    disks: Disks, guests: Servers, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(order: Any) -> None:
        raise NodeFault("no port is free")

    (agent,) = nodes.agents.values()
    volume = disks.bootable()
    with monkeypatch.context() as patch:
        patch.setattr(agent.storage, "export", broken)
        made = guests.ask(imageRef="", block_device_mapping_v2=[from_volume(volume)]).json()["server"]["id"]
        shown = guests.settled(made, "ERROR")
        assert "no port is free" in shown["fault"]["message"]
        server_id, data = guests.boot(), disks.make()
        assert disks.attach(server_id, data).status_code == 200
        disks.settled(data, "available")
        eventually(guests.client, lambda: disks.listed(server_id) == [])
    remove(guests, made)
    disks.settled(volume, "available")


def test_where_no_node_can_keep_the_volume_the_server_says_so(cloud: Cloud, disks: Disks, guests: Servers) -> None:
    def disable(value: bool) -> None:
        cloud.db.run_sync(lambda tx: tx.execute(backend.update().values(disabled=value)))

    disable(True)
    reply = guests.ask(imageRef="", block_device_mapping_v2=[from_image(guests.image_id)])
    disable(False)
    assert reply.status_code == 202
    made = reply.json()["server"]["id"]
    assert "is disabled" in guests.settled(made, "ERROR")["fault"]["message"]
    assert (held(cloud, made), disks.listed(made), guests.show(made)["OS-EXT-SRV-ATTR:host"]) == ({}, [], None)
    remove(guests, made)


def test_a_quota_of_volumes_holds_for_servers_too(disks: Disks, guests: Servers, admin: Client) -> None:
    before = admin.get("/compute/v2.1/servers").json()
    blank = {"source_type": "blank", "destination_type": "volume", "volume_size": 1}
    reply = guests.ask(imageRef="", block_device_mapping_v2=[from_image(guests.image_id), *[blank] * 10])
    assert (reply.status_code, "volumes" in reply.text) == (403, True)
    assert admin.get("/compute/v2.1/servers").json() == before
