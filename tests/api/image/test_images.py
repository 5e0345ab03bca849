"""Images: made, shown, listed, changed, deleted; by whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Client
from tests.api.image.conftest import Images, project_of
from tests.statements import NOW_AND_THEN, counted


def test_versions_need_no_token(anonymous: Client) -> None:
    reply = anonymous.get("/image/")
    assert reply.status_code == 300
    assert reply.json()["versions"][0]["status"] == "CURRENT"
    assert anonymous.get("/image/versions").status_code == 200
    assert all(row["id"] != "v2.17" for row in reply.json()["versions"])  # locations are not here


def test_an_error_comes_as_the_caller_reads_it(images: Images) -> None:
    for accept, kind in (("application/json", "application/json"), ("*/*", "text/html"), ("text/plain", "text/plain")):
        reply = images.client.get("/image/v2/images/none", headers={"Accept": accept})
        assert reply.status_code == 404
        assert reply.headers["content-type"].startswith(kind)
        assert "Failed to find image none" in reply.text
    assert images("GET", "/images/none", 404) == {
        "message": "Failed to find image none: no image with this id is yours or shared with you.",
        "code": "404 Not Found", "title": "Not Found",
    }
    reply = images.client.get("/image/v2/images/<script>")
    assert "<script>" not in reply.text


def test_a_new_image(alice: Images) -> None:
    ramdisk = "00000000-1111-2222-3333-444455556666"
    made = alice("POST", "/images", 201, {
        "name": "cirros", "container_format": "bare", "disk_format": "raw", "visibility": "private",
        "ramdisk_id": ramdisk, "tags": ["b", "a", "a"], "min_ram": 64, "os_distro": "none",
    })
    assert alice("GET", f"/images/{made['id']}", 200) == made
    assert {k: made[k] for k in ("status", "size", "checksum", "ramdisk_id", "tags", "min_ram", "min_disk")} == {
        "status": "queued", "size": None, "checksum": None, "ramdisk_id": ramdisk, "tags": ["a", "b"], "min_ram": 64,
        "min_disk": 0,
    }
    assert made["owner"] == project_of(alice)
    assert made["self"] == f"/v2/images/{made['id']}"
    assert made["created_at"].endswith("Z")
    assert alice("POST", "/images", 201, {})["visibility"] == "shared"


@pytest.mark.parametrize(("body", "status"), [
    ({"name": 5}, 400), ({"name": "x" * 256}, 400), ({"disk_format": "floppy"}, 400), ({"min_ram": -1}, 400),
    ({"min_disk": 2**31}, 400), ({"min_disk": True}, 400), ({"protected": "yes"}, 400), ({"tags": "a"}, 400),
    ({"tags": ["x" * 256]}, 400), ({"tags": [5]}, 400), ({"color": 5}, 400), ({"color": None}, 400),
    ({"kernel_id": "no"}, 400), ({"id": "no-uuid"}, 400), ({"visibility": "secret"}, 400), ({"x" * 256: "y"}, 400),
    ({"size": 5}, 403), ({"checksum": "x"}, 403), ({"status": "active"}, 403), ({"os_glance_x": "y"}, 403),
    ({"deleted": "x"}, 403), ({"locations": []}, 403), ({"owner": "another"}, 403), ({"visibility": "public"}, 403),
    ({"tags": [str(n) for n in range(129)]}, 413), ({f"p{n}": "v" for n in range(129)}, 413),
])
def test_bad_images_are_refused(alice: Images, body: dict[str, Any], status: int) -> None:
    alice("POST", "/images", status, body)


def test_bad_bodies_are_refused(alice: Images) -> None:
    for content in (b"", b"{", b"[]", b"5", b"\xff", b"null"):
        alice("POST", "/images", 400, content=content, headers={"Content-Type": "application/json"})


def test_an_id_of_ones_own_is_used_once(alice: Images, bob: Images) -> None:
    wanted = "aaaaaaaa-1111-2222-3333-444455556666"
    assert alice.create(id=wanted) == wanted
    bob("POST", "/images", 409, {"id": wanted})


def test_images_of_others_do_not_exist(alice: Images, bob: Images, images: Images) -> None:
    for visibility in ("private", "shared"):
        hers = alice.create(visibility=visibility)
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/file"), ("PUT", "/tags/x"), ("GET", "/members"),
                             ("POST", "/actions/deactivate")):
            bob(method, f"/images/{hers}{path}", 404)
        bob.patch(hers, {"op": "replace", "path": "/name", "value": "mine"}, status=404)
        bob.upload(hers, b"x", status=404)
        assert hers not in bob.ids()
        assert hers in images.ids("limit=1000")


def test_community_and_public_images(alice: Images, bob: Images, images: Images) -> None:
    hers = alice.create(visibility="community")
    assert hers in alice.ids("limit=1000")
    assert hers not in bob.ids("limit=1000")
    assert hers in bob.ids("visibility=community&limit=1000")
    assert hers in bob.ids("visibility=all&limit=1000")
    assert hers in bob.ids(f"owner={project_of(alice)}&limit=1000")
    bob("GET", f"/images/{hers}", 200)
    bob("DELETE", f"/images/{hers}", 403)
    bob.patch(hers, {"op": "replace", "path": "/name", "value": "mine"}, status=403)
    alice.patch(hers, {"op": "replace", "path": "/visibility", "value": "public"}, status=403)
    images.patch(hers, {"op": "replace", "path": "/visibility", "value": "public"})
    assert hers in bob.ids("limit=1000")
    alice("DELETE", f"/images/{hers}", 204)


def test_patch(alice: Images) -> None:
    made = alice.create(color="red", kernel_id=None)
    got = alice.patch(
        made, {"op": "replace", "path": "/name", "value": "new"}, {"op": "add", "path": "/a~1b", "value": "slash"},
        {"op": "remove", "path": "/color"}, {"op": "replace", "path": "/tags", "value": ["x"]},
        {"op": "add", "path": "/min_ram", "value": 5},
    )
    assert (got["name"], got["a/b"], got["tags"], got["min_ram"]) == ("new", "slash", ["x"], 5)
    assert "color" not in got
    assert alice("GET", f"/images/{made}", 200) == got


def test_patch_in_its_old_form(alice: Images) -> None:
    made = alice.create(color="red")
    old = {"Content-Type": "application/openstack-images-v2.0-json-patch"}
    path = f"/images/{made}"
    assert alice("PATCH", path, 200, [{"replace": "/name", "value": "new"}], headers=old)["name"] == "new"
    alice("PATCH", path, 409, [{"add": "/color", "value": "blue"}], headers=old)
    alice("PATCH", path, 409, [{"add": "/name", "value": "blue"}], headers=old)
    alice("PATCH", path, 400, [{"add": "/a", "remove": "/b", "value": "c"}], headers=old)


@pytest.mark.parametrize(("operation", "status"), [
    ({"op": "replace", "path": "/size", "value": 5}, 403), ({"op": "replace", "path": "/id", "value": "x"}, 403),
    ({"op": "add", "path": "/os_glance_x", "value": "y"}, 403), ({"op": "remove", "path": "/name"}, 403),
    ({"op": "replace", "path": "/owner", "value": "x"}, 403), ({"op": "add", "path": "/locations/-", "value": {}}, 403),
    ({"op": "replace", "path": "/locations", "value": []}, 403), ({"op": "remove", "path": "/tags"}, 403),
    ({"op": "remove", "path": "/missing"}, 409), ({"op": "replace", "path": "/missing", "value": "x"}, 409),
    ({"op": "move", "path": "/name", "value": "x"}, 400), ({"path": "/name", "value": "x"}, 400),
    ({"op": "replace", "path": "name", "value": "x"}, 400), ({"op": "replace", "path": "/a/b", "value": "x"}, 400),
    ({"op": "replace", "path": "/a~2", "value": "x"}, 400), ({"op": "replace", "path": "/name"}, 400),
    ({"op": "replace", "path": "/name", "value": 5}, 400), ({"op": "replace", "path": 5, "value": 5}, 400),
    ({"op": "add", "path": "/color", "value": {}}, 400), (5, 400),
])
def test_bad_patches_change_nothing(alice: Images, operation: Any, status: int) -> None:
    made = alice.create(name="before")
    alice.patch(made, {"op": "replace", "path": "/name", "value": "after"}, operation, status=status)
    assert alice("GET", f"/images/{made}", 200)["name"] == "before"


def test_patch_of_another_type_is_refused_with_the_right_ones(alice: Images) -> None:
    made = alice.create()
    alice("PATCH", f"/images/{made}", 415, [])
    alice.client.request("PATCH", f"/image/v2/images/{made}", content=b"{}")


def test_a_protected_image_stays(alice: Images) -> None:
    made = alice.create(protected=True)
    alice("DELETE", f"/images/{made}", 403)
    alice.patch(made, {"op": "replace", "path": "/protected", "value": False})
    alice("DELETE", f"/images/{made}", 204)
    alice("GET", f"/images/{made}", 404)
    alice("DELETE", f"/images/{made}", 404)


def test_an_empty_id_is_not_the_list(alice: Images) -> None:
    alice("GET", "/images/", 404)
    alice("DELETE", "/images/", 404)


def test_tags(alice: Images) -> None:
    made = alice.create()
    alice("PUT", f"/images/{made}/tags/red", 204)
    alice("PUT", f"/images/{made}/tags/red", 204)
    alice("PUT", f"/images/{made}/tags/{'x' * 256}", 400)
    assert alice.ids("tag=red") == [made]
    assert alice.ids("tag=red&tag=blue") == []
    alice("DELETE", f"/images/{made}/tags/red", 204)
    alice("DELETE", f"/images/{made}/tags/red", 404)


def test_members_are_asked(alice: Images, bob: Images) -> None:
    hers, his = alice.create(visibility="shared"), project_of(bob)
    made = alice("POST", f"/images/{hers}/members", 200, {"member": his})
    assert (made["status"], made["member_id"], made["image_id"]) == ("pending", his, hers)
    alice("POST", f"/images/{hers}/members", 409, {"member": his})
    alice("POST", f"/images/{hers}/members", 200, {"member": "somebody"})
    bob("GET", f"/images/{hers}", 200)
    assert hers not in bob.ids("limit=1000")
    assert hers in bob.ids("visibility=shared&member_status=pending")
    alice("PUT", f"/images/{hers}/members/{his}", 403, {"status": "accepted"})
    bob("PUT", f"/images/{hers}/members/{his}", 400, {"status": "maybe"})
    assert bob("PUT", f"/images/{hers}/members/{his}", 200, {"status": "accepted"})["status"] == "accepted"
    assert hers in bob.ids("limit=1000")
    assert [row["member_id"] for row in bob("GET", f"/images/{hers}/members", 200)["members"]] == [his]
    assert len(alice("GET", f"/images/{hers}/members", 200)["members"]) == 2
    bob("GET", f"/images/{hers}/members/somebody", 404)
    bob("POST", f"/images/{hers}/members", 403, {"member": "other"})
    bob("DELETE", f"/images/{hers}/members/{his}", 403)
    alice("DELETE", f"/images/{hers}/members/{his}", 204)
    bob("GET", f"/images/{hers}", 404)
    private = alice.create(visibility="private")
    alice("POST", f"/images/{private}/members", 403, {"member": his})


def test_filters(member: Any) -> None:
    carol: Images = member()
    small = carol.create(name="small", color="red", min_ram=1)
    large = carol.create(name="la,rge", disk_format="qcow2", os_hidden=False)
    hidden = carol.create(name="hidden", os_hidden=True)
    carol.upload(small, b"x" * 10)
    for query, wanted in {
        "name=small": {small}, 'name=in:small,"la,rge"': {small, large}, "status=active": {small},
        "status=in:active,queued": {small, large}, "size_min=5": {small}, "size_max=5": set(), "size=10": {small},
        "disk_format=qcow2": {large}, "color=red": {small}, "color=blue": set(), "os_hidden=true": {hidden},
        "min_ram=1": {small}, f"id=in:{small},{hidden}": {small}, "protected=false": {small, large},
        "created_at=gt:2020-01-01T00:00:00Z": {small, large}, "created_at=lt:2020-01-01T00:00:00Z": set(),
        "visibility=private": set(), "container_format=bare&status=queued": {large},
    }.items():
        assert set(carol.ids(query)) == wanted, query
    for bad in ("limit=x", "limit=-1", "sort_key=color", "sort_dir=up", "sort=name&sort_key=name", "size_min=x",
                "visibility=x", "member_status=x", "os_hidden=maybe", "created_at=gt:yesterday", 'name=in:"x',
                "marker=none", "changes-since=1", "sort_key=name&sort_dir=asc&sort_dir=asc", f"size={10**20}"):
        carol("GET", f"/images?{bad}", 400)


def test_sorting_and_pages(member: Any) -> None:
    dave: Images = member()
    made = [dave.create(name=name, min_ram=n) for n, name in enumerate("bacab")]
    order = sorted(zip("bacab", made, strict=True))
    assert [row["name"] for row in dave("GET", "/images?sort=name:asc", 200)["images"]] == list("aabbc")
    assert [row["name"] for row in dave("GET", "/images?sort_key=name", 200)["images"]] == list("cbbaa")
    assert dave.ids("sort=name:asc,id:asc") == [i for _, i in order]
    seen: list[str] = []
    path: str | None = "/images?limit=2&sort=name:asc,id:asc"
    while path:
        body = dave("GET", path, 200)
        seen += [row["id"] for row in body["images"]]
        path = body.get("next", "").removeprefix("/v2") or None
    assert seen == [i for _, i in order]
    assert dave("GET", "/images?limit=2", 200)["first"] == "/v2/images?limit=2"


def test_schemas_and_info(alice: Images) -> None:
    for name in ("image", "images", "member", "members", "task", "tasks"):
        assert alice("GET", f"/schemas/{name}", 200)["name"] == name
    alice("GET", "/schemas/metadefs", 404)
    assert alice("GET", "/info/import", 200)["import-methods"]["value"] == ["glance-direct", "web-download"]
    alice("GET", "/info/stores", 404)
    alice("GET", "/tasks", 403)


def test_a_list_of_a_thousand_takes_as_many_statements_as_one_of_ten(cloud: Any, member: Any) -> None:
    from pileus.image.images import new_row, set_properties, set_tags
    from pileus.image.tables import image

    erin: Images = member()
    owner = project_of(erin)

    def fill(tx: Any, count: int) -> None:
        for number in range(count):
            row = new_row(cloud, owner=owner, name=f"i{number}")
            tx.execute(image.insert(), row)
            set_properties(tx, row["id"], {"a": "b", "c": "d"})
            set_tags(tx, row["id"], ["t"])

    def sent(count: int) -> int:
        with counted(cloud.db) as statements:
            assert len(erin.ids("limit=1000")) == count
        return len(statements)

    cloud.db.run_sync(lambda tx: fill(tx, 10))
    few = sent(10)
    cloud.db.run_sync(lambda tx: fill(tx, 990))
    assert 0 < sent(1000) <= few + NOW_AND_THEN
