"""While the database is away every service answers 503 in its own shape, and says when to come again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.db.engine import OutcomeUnknown, Retry, Unreachable
from tests.api.conftest import Client

Shape = Callable[[Any], str]

_SHAPES: dict[str, Shape] = {
    "/identity/v3/projects": lambda body: body["error"]["message"],
    "/compute/v2.1/servers": lambda body: next(iter(body.values()))["message"],
    "/network/v2.0/networks": lambda body: body["NeutronError"]["message"],
    "/placement/resource_providers": lambda body: body["errors"][0]["detail"],
}


@pytest.mark.parametrize("path", [*_SHAPES, "/image/v2/images"])
@pytest.mark.parametrize(
    ("error", "again", "words"),
    [
        (Unreachable("the database mysql://db/pileus cannot be reached"), "5", "nothing was changed"),
        (OutcomeUnknown("lost"), "15", "may have been done or not"),
        (Retry(), "1", "nothing was changed"),
        (sa.exc.OperationalError("x", {}, Exception(1213, "Deadlock found")), "1", "nothing was changed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_503(
    admin: Client, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, path: str, error: Exception, again: str, words: str
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(cloud.db, "run", away)
    reply = admin.get(path, headers={"Accept": "application/json"})
    assert reply.status_code == 503, reply.text
    assert reply.headers["Retry-After"] == again
    assert words in (_SHAPES[path](reply.json()) if path in _SHAPES else reply.text)
    assert "mysql" not in reply.text
