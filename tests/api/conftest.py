"""The real application in process, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pileus.cloud import Cloud
from pileus.settings import Settings
from pileus.web.app import App

PASSWORD = "a secret for tests"


class Client:
    """Speaks to the application as its users do: a token, paths, JSON."""

    def __init__(self, app: App, loop: asyncio.AbstractEventLoop, token: str | None = None) -> None:
        self.app, self.loop, self.token = app, loop, token
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://cloud.test")

    def request(self, method: str, path: str, *, version: str | None = None, **options: Any) -> httpx.Response:
        """One request; `version` is sent as OpenStack-API-Version of the path's service."""
        headers = dict(options.pop("headers", None) or {})
        if self.token:
            headers.setdefault("X-Auth-Token", self.token)
        if version:
            headers["OpenStack-API-Version"] = f"{path.strip('/').split('/')[0]} {version}"
        return self.loop.run_until_complete(self.http.request(method, path, headers=headers, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=json, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self.request("PUT", path, json=json, **options)

    def patch(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self.request("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def login(
        self, user: str, password: str, project: str | None = None, *, domain: str = "default",
        scope: dict[str, Any] | None = None,
    ) -> Client:
        """A client with a token of its own. Fails the test when the login is refused."""
        body: dict[str, Any] = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": {"id": domain}, "password": password}},
            }
        }
        if project:
            scope = {"project": {"name": project, "domain": {"id": domain}}}
        if scope:
            body["scope"] = scope
        reply = self.post("/identity/v3/auth/tokens", {"auth": body})
        assert reply.status_code == 201, reply.text
        return Client(self.app, self.loop, reply.headers["x-subject-token"])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Cloud]:
    """A fresh cloud with the fake hypervisor and cheap password hashes."""
    state: Path = tmp_path_factory.mktemp("cloud")
    settings = Settings(
        state_dir=str(state), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        listen="cloud.test:80", public_url="http://cloud.test", database=database_url,
    )
    cloud = Cloud(settings)
    cloud.open()
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def anonymous(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Client:
    return Client(App(cloud, cloud.served, {}), loop)


@pytest.fixture(scope="module")
def admin(anonymous: Client) -> Client:
    """The administrator, in project `admin`."""
    return anonymous.login("admin", PASSWORD, "admin")
