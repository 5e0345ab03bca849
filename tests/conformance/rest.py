"""A client of the cloud's APIs, small enough to need nothing but the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.conformance.config import Administrator


class CloudError(RuntimeError):
    """The cloud did not do what was asked, or is not as it has to be."""


class Session:
    """A token of the administrator and the catalog that came with it."""

    def __init__(self, administrator: Administrator) -> None:
        self.administrator = administrator
        domain = {"name": administrator.domain}
        user = {"name": administrator.username, "password": administrator.password, "domain": domain}
        scope = {"project": {"name": administrator.project, "domain": domain}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        headers, reply = send("POST", f"{administrator.auth_url}/auth/tokens", {"auth": auth})
        self._token = headers["X-Subject-Token"]
        self.catalog: dict[str, str] = {
            entry["type"]: endpoint["url"].rstrip("/")
            for entry in reply["token"]["catalog"]
            for endpoint in entry["endpoints"]
            if endpoint["interface"] == "public"
        }

    def call(self, method: str, service: str, path: str, body: Any = None) -> Any:
        """Send a request to a service of the catalog and return the decoded reply. Raises CloudError."""
        if service not in self.catalog:
            raise CloudError(f"the catalog has no '{service}' service; it has {sorted(self.catalog)}")
        return send(method, self.catalog[service] + path, body, {"X-Auth-Token": self._token})[1]


def send(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[Any, Any]:
    """Send a request; bytes go as they are, anything else as JSON. Returns headers and decoded reply.

    300 counts as an answer, because that is how version lists come; any other status from there on raises
    CloudError.
    """
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    request = urllib.request.Request(url, data, {"Content-Type": kind, **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.headers, _decode(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
            if error.code == 300:
                return error.headers, _decode(text)
        raise CloudError(f"{method} {url}: {error.code} {text[:300].decode(errors='replace')}") from error
    except OSError as error:
        raise CloudError(f"{method} {url}: {error}") from error


def _decode(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
