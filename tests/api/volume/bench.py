"""Volumes and snapshots as a user has them: made, acted upon, waited for."""

from __future__ import annotations

from typing import Any

from tests.api.compute.guests import eventually
from tests.api.conftest import Client

V3 = "/volume/v3"
NEWEST = "3.71"


class Volumes:
    """Speaks to /volume/v3 with one client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get(self, path: str, version: str = NEWEST) -> Any:
        """GET, which must work; the decoded body."""
        reply = self.client.get(V3 + path, version=f"{version}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def post(self, path: str, body: Any, version: str = NEWEST) -> Any:
        """POST, whatever it answers."""
        return self.client.post(V3 + path, body, version=version)

    def ask(self, version: str = NEWEST, **fields: Any) -> Any:
        """POST /volumes, whatever it answers."""
        fields.setdefault("size", 1)
        return self.post("/volumes", {"volume": {k: v for k, v in fields.items() if v is not None}}, version)

    def make(self, status: str = "available", **fields: Any) -> str:
        """A volume with this status; its id."""
        reply = self.ask(**fields)
        assert reply.status_code == 202, reply.text
        made: str = reply.json()["volume"]["id"]
        self.settled(made, status)
        return made

    def show(self, volume_id: str, version: str = NEWEST) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/volumes/{volume_id}", version)["volume"]
        return found

    def settled(self, volume_id: str, status: str) -> dict[str, Any]:
        """The volume once it has this status."""

        def test() -> Any:
            found = self.show(volume_id)
            assert found["status"] == status or "error" not in found["status"], found
            return found if found["status"] == status else None

        found: dict[str, Any] = eventually(self.client, test)
        return found

    def act(self, volume_id: str, action: str, value: Any = None, version: str = NEWEST) -> Any:
        """POST …/action."""
        return self.post(f"/volumes/{volume_id}/action", {action: value}, version)

    def gone(self, volume_id: str, noun: str = "volumes") -> None:
        """Wait until it is not found."""
        path = f"{V3}/{noun}/{volume_id}"
        eventually(self.client, lambda: self.client.get(path).status_code == 404)

    def drop(self, volume_id: str) -> None:
        """Delete a volume, and wait until that is done."""
        reply = self.client.delete(f"{V3}/volumes/{volume_id}")
        assert reply.status_code == 202, reply.text
        self.gone(volume_id)

    def snap(self, volume_id: str, status: str = "available", **fields: Any) -> str:
        """A snapshot with this status; its id."""
        reply = self.post("/snapshots", {"snapshot": {"volume_id": volume_id, **fields}})
        assert reply.status_code == 202, reply.text
        made: str = reply.json()["snapshot"]["id"]
        self.snapshot(made, status)
        return made

    def snapshot(self, snapshot_id: str, status: str) -> dict[str, Any]:
        """The snapshot once it has this status."""

        def test() -> Any:
            found = self.get(f"/snapshots/{snapshot_id}")["snapshot"]
            return found if found["status"] == status else None

        found: dict[str, Any] = eventually(self.client, test)
        return found

    def refused(self, reply: Any, status: int, *words: str) -> None:
        """The reply is this error, and says so."""
        assert reply.status_code == status, reply.text
        [(name, fault)] = reply.json().items()
        assert fault["code"] == status, reply.text
        assert name in ("badRequest", "itemNotFound", "forbidden", "overLimit", "conflictingRequest"), name
        for word in words:
            assert word in fault["message"], fault["message"]
