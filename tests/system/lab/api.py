"""The APIs of a lab's cloud over HTTP, asked as its administrator from the lab's client."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import httpx
import yaml

from pileus.lab import Lab


class Api:
    """In a `with` block; the calling thread is in the client's network for it."""

    def __init__(self, lab: Lab) -> None:
        self._inside = lab.client.inside()
        self._auth: dict[str, Any] = yaml.safe_load(lab.clouds.read_text())["clouds"]["pileus-admin"]["auth"]
        self.http = httpx.Client(timeout=30.0)
        self.urls: dict[str, str] = {}
        self.token = ""

    def __enter__(self) -> Api:
        self._inside.__enter__()
        self.login()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()
        self._inside.__exit__(kind, error, trace)

    def login(self) -> None:
        """A token, and where each service is."""
        user = {"name": "admin", "domain": {"id": "default"}, "password": self._auth["password"]}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        reply = self.http.post(f"{self._auth['auth_url']}/auth/tokens", json={
            "auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope},
        })
        assert reply.status_code == 201, reply.text
        self.token = reply.headers["x-subject-token"]
        for service in reply.json()["token"]["catalog"]:
            self.urls[service["type"]] = next(e["url"] for e in service["endpoints"] if e["interface"] == "public")

    def ask(self, method: str, service: str, path: str, body: Any = None, *, ok: bool = True, **options: Any) -> Any:
        """One request: the reply's JSON, or None. With `ok`, anything but success fails the test."""
        reply = self.send(method, service, path, body, **options)
        if ok:
            assert reply.status_code < 400, f"{method} {service}{path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content and "json" in reply.headers.get("content-type", "") else None

    def send(self, method: str, service: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """One request, whatever comes of it. Raises httpx.HTTPError when nobody answers."""
        headers = {"X-Auth-Token": self.token, **options.pop("headers", {})}
        return self.http.request(method, f"{self.urls[service]}{path}", json=body, headers=headers, **options)
