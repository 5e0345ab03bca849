"""Tokens."""

from __future__ import annotations

from benchmarks.client import in_turns, of_first, rates
from benchmarks.lab import bare, running
from benchmarks.promises import Measured


async def measure() -> list[Measured]:
    """Validate and issue at 16 clients, against an ASGI "hello" in the same run."""
    async with running() as cloud:
        http, headers = cloud.http, {"X-Subject-Token": cloud.token}
        with bare() as hello:
            turns = await in_turns(
                lambda: hello.ok("GET", "/"),
                lambda: http.ok("GET", "/identity/v3/auth/tokens", cloud.token, headers=headers),
                lambda: http.ok("POST", "/identity/v3/auth/tokens", body=cloud.credentials()),
            )
    return [
        Measured("validate a token, 16 clients, of bare", of_first(turns, 1), "", 1 / 5, True, rates(turns, 1)),
        Measured("issue a token by password, the same user again, of bare", of_first(turns, 2), "", 1 / 20, True,
                 f"{rates(turns, 2)}; bcrypt 12 rounds"),
    ]
