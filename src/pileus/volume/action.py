"""POST …/action of volumes and snapshots: the body's one key names the action."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound
from pileus.web.routes import ANY_VERSION
from pileus.web.schemas import check_versions
from pileus.web.versions import Version


@dataclass(frozen=True)
class Action:
    """One action: its rule, and a handler of the call, the row (held) and the value. A coroutine function opens its own
    transactions, and gets the row as it was before. `body` is what the value must be; None: anything."""

    rule: str
    handler: Callable[[Call, Any, Any], Any]
    status: int = 202
    body: Any = None
    since: Version = (0, 0)
    until: Version = ANY_VERSION


Find = Callable[..., Any]
"""`visible(call, id, rule, hold=…)` of the noun."""


async def perform(call: Call, actions: Mapping[str, Action], find: Find, resource_id: str) -> Reply:
    """Do what the body asks. Raises BadRequest for what is no action, NotFound for one that the version has not."""
    action, value = _asked(call, actions)
    if inspect.iscoroutinefunction(action.handler):
        row = await call.db.run(
            lambda tx: _in(call, tx, lambda: find(call, resource_id, action.rule)), write=False
        )
        result = await action.handler(call, row, value)
    else:
        result = await call.db.run(lambda tx: _in(
            call, tx, lambda: action.handler(call, find(call, resource_id, action.rule, hold=True), value)
        ))
    reply = result if isinstance(result, Reply) else Reply(result)
    reply.status = reply.status or action.status
    return reply


def _in(call: Call, tx: Any, work: Callable[[], Any]) -> Any:
    """`work` with the call in a transaction."""
    call.tx = tx
    try:
        return work()
    finally:
        call.tx = None


def _asked(call: Call, actions: Mapping[str, Action]) -> tuple[Action, Any]:
    body: dict[str, Any] = call.body
    if len(body) != 1:
        raise BadRequest("The body must name exactly one action.")
    name, raw = next(iter(body.items()))
    action = actions.get(name)
    if action is None:
        raise BadRequest(f"There is no such action: {name}")
    version = call.version or (3, 0)
    if not action.since <= version <= action.until:
        raise NotFound(f"The action {name} is not in version {version[0]}.{version[1]}.")
    if action.body is None:
        return action, raw
    try:
        value = msgspec.convert(raw, action.body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for {name}: {error}") from None
    check_versions(value, version, name)
    return action, value
