"""The same mistakes in every service: each its right 4xx, in that service's own wire shape."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pileus.world import World
from tests.api.bad_input.inhabited import CINDER, V20, V21, Inhabited, inhabited
from tests.api.conftest import PASSWORD, Client


def _identity(reply: Any) -> None:
    error = reply.json()["error"]
    assert error["code"] == reply.status_code
    assert set(error) >= {"code", "title", "message"}


def _compute(reply: Any) -> None:
    [(name, fault)] = reply.json().items()
    assert fault["code"] == reply.status_code
    assert fault["message"]
    names = {400: "badRequest", 404: "itemNotFound", 413: "overLimit", 401: "unauthorized"}
    assert name == names[reply.status_code]


def _network(reply: Any) -> None:
    error = reply.json()["NeutronError"]
    assert set(error) == {"type", "message", "detail"}
    assert error["message"]


def _placement(reply: Any) -> None:
    [error] = reply.json()["errors"]
    assert error["status"] == reply.status_code
    assert set(error) >= {"status", "title", "detail", "request_id"}


def _image(reply: Any) -> None:
    """WebOb's page: HTML, plain text or JSON, as the caller accepts."""
    error = reply.json()
    assert error["code"].startswith(str(reply.status_code))
    assert set(error) >= {"message", "code", "title"}


class Service:
    """Where a service takes one resource, and what its faults look like."""

    def __init__(
        self, name: str, path: str, body: dict[str, Any], wrong: dict[str, Any], unknown: dict[str, Any],
        one: str, kind: str, shape: Callable[[Any], None],
    ) -> None:
        self.name, self.path, self.body, self.wrong, self.unknown = name, path, body, wrong, unknown
        self.one, self.kind, self.shape = one, kind, shape


V3, V2 = "/identity/v3", "/image/v2"
SERVICES = [
    Service("identity", f"{V3}/roles", {"role": {"name": "x"}}, {"role": {"name": 7}}, {"roles": {"name": "x"}},
            f"{V3}/projects/{{}}", "project", _identity),
    Service("image", f"{V2}/images", {"name": "x"}, {"name": 7}, {"id": "no uuid"},
            f"{V2}/images/{{}}", "image", _image),
    Service("placement", "/placement/resource_providers", {"name": "x"}, {"name": 7}, {"name": "x", "colour": "red"},
            "/placement/resource_providers/{}", "provider", _placement),
    Service("network", f"{V20}/networks", {"network": {"name": "x"}}, {"network": {"name": 7}},
            {"network": {"colour": "red"}}, f"{V20}/networks/{{}}", "network", _network),
    Service("compute", f"{V21}/os-keypairs", {"keypair": {"name": "x"}}, {"keypair": {"name": 7}},
            {"keypair": {"name": "x", "colour": "red"}}, f"{V21}/servers/{{}}", "server", _compute),
    Service("volume", f"{CINDER}/types", {"volume_type": {"name": "x"}}, {"volume_type": {"name": 7}},
            {"volume_types": {"name": "x"}}, f"{CINDER}/volumes/{{}}", "volume", _compute),
]
each = pytest.mark.parametrize("service", SERVICES, ids=[service.name for service in SERVICES])
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, loop: asyncio.AbstractEventLoop, database_url: str
) -> Iterator[Inhabited]:
    with inhabited(tmp_path_factory.mktemp("cloud"), loop, database_url) as place:
        yield place


def _refused(service: Service, client: Client, status: int, method: str, path: str, **options: Any) -> None:
    headers = {**JSON, **options.pop("headers", {})}
    reply = client.request(method, path, headers=headers, **options)
    assert reply.status_code == status, f"{reply.status_code} {reply.text}"
    assert reply.headers["x-openstack-request-id"].startswith("req-")
    service.shape(reply)


@each
def test_what_is_right_is_taken(place: Inhabited, service: Service) -> None:
    assert place.admin.post(service.path, service.body).status_code in (200, 201)


@each
def test_a_body_over_the_limit(place: Inhabited, service: Service) -> None:
    _refused(service, place.admin, 413, "POST", service.path, content=b'{"a": "' + b"x" * 70_000 + b'"}')


