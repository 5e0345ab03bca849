"""Volumes: made, shown, changed, extended, copied and deleted."""

from __future__ import annotations

import json
from typing import Any

from pileus.cloud import Cloud
from pileus.image import images
from pileus.volume import backends
from tests.api.compute.guests import make_image
from tests.api.compute.people import Person, join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes
from tests.statements import NOW_AND_THEN, counted

UNKNOWN = "11111111-2222-4333-8444-555555555555"


def test_versions_are_public(anonymous: Client) -> None:
    for path, status in (("/volume/", 300), ("/volume/v3", 200), ("/volume/v3/", 200)):
        reply = anonymous.get(path)
        assert reply.status_code == status
        [version] = reply.json()["versions"]
        assert (version["id"], version["min_version"], version["status"]) == ("v3.0", "3.0", "CURRENT")


def test_the_catalog_has_it_by_both_names(admin: Client) -> None:
    catalog = admin.get("/identity/v3/auth/catalog").json()["catalog"]
    urls = {entry["type"]: entry["endpoints"][0]["url"] for entry in catalog}
    assert urls["block-storage"] == urls["volumev3"] == "http://cloud.test/volume/v3"


def test_a_volume_is_made_and_deleted(volumes: Volumes, person: Person) -> None:
    reply = volumes.ask(name="disk", description="mine", metadata={"a": "b"})
    made = reply.json()["volume"]
    assert (reply.status_code, made["status"], made["size"]) == (202, "creating", 1)
    assert "os-vol-tenant-attr:tenant_id" not in made
    shown = volumes.settled(made["id"], "available")
    assert (shown["name"], shown["description"], shown["metadata"]) == ("disk", "mine", {"a": "b"})
    assert shown["os-vol-tenant-attr:tenant_id"] == person.project_id
    assert "os-vol-host-attr:host" not in shown  # for administrators
    assert (shown["bootable"], shown["encrypted"], shown["multiattach"]) == ("false", False, False)
    volumes.drop(made["id"])


def test_administrators_see_where_it_is(volumes: Volumes, operator: Volumes) -> None:
    made = volumes.make()
    host = operator.show(made)["os-vol-host-attr:host"]
    node, _, rest = host.partition("@")
    assert (node[:4], rest) == ("node", "fake#fake")


def test_both_forms_of_the_path(volumes: Volumes, person: Person) -> None:
    made = volumes.make()
    path = f"/{person.project_id}/volumes/{made}"
    assert volumes.get(path)["volume"]["id"] == made
    volumes.refused(person.client.get(f"{V3}/{'0' * 32}/volumes/{made}"), 400, "Malformed request url")


def test_fields_come_with_their_versions(volumes: Volumes) -> None:
    made = volumes.make()
    for version, new in (
        ("3.13", {"group_id"}), ("3.48", {"service_uuid", "shared_targets"}), ("3.63", {"volume_type_id"}),
        ("3.65", {"consumes_quota"}),
    ):
        major, minor = version.split(".")
        before = volumes.show(made, f"{major}.{int(minor) - 1}")
        assert set(volumes.show(made, version)) - set(before) == new


def test_what_no_volume_has_is_refused_from_3_53_on(volumes: Volumes) -> None:
    volumes.refused(volumes.ask("3.53", status="error"), 400, "status")
    reply = volumes.ask("3.52", status="error", user_id="somebody")
    assert reply.status_code == 202, reply.text
    found = volumes.settled(reply.json()["volume"]["id"], "available")
    assert found["user_id"] != "somebody"


def test_it_names_the_service_that_keeps_it(volumes: Volumes, operator: Volumes, cloud: Cloud) -> None:
    made = volumes.make()
    node = operator.show(made)["os-vol-host-attr:host"].partition("@")[0]
    row: Any = cloud.db.run_sync(lambda tx: backends.by_node(tx, node))
    assert volumes.show(made)["service_uuid"] == row.id
    assert volumes.get("/volumes/detail", "3.48")["volumes"][0]["service_uuid"] == row.id


def test_another_project_does_not_see_it(cloud: Cloud, anonymous: Client, volumes: Volumes) -> None:
    made = volumes.make()
    stranger = join(cloud, anonymous).client
    volumes.refused(stranger.get(f"{V3}/volumes/{made}"), 404, made)
    volumes.refused(stranger.delete(f"{V3}/volumes/{made}"), 404)
    volumes.refused(stranger.post(f"{V3}/volumes/{made}/action", {"os-extend": {"new_size": 2}}), 404)
    volumes.refused(stranger.post(f"{V3}/volumes", {"volume": {"size": 1, "source_volid": made}}), 404)


