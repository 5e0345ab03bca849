"""Regions, services, endpoints, policies, limits, and the roots of the API."""

from __future__ import annotations

import pytest

from tests.api.conftest import Client
from tests.api.identity.people import V3, grant, made, on_project, session


@pytest.mark.parametrize(("path", "status"), [
    ("/identity", 300), ("/identity/", 300), ("/identity/v3", 200), ("/identity/v3/", 200),
])
def test_discovery(anonymous: Client, path: str, status: int) -> None:
    reply = anonymous.get(path)
    assert reply.status_code == status
    version = reply.json()["version"] if status == 200 else reply.json()["versions"]["values"][0]
    assert version["links"][0]["href"] == "http://cloud.test/identity/v3/"
    assert version["status"] == "stable"


def test_regions(admin: Client) -> None:
    reply = admin.put(f"{V3}/regions/north", {"region": {"description": "cold"}})
    assert reply.status_code == 201
    assert reply.json()["region"]["id"] == "north"
    assert admin.put(f"{V3}/regions/north", {"region": {}}).status_code == 409
    assert admin.put(f"{V3}/regions/south", {"region": {"id": "east"}}).status_code == 400
    child = admin.post(f"{V3}/regions", {"region": {"parent_region_id": "north"}}).json()["region"]
    assert child["parent_region_id"] == "north"
    assert child["id"]
    listed = admin.get(f"{V3}/regions?parent_region_id=north").json()["regions"]
    assert [row["id"] for row in listed] == [child["id"]]
    round_trip = {"region": {"parent_region_id": child["id"]}}
    assert admin.patch(f"{V3}/regions/north", round_trip).status_code == 400
    assert admin.post(f"{V3}/regions", {"region": {"parent_region_id": "nowhere"}}).status_code == 404
    assert admin.delete(f"{V3}/regions/north").status_code == 204
    assert admin.get(f"{V3}/regions/{child['id']}").status_code == 404


def test_services_and_endpoints_make_the_catalog(admin: Client) -> None:
    service = made(admin, "services", type="oven", description="hot")
    wanted = {
        "service_id": service["id"], "interface": "public", "region": "kitchen", "enabled": True,
        "url": "http://oven.test/v1/%(project_id)s",
    }
    reply = admin.post(f"{V3}/endpoints", {"endpoint": wanted})
    assert reply.status_code == 201
    endpoint = reply.json()["endpoint"]
    assert endpoint["region"] == endpoint["region_id"] == "kitchen"
    assert endpoint["url"] == wanted["url"]
    assert admin.get(f"{V3}/regions/kitchen").status_code == 200
    assert admin.delete(f"{V3}/regions/kitchen").status_code == 403

    def oven() -> list[str]:
        rows = admin.get(f"{V3}/auth/catalog").json()["catalog"]
        return [one["url"] for row in rows if row["type"] == "oven" for one in row["endpoints"]]

    assert len(oven()) == 1
    assert "%(" not in oven()[0]
    path = f"{V3}/endpoints/{endpoint['id']}"
    assert admin.patch(path, {"endpoint": {"enabled": False}}).json()["endpoint"]["enabled"] is False
    assert oven() == []
    assert admin.get(f"{V3}/endpoints?enabled=false&interface=public").json()["endpoints"][0]["id"] == endpoint["id"]
    changed = admin.patch(path, {"endpoint": {"enabled": True, "region": "hall", "url": "http://o"}}).json()["endpoint"]
    assert changed["region_id"] == "hall"
    assert oven() == ["http://o"]
    renamed = admin.patch(f"{V3}/services/{service['id']}", {"service": {"name": "stove", "enabled": False}})
    assert renamed.json()["service"].items() <= admin.get(f"{V3}/services/{service['id']}").json()["service"].items()
    assert oven() == []
    assert admin.delete(path).status_code == 204
    for gone in ("regions/hall", "regions/kitchen", f"services/{service['id']}"):
        assert admin.delete(f"{V3}/{gone}").status_code == 204
    assert admin.get(f"{V3}/services/{service['id']}").status_code == 404


