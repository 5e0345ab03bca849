"""Three controllers with one database between them: creates and deletes by several users at once, through HAProxy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from tests.system.lab.api import Api
from tests.system.lab.building import built
from tests.system.lab.ground import deadlocks, server_body
from tests.system.lab.load import Load

from benchmarks.promises import Measured
from pileus.lab import Lab

_USERS = (1, 4, 16)
_SECONDS = 15.0


async def measure() -> list[Measured]:
    """Requests done a second, and the transactions that PostgreSQL had to end as two waited for each other."""
    return list(await asyncio.to_thread(lambda: list(_all())))


def _all() -> Iterator[Measured]:
    with built("ha", hypervisor="fake") as lab:
        lab.node("controller-1").part("rabbitmq").wait_for_members(3)  # type: ignore[attr-defined]
        with Api(lab) as api:
            body = server_body(api)
            rates = {users: _rate(lab, api, body, users) for users in _USERS}
        most = max(_USERS)
        yield Measured(
            f"creates and deletes done, three controllers and PostgreSQL, {most} users", rates[most], "/s", 20.0, True,
            ", ".join(f"{users}: {rate:.0f}/s" for users, rate in rates.items()),
        )
        yield Measured("of one user's rate", rates[most] / rates[1], "", 0.5, True)
        yield Measured("transactions ended because two waited for each other", deadlocks(lab), "", 0.0)


def _rate(lab: Lab, api: Api, body: dict[str, object], users: int) -> float:
    with Load(lab, body, users=users, pause=0.0) as load:
        began, before = time.monotonic(), len(load.requests)
        time.sleep(_SECONDS)
        took, after = time.monotonic() - began, len(load.requests)
    load.check(api)
    load.clear(api)
    if any(request.how != "done" for request in load.requests):
        raise RuntimeError(load.errors())
    return (after - before) / took