def test_readers_read(cloud: Cloud, anonymous: Client, volumes: Volumes, person: Person) -> None:
    made = volumes.make()
    reader = join(cloud, anonymous, "reader", person.project_id).client
    assert reader.get(f"{V3}/volumes/{made}").status_code == 200
    volumes.refused(reader.delete(f"{V3}/volumes/{made}"), 403)
    volumes.refused(reader.post(f"{V3}/volumes", {"volume": {"size": 1}}), 403)


def test_sizes_that_are_none(volumes: Volumes) -> None:
    sizes: list[Any] = [0, -1, "", "#$%", "0", 1.5, 2**40, [], True]
    for size in sizes:
        volumes.refused(volumes.post("/volumes", {"volume": {"size": size}}), 400)
    volumes.refused(volumes.post("/volumes", {"volume": {}}), 400, "size")
    volumes.refused(volumes.post("/volumes", {}), 400)
    assert volumes.ask(size="1").status_code == 202


def test_what_does_not_exist(volumes: Volumes) -> None:
    volumes.refused(volumes.ask(volume_type=UNKNOWN), 404)
    volumes.refused(volumes.ask(source_volid=UNKNOWN), 404)
    volumes.refused(volumes.ask(snapshot_id=UNKNOWN), 404)
    volumes.refused(volumes.ask(imageRef=UNKNOWN), 400, "image")
    volumes.refused(volumes.ask(availability_zone="moon"), 400, "moon")
    volumes.refused(volumes.client.get(f"{V3}/volumes/{UNKNOWN}"), 404)
    volumes.refused(volumes.ask(multiattach=True), 400, "volume types")


def test_it_is_renamed(volumes: Volumes) -> None:
    made = volumes.make(name="old", metadata={"k": "v"})
    reply = volumes.client.put(f"{V3}/volumes/{made}", {"volume": {"name": "new", "description": None}})
    assert (reply.status_code, reply.json()["volume"]["name"]) == (200, "new")
    assert volumes.show(made)["metadata"] == {"k": "v"}
    reply = volumes.client.put(f"{V3}/volumes/{made}", {"volume": {}}, version="3.52")
    assert (reply.status_code, reply.json()["volume"]["name"]) == (200, "new")
    volumes.refused(volumes.client.put(f"{V3}/volumes/{made}", {"volume": {}}, version="3.53"), 400)


def test_it_is_extended(volumes: Volumes) -> None:
    made = volumes.make()
    assert volumes.act(made, "os-extend", {"new_size": 3}).status_code == 202
    assert volumes.settled(made, "available")["size"] == 3
    volumes.refused(volumes.act(made, "os-extend", {"new_size": 3}), 400, "greater than current size")
    volumes.refused(volumes.act(made, "os-extend", {"new_size": "x"}), 400)


def test_a_volume_from_an_image(volumes: Volumes, cloud: Cloud) -> None:
    image = make_image(cloud, virtual_size=(2 << 30) - 5, min_disk=1)
    volumes.refused(volumes.ask(imageRef=image, size=1), 400, "2GB")
    shown = volumes.show(volumes.make(imageRef=image, size=2))
    assert shown["bootable"] == "true"
    assert shown["volume_image_metadata"]["image_id"] == image
    assert shown["volume_image_metadata"]["min_disk"] == "1"


def test_a_copy_of_a_volume_is_on_its_node(volumes: Volumes, operator: Volumes) -> None:
    source = volumes.make(size=2)
    copies = [volumes.make(source_volid=source, size=None), volumes.make(source_volid=source, size=3)]
    assert [volumes.show(one)["size"] for one in copies] == [2, 3]
    hosts = {operator.show(one)["os-vol-host-attr:host"] for one in (source, *copies)}
    assert len(hosts) == 1
    volumes.refused(volumes.ask(source_volid=source, size=1), 400, "smaller")


def test_what_is_being_copied_is_deleted_afterwards(volumes: Volumes, cloud: Cloud) -> None:
    source = volumes.make()
    copy = volumes.ask(source_volid=source, metadata={"fake:create_delay": "0.3"}).json()["volume"]["id"]
    assert volumes.client.delete(f"{V3}/volumes/{source}").status_code == 202
    assert volumes.show(source)["status"] == "deleting"
    volumes.settled(copy, "available")
    volumes.gone(source)