@pytest.mark.parametrize("wrong", [
    {"interface": "secret"}, {"service_id": "none"}, {"url": ""}, {"url": "x"}, {"url": "http://x/%(password)s"},
    {"url": "http://["}, {"region_id": "nowhere"}, {"enabled": "yes"},
])
def test_what_an_endpoint_cannot_be(admin: Client, wrong: dict[str, object]) -> None:
    service = admin.get(f"{V3}/services?type=identity").json()["services"][0]["id"]
    good = {"service_id": service, "interface": "public", "url": "http://x"}
    assert admin.post(f"{V3}/endpoints", {"endpoint": {**good, **wrong}}).status_code == 400


def test_policies(admin: Client) -> None:
    reply = admin.post(f"{V3}/policies", {"policy": {"blob": "text", "type": "application/json"}})
    assert reply.status_code == 201
    path = f"{V3}/policies/{reply.json()['policy']['id']}"
    assert admin.patch(path, {"policy": {"type": "other"}}).json()["policy"]["type"] == "other"
    assert admin.get(path).json()["policy"]["blob"] == "text"
    assert admin.delete(path).status_code == 204
    assert admin.get(path).status_code == 404


def test_plain_users_do_not_touch_the_catalog(admin: Client, anonymous: Client) -> None:
    user, project = made(admin, "users", password="secret"), made(admin, "projects")
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "member")
    own = session(anonymous, user, on_project(project["id"]))
    assert own.get(f"{V3}/regions").status_code == 200
    assert own.get(f"{V3}/services").status_code == 403
    assert own.get(f"{V3}/endpoints").status_code == 403
    assert own.post(f"{V3}/regions", {"region": {"id": "mine"}}).status_code == 403
    assert own.post(f"{V3}/services", {"service": {"type": "mine"}}).status_code == 403


def test_limits_stand_over_registered_ones(admin: Client, anonymous: Client) -> None:
    service = made(admin, "services", type="stable")
    base = {"service_id": service["id"], "resource_name": "horses", "default_limit": 3}
    reply = admin.post(f"{V3}/registered_limits", {"registered_limits": [base]})
    assert reply.status_code == 201
    registered = reply.json()["registered_limits"][0]
    assert admin.post(f"{V3}/registered_limits", {"registered_limits": [base]}).status_code == 409
    project, user = made(admin, "projects"), made(admin, "users", password="secret")
    own_limit = {
        "service_id": service["id"], "resource_name": "horses", "resource_limit": 5, "project_id": project["id"],
    }
    for wrong in ({"resource_name": "cows"}, {"project_id": "none"}, {"domain_id": "default"}, {"resource_limit": -2}):
        assert admin.post(f"{V3}/limits", {"limits": [{**own_limit, **wrong}]}).status_code == 400
    made_limit = admin.post(f"{V3}/limits", {"limits": [own_limit]})
    assert made_limit.status_code == 201
    limit = made_limit.json()["limits"][0]
    assert admin.post(f"{V3}/limits", {"limits": [own_limit]}).status_code == 409
    grant(admin, f"projects/{project['id']}", f"users/{user['id']}", "member")
    own = session(anonymous, user, on_project(project["id"]))
    assert [row["id"] for row in own.get(f"{V3}/limits").json()["limits"]] == [limit["id"]]
    assert own.get(f"{V3}/limits/{limit['id']}").json()["limit"]["resource_limit"] == 5
    assert own.patch(f"{V3}/limits/{limit['id']}", {"limit": {"resource_limit": 99}}).status_code == 403
    assert own.get(f"{V3}/limits/model").json()["model"]["name"] == "flat"
    changed = admin.patch(f"{V3}/limits/{limit['id']}", {"limit": {"resource_limit": 8}})
    assert changed.json()["limit"]["resource_limit"] == 8
    path = f"{V3}/registered_limits/{registered['id']}"
    assert admin.delete(path).status_code == 403
    raised = admin.patch(path, {"registered_limit": {"default_limit": 4}}).json()["registered_limit"]
    assert raised["default_limit"] == 4
    assert admin.delete(f"{V3}/projects/{project['id']}").status_code == 204
    assert admin.get(f"{V3}/limits/{limit['id']}").status_code == 404
    assert admin.delete(path).status_code == 204
