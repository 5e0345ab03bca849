"""What the specifications of image share."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import Client

V2 = "/image/v2"
BINARY = {"Content-Type": "application/octet-stream"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}


def qcow2(backing: bool = False, size: int = 1 << 20) -> bytes:
    """A qcow2 header of version 3 and one empty cluster."""
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 512 if backing else 0, 5 if backing else 0, 16, size, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 4, 104,
    )
    return head + bytes(65536 - len(head))


class Images:
    """One caller's view of the image service."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def __call__(self, method: str, path: str, status: int, json: Any = None, **options: Any) -> Any:
        """One request that must end in `status`; its JSON body."""
        if json is not None:
            options["json"] = json
        headers = {"Accept": "application/json", **options.pop("headers", {})}
        reply = self.client.request(method, V2 + path, headers=headers, **options)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content and "json" in reply.headers["content-type"] else None

    def create(self, **attributes: Any) -> str:
        """A queued raw image's id."""
        body = {"name": "n", "disk_format": "raw", "container_format": "bare", **attributes}
        return str(self("POST", "/images", 201, body)["id"])

    def upload(self, image: str, content: bytes, status: int = 204) -> None:
        """PUT the content."""
        self("PUT", f"/images/{image}/file", status, content=content, headers=BINARY)

    def patch(self, image: str, *operations: dict[str, Any], status: int = 200) -> Any:
        """PATCH, in the new form."""
        return self("PATCH", f"/images/{image}", status, list(operations), headers=PATCH)

    def status(self, image: str) -> str:
        """The image's status."""
        return str(self("GET", f"/images/{image}", 200)["status"])

    def ids(self, query: str = "") -> list[str]:
        """The ids of a list."""
        return [row["id"] for row in self("GET", f"/images?{query}", 200)["images"]]


@pytest.fixture(scope="module")
def images(admin: Client) -> Images:
    """The administrator's view."""
    return Images(admin)


@pytest.fixture(scope="module")
def member(admin: Client, anonymous: Client) -> Callable[[], Images]:
    """Makes users with the role member, each in a project of its own."""

    def make() -> Images:
        name = "m-" + uuid.uuid4().hex
        project = admin.post("/identity/v3/projects", {"project": {"name": name}}).json()["project"]["id"]
        user = admin.post("/identity/v3/users", {"user": {"name": name, "password": "secret"}}).json()["user"]["id"]
        roles = admin.get("/identity/v3/roles?name=member").json()["roles"]
        reply = admin.put(f"/identity/v3/projects/{project}/users/{user}/roles/{roles[0]['id']}")
        assert reply.status_code == 204, reply.text
        return Images(anonymous.login(name, "secret", name))

    return make


@pytest.fixture(scope="module")
def alice(member: Callable[[], Images]) -> Images:
    return member()


@pytest.fixture(scope="module")
def bob(member: Callable[[], Images]) -> Images:
    return member()


def project_of(someone: Images) -> str:
    """The caller's project."""
    token = someone.client.token or ""
    reply = someone.client.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": token})
    return str(reply.json()["token"]["project"]["id"])
