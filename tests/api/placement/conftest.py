"""What the specifications of placement share."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import Client

ROOT = "/placement"
LATEST = "1.39"


class Placement:
    """The administrator, at the latest version."""

    def __init__(self, admin: Client) -> None:
        self.admin = admin

    def __call__(
        self, method: str, path: str, status: int, json: Any = None, version: str = LATEST, **options: Any
    ) -> Any:
        """One request that must end in `status`; its body."""
        reply = self.admin.request(method, ROOT + path, version=version, json=json, **options)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def provider(
        self, parent: str | None = None, traits: tuple[str, ...] = (), aggregates: tuple[str, ...] = (),
        **amounts: Any,
    ) -> str:
        """A new provider's id; an amount is a total or a whole inventory."""
        name = "p-" + uuid.uuid4().hex
        made = self("POST", "/resource_providers", 200, {"name": name, "parent_provider_uuid": parent})["uuid"]
        inventories = {k: v if isinstance(v, dict) else {"total": v} for k, v in amounts.items()}
        self("PUT", f"/resource_providers/{made}/inventories", 200,
             {"resource_provider_generation": 0, "inventories": inventories})
        generation = 1
        if traits:
            self("PUT", f"/resource_providers/{made}/traits", 200,
                 {"resource_provider_generation": generation, "traits": list(traits)})
            generation += 1
        if aggregates:
            self("PUT", f"/resource_providers/{made}/aggregates", 200,
                 {"resource_provider_generation": generation, "aggregates": list(aggregates)})
        return str(made)

    def allocate(
        self, consumer: str, resources: dict[str, dict[str, int]], status: int = 204, generation: int | None = None,
        kind: str = "INSTANCE", project: str = "a-project",
    ) -> Any:
        """PUT /allocations of a consumer."""
        return self("PUT", f"/allocations/{consumer}", status, {
            "allocations": {p: {"resources": r} for p, r in resources.items()}, "consumer_type": kind,
            "consumer_generation": generation, "project_id": project, "user_id": "a-user",
        })


@pytest.fixture(scope="module")
def placement(admin: Client) -> Placement:
    return Placement(admin)


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: str(uuid.uuid4())
