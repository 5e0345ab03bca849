"""POST …/action: the body's one key names the action, and its value is what the action takes."""

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
    transactions, and gets the row as it was before. `body` is what the value must be; None: anything, as for most old
    actions, and the handler gets None."""

    rule: str
    handler: Callable[[Call, Any, Any], Any]
    status: int = 202
    body: Any = None
    since: Version = (0, 0)
    until: Version = ANY_VERSION


Actions = Mapping[str, Action | tuple[Action, ...]]
"""By name; those that are not the same in every version as they are in each."""

Find = Callable[..., Any]
"""`visible(call, id, rule, hold=…)` of the noun: its row. Raises NotFound, Forbidden."""


async def perform(call: Call, actions: Actions, find: Find, resource_id: str) -> Reply:
    """Do what the body asks. Raises BadRequest for what is no action, NotFound for one that the version has not, and
    what the handler raises."""
    action, value = _asked(call, actions)
    if inspect.iscoroutinefunction(action.handler):
        row = await call.run(lambda: find(call, resource_id, action.rule, hold=False), write=False)
        result = await action.handler(call, row, value)
    else:
        result = await call.run(
            lambda: action.handler(call, find(call, resource_id, action.rule, hold=True), value)
        )
    reply = result if isinstance(result, Reply) else Reply(result)
    reply.status = reply.status or action.status
    return reply


def _asked(call: Call, actions: Actions) -> tuple[Action, Any]:
    body: dict[str, Any] = call.body
    if len(body) != 1:
        raise BadRequest("The body must name exactly one action.")
    name, raw = next(iter(body.items()))
    found = actions.get(name)
    if found is None:
        raise BadRequest(f"There is no such action: {name}")
    version = call.version or (0, 0)
    versions = found if isinstance(found, tuple) else (found,)
    action = next((each for each in versions if each.since <= version <= each.until), None)
    if action is None:
        raise NotFound(f"The action {name} is not in version {version[0]}.{version[1]}.")
    if action.body is None:
        return action, None
    try:
        value = msgspec.convert(raw, action.body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input for {name}: {error}") from None
    check_versions(value, version, name)
    return action, value