@each
@pytest.mark.parametrize("content", [b"", b"{", b"nul", b"\xff", b'{"a": "\\ud800"}', b"[" * 30_000, b"{}{}"])
def test_a_body_that_is_no_json(place: Inhabited, service: Service, content: bytes) -> None:
    _refused(service, place.admin, 400, "POST", service.path, content=content)


@each
def test_an_unknown_field(place: Inhabited, service: Service) -> None:
    _refused(service, place.admin, 400, "POST", service.path, json=service.unknown)


@each
@pytest.mark.parametrize("body", [None, [], "text", 7, {"role": None, "network": [], "keypair": 7, "name": []}])
def test_a_wrong_type(place: Inhabited, service: Service, body: Any) -> None:
    _refused(service, place.admin, 400, "POST", service.path, json=service.wrong)
    _refused(service, place.admin, 400, "POST", service.path, json=body, content=b"null" if body is None else None)


@each
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_id(place: Inhabited, service: Service, method: str) -> None:
    for unknown in (str(uuid.uuid4()), uuid.uuid4().hex, "%F0%9F%8C%80", "a" * 300, "..%2F..%2Fetc", "0", "-1"):
        _refused(service, place.admin, 404, method, service.one.format(unknown))


@pytest.mark.parametrize("service", SERVICES[1:2] + SERVICES[3:], ids=["image", "network", "compute", "volume"])
def test_another_projects_id(place: Inhabited, service: Service) -> None:
    alice, bob = place.callers["alice"], place.callers["bob"]
    shown = bob.get(service.one.format("").rstrip("/"), headers=JSON).json()
    rows = next(value for value in shown.values() if isinstance(value, list))
    [theirs] = [row["id"] for row in rows if row["name"] == "bob"]
    path = service.one.format(theirs)
    assert bob.get(path).status_code == 200
    for method in ("GET", "DELETE"):
        _refused(service, alice, 404, method, path)
    assert bob.get(path).status_code == 200


def test_another_project_itself(place: Inhabited) -> None:
    """Identity's answer is 403, whether or not there is such a project, so that nothing is learnt from it."""
    alice, bob = place.callers["alice"], place.callers["bob"]
    [theirs] = bob.get(f"{V3}/auth/projects").json()["projects"]
    texts = set()
    for project in (theirs["id"], uuid.uuid4().hex):
        reply = alice.get(f"{V3}/projects/{project}")
        assert reply.status_code == 403
        _identity(reply)
        texts.add(reply.text)
    assert len(texts) == 1


def test_placement_is_not_for_members(place: Inhabited) -> None:
    for path in ("/placement/resource_providers", f"/placement/resource_providers/{place.ids['provider'][0]}"):
        reply = place.callers["alice"].get(path)
        assert reply.status_code == 403
        _placement(reply)


@each
def test_no_token_and_a_forged_one(place: Inhabited, service: Service) -> None:
    good = place.admin.token or ""
    middle = len(good) // 2
    swapped = "A" if good[middle] != "A" else "B"
    tampered: list[Any] = [
        good[:middle] + swapped + good[middle + 1:], good[:-8], good + "A", good[::-1], "é".encode(), b"\xff\xfe",
        "gAAAAA", " ", "a" * 5000,
    ]
    for token in tampered:
        headers = {"X-Auth-Token": token}
        _refused(service, place.anonymous, 401, "GET", service.one.format(place.ids[service.kind][0]), headers=headers)
    _refused(service, place.anonymous, 401, "GET", service.one.format(place.ids[service.kind][0]))


@each
def test_an_expired_token(place: Inhabited, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    client = place.anonymous.login("admin", PASSWORD, "admin")
    path = service.one.format(place.ids[service.kind][0])
    assert client.get(path).status_code == 200
    now = World().now()
    monkeypatch.setattr(place.cloud.world, "now", lambda: now + place.cloud.settings.token_hours * 3600 + 1)
    _refused(service, client, 401, "GET", path)


def test_ec2_has_a_shape_of_its_own(place: Inhabited) -> None:
    """Its requests are signed; what a wrong one gets is told in tests/api/ec2."""
    for method, path, status in (("GET", "/ec2", 400), ("PUT", "/ec2", 405), ("GET", "/ec2/nowhere", 404)):
        reply = place.admin.request(method, path)
        assert reply.status_code == status
        assert reply.headers["content-type"].startswith("text/xml")
        assert reply.text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>')