def test_volumes_by_hints(volumes: Volumes, operator: Volumes) -> None:
    first = volumes.make()
    for hint, same in (("same_host", True), ("different_host", False)):
        body: Any = {"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {hint: [first]}}
        made = volumes.post("/volumes", body).json()["volume"]["id"]
        volumes.settled(made, "available")
        hosts = [operator.show(one)["os-vol-host-attr:host"] for one in (first, made)]
        assert (hosts[0] == hosts[1]) is same


def test_volumes_spread_over_the_nodes(volumes: Volumes, operator: Volumes) -> None:
    made = [volumes.make(size=20) for _ in range(4)]
    assert len({operator.show(one)["os-vol-host-attr:host"] for one in made}) == 2


def test_one_that_no_node_can_take_says_why(volumes: Volumes, operator: Volumes, cloud: Cloud, admin: Client) -> None:
    reply = operator.ask(size=10**6)
    volumes.refused(reply, 413, "gigabytes")
    first, second = volumes.make(), volumes.make(size=1)
    body: Any = {
        "volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": {"same_host": [first], "different_host": [first]},
    }
    made = volumes.post("/volumes", body).json()["volume"]
    assert volumes.show(made["id"])["status"] == "error"
    volumes.drop(made["id"])
    assert volumes.show(second)["status"] == "available"


def test_quotas_hold(volumes: Volumes) -> None:
    for _ in range(10):
        assert volumes.ask().status_code == 202
    reply = volumes.ask()
    volumes.refused(reply, 413, "Maximum number of volumes allowed (10)")
    assert reply.headers["retry-after"] == "0"


def test_metadata_item_by_item(volumes: Volumes) -> None:
    made = volumes.make(metadata={"a": "1"})
    path = f"{V3}/volumes/{made}/metadata"
    client = volumes.client
    assert client.get(path).json() == {"metadata": {"a": "1"}}
    assert client.post(path, {"metadata": {"b": "2"}}).json() == {"metadata": {"a": "1", "b": "2"}}
    assert client.put(f"{path}/b", {"meta": {"b": "3"}}).json() == {"meta": {"b": "3"}}
    assert client.get(f"{path}/b").json() == {"meta": {"b": "3"}}
    volumes.refused(client.put(f"{path}/b", {"meta": {"c": "3"}}), 400)
    assert client.delete(f"{path}/a").status_code == 200
    volumes.refused(client.delete(f"{path}/a"), 404)
    volumes.refused(client.get(f"{path}/a"), 404)
    assert client.put(path, {"metadata": {}}).json() == {"metadata": {}}
    volumes.refused(client.post(path, {"metadata": {"": "x"}}), 400)
    volumes.refused(client.post(path, {"metadata": {"k" * 256: "x"}}), 400)


def test_metadata_change_only_if_they_are_as_they_were(volumes: Volumes) -> None:
    made = volumes.make(metadata={"a": "1"})
    path, client = f"{V3}/volumes/{made}/metadata", volumes.client
    assert "etag" not in client.get(path, version="3.14").headers
    seen = client.get(path, version="3.15").headers["etag"]
    first = client.put(path, {"metadata": {"a": "2"}}, version="3.15", headers={"If-Match": seen})
    assert first.status_code == 200
    for method, place, body in (
        ("PUT", path, {"metadata": {}}), ("POST", path, {"metadata": {}}), ("PUT", f"{path}/a", {"meta": {"a": "3"}}),
    ):
        late = client.request(method, place, json=body, version="3.15", headers={"If-Match": seen})
        assert late.status_code == 412, late.text
    assert client.get(path).json() == {"metadata": {"a": "2"}}


def test_a_volume_from_an_image_that_names_a_snapshot(volumes: Volumes, cloud: Cloud) -> None:
    taken = volumes.snap(volumes.make())
    image = make_image(cloud, size=0, virtual_size=None, os_hash_value=None)
    devices = json.dumps([{"boot_index": 0, "snapshot_id": taken}, {"boot_index": None, "snapshot_id": UNKNOWN}])
    cloud.db.run_sync(lambda tx: images.set_properties(tx, image, {"block_device_mapping": devices}))
    volumes.refused(volumes.ask(imageRef=image, version="3.45"), 400)
    assert volumes.show(volumes.make(imageRef=image))["snapshot_id"] == taken


def test_nobody_completes_what_a_node_does_by_itself(volumes: Volumes, operator: Volumes) -> None:
    made = volumes.make()
    value = {"error": False}
    volumes.refused(volumes.act(made, "os-extend_volume_completion", value), 403)
    volumes.refused(operator.act(made, "os-extend_volume_completion", value), 400, "by itself")
    volumes.refused(operator.act(made, "os-extend_volume_completion", value, version="3.70"), 404)


def test_image_metadata(volumes: Volumes) -> None:
    made = volumes.make()
    reply = volumes.act(made, "os-set_image_metadata", {"metadata": {"hw_disk_bus": "scsi", "x": "y"}})
    assert (reply.status_code, reply.json()) == (200, {"metadata": {"hw_disk_bus": "scsi", "x": "y"}})
    assert volumes.act(made, "os-unset_image_metadata", {"key": "x"}).status_code == 200
    volumes.refused(volumes.act(made, "os-unset_image_metadata", {"key": "x"}), 404)
    assert volumes.act(made, "os-show_image_metadata", {}).json() == {"metadata": {"hw_disk_bus": "scsi"}}
    assert volumes.show(made)["volume_image_metadata"] == {"hw_disk_bus": "scsi"}


def test_bootable_and_read_only(volumes: Volumes) -> None:
    made = volumes.make()
    assert volumes.act(made, "os-set_bootable", {"bootable": "True"}).status_code == 200
    assert volumes.act(made, "os-update_readonly_flag", {"readonly": True}).status_code == 202
    shown = volumes.show(made)
    assert (shown["bootable"], shown["metadata"]) == ("true", {"readonly": "True"})


def test_a_volume_becomes_an_image(volumes: Volumes, person: Person) -> None:
    made = volumes.make()
    volumes.act(made, "os-set_image_metadata", {"metadata": {"hw_disk_bus": "scsi"}})
    value = {"image_name": "of a volume", "disk_format": "qcow2", "visibility": "private", "protected": False}
    reply = volumes.act(made, "os-volume_upload_image", value)
    assert reply.status_code == 202, reply.text
    upload = reply.json()["os-volume_upload_image"]
    assert (upload["status"], upload["visibility"]) == ("uploading", "private")
    volumes.settled(made, "available")
    image = person.client.get(f"/image/v2/images/{upload['image_id']}").json()
    assert (image["status"], image["name"], image["hw_disk_bus"]) == ("active", "of a volume", "scsi")
    volumes.refused(volumes.act(made, "os-volume_upload_image", {**value, "visibility": "public"}), 403)
    volumes.refused(volumes.act(made, "os-volume_upload_image", {**value, "disk_format": "vmdk"}), 400, "qcow2")
    volumes.refused(volumes.act(made, "os-volume_upload_image", value, version="3.0"), 400, "visibility")


def test_an_upload_that_fails_leaves_no_image(volumes: Volumes, person: Person) -> None:
    made = volumes.make(metadata={"fake:upload_error": "disk on fire"})
    reply = volumes.act(made, "os-volume_upload_image", {"image_name": "x"}).json()
    image = reply["os-volume_upload_image"]["image_id"]
    volumes.settled(made, "available")
    assert person.client.get(f"/image/v2/images/{image}").status_code == 404


def test_statuses_are_for_operators(volumes: Volumes, operator: Volumes) -> None:
    made = volumes.make()
    volumes.refused(volumes.act(made, "os-reset_status", {"status": "error"}), 403)
    assert operator.act(made, "os-reset_status", {"status": "error"}).status_code == 202
    assert volumes.show(made)["status"] == "error"
    volumes.refused(operator.act(made, "os-reset_status", {"status": "dancing"}), 400)
    volumes.refused(operator.act(made, "os-reset_status", {}), 400)
    operator.act(made, "os-reset_status", {"status": "attaching"})
    volumes.refused(volumes.client.delete(f"{V3}/volumes/{made}"), 400, "attaching")
    volumes.refused(volumes.act(made, "os-force_delete", {}), 403)
    assert operator.act(made, "os-force_delete", {}).status_code == 202
    volumes.gone(made)


def test_no_such_action(volumes: Volumes) -> None:
    made = volumes.make()
    volumes.refused(volumes.act(made, "os-dance"), 400, "os-dance")
    volumes.refused(volumes.post(f"/volumes/{made}/action", {}), 400)
    volumes.refused(volumes.act(made, "revert", {"snapshot_id": UNKNOWN}, version="3.39"), 404, "3.39")


def test_summary(volumes: Volumes) -> None:
    volumes.make(metadata={"a": "1"})
    volumes.make(size=2, metadata={"a": "2", "b": "1"})
    assert volumes.get("/volumes/summary", "3.12")["volume-summary"] == {"total_count": 2, "total_size": 3}
    whole = volumes.get("/volumes/summary")["volume-summary"]
    assert sorted(whole["metadata"]["a"]) == ["1", "2"]
    assert volumes.client.get(f"{V3}/volumes/summary").status_code == 404


def test_a_thousand_are_listed_in_as_many_statements_as_ten(cloud: Cloud, volumes: Volumes, person: Person) -> None:
    from pileus.volume.tables import volume

    template = volumes.make()

    def fill(tx: Any, count: int) -> None:
        row = tx.conn.execute(volume.select().where(volume.c.id == template)).mappings().one()
        tx.execute(volume.insert(), [
            {**{k: v for k, v in row.items() if k != "seq"}, "id": cloud.world.uuid()} for _ in range(count)
        ])

    def sent(count: int) -> int:
        with counted(cloud.db) as statements:
            assert len(volumes.get("/volumes/detail")["volumes"]) == count
        return len(statements)

    cloud.db.run_sync(lambda tx: fill(tx, 9))
    few = sent(10)
    cloud.db.run_sync(lambda tx: fill(tx, 990))
    assert 0 < sent(1000) <= few + NOW_AND_THEN
