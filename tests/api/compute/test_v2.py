"""/v2: the API of 2.1 without microversions, for clients that are older than those."""

from __future__ import annotations

import json

from pileus.cloud import Cloud
from tests.api.compute.people import join
from tests.api.compute.rows import add_server
from tests.api.conftest import Client


def test_it_answers_as_2_1_whatever_version_is_asked_for(cloud: Cloud, anonymous: Client) -> None:
    person = join(cloud, anonymous)
    server_id = add_server(cloud, person.project_id)
    old = person.client.get(f"/compute/v2.1/servers/{server_id}", version="2.1")
    for version in (None, "2.1", "2.96", "9.9", "rubbish"):
        found = person.client.get(f"/compute/v2/servers/{server_id}", version=version)
        assert found.status_code == 200
        assert found.json() == json.loads(old.text.replace("/v2.1/", "/v2/"))
        assert "openstack-api-version" not in found.headers
        assert "x-openstack-nova-api-version" not in found.headers
    assert "openstack-api-version" in old.headers


def test_what_came_with_microversions_is_not_there(cloud: Cloud, admin: Client) -> None:
    server_id = add_server(cloud, "p")
    assert admin.get(f"/compute/v2/servers/{server_id}/tags", version="2.96").status_code == 404
    assert admin.get(f"/compute/v2/servers/{server_id}/topology", version="2.96").status_code == 404


def test_it_asks_for_a_token_too(anonymous: Client) -> None:
    assert anonymous.get("/compute/v2").status_code == 200
    assert anonymous.get("/compute/v2/servers").status_code == 401


def test_it_is_advertised_without_versions(anonymous: Client) -> None:
    first = anonymous.get("/compute/").json()["versions"][0]
    assert (first["id"], first["status"], first["version"], first["min_version"]) == ("v2.0", "SUPPORTED", "", "")


def test_its_links_stay_in_it(cloud: Cloud, admin: Client) -> None:
    for _ in range(2):
        add_server(cloud, admin.get("/identity/v3/projects?name=admin").json()["projects"][0]["id"])
    for path in ("servers?limit=1", "servers/detail?limit=1", "flavors?limit=1"):
        listed = admin.get(f"/compute/v2/{path}").text
        assert "/compute/v2/" in listed
        assert "v2.1" not in listed
