"""Tokens."""

from __future__ import annotations

from benchmarks.client import rate
from benchmarks.lab import bare, running
from benchmarks.promises import Measured


async def measure() -> list[Measured]:
    """Validate and issue at 16 clients, against an ASGI "hello" in the same run."""
    async with running() as cloud:
        http, headers = cloud.http, {"X-Subject-Token": cloud.token}
        with bare() as hello:
            before = await rate(lambda: hello.ok("GET", "/"))
            validate = await rate(lambda: http.ok("GET", "/identity/v3/auth/tokens", cloud.token, headers=headers))
            issue = await rate(lambda: http.ok("POST", "/identity/v3/auth/tokens", body=cloud.credentials()))
            reference = (before + await rate(lambda: hello.ok("GET", "/"))) / 2
    note = f"bare {reference:,.0f}/s"
    return [
        Measured("validate a token, 16 clients, of bare", validate / reference, "", 1 / 5, True,
                 f"{validate:,.0f}/s; {note}"),
        Measured("issue a token by password, the same user again, of bare", issue / reference, "", 1 / 20, True,
                 f"{issue:,.0f}/s; {note}; bcrypt 12 rounds"),
    ]
