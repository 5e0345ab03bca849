"""How loud the logs of the volume service's parts are (3.32): of the very processes that they are parts of.

A controller is one process, and so is a node's agent: a level set for one of its parts counts for all that it does.
What was set ends with the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster import log_levels
from pileus.volume import services
from pileus.volume.services import BACKUP, SCHEDULER, VOLUME, Part
from pileus.web import log
from pileus.web.errors import BadRequest, Conflict, NotFound, Problem

if TYPE_CHECKING:
    from pileus.volume.schemas_rest import GetLog, SetLog
    from pileus.web.call import Call

API = "cinder-api"

_LOG = logging.getLogger("pileus.volume")
_PATIENCE = 10.0
_AT_ONCE = 32  # nodes asked at the same time


async def set_log(call: Call) -> None:
    """PUT /os-services/set-log: 202. Nodes' and this controller's logs have the level by then, those of other
    controllers within seconds.

    Raises BadRequest, NotFound when no such part is up, Conflict naming those for which it could not be done."""
    body: SetLog = call.body
    level, prefix = (body.level or "").upper(), body.prefix or ""
    if level not in log.LEVELS:
        raise BadRequest(f"Invalid input received: '{body.level}' is no log level; {', '.join(log.LEVELS)} are.")
    if not (log.ROOT.startswith(prefix) or prefix.startswith(log.ROOT)):
        raise BadRequest(f"Invalid input received: no log begins with '{prefix}'; all begin with '{log.ROOT}'.")
    controllers, nodes = _processes(await _parts(call, body))
    if not controllers and not nodes:
        where = f"on host {body.server}" if body.server else "anywhere"
        raise NotFound(f"Service {body.binary or '(any)'} could not be found, or is down, {where}.")
    others = [name for name in controllers if name != call.cloud.controller]
    deaf = await call.db.run(lambda tx: [one for one in others if not log_levels.wish(tx, one, prefix, level)])
    if call.cloud.controller in controllers:
        log.set_levels(prefix, level)
    answers = await _ask(call, nodes, "set_log_levels", {"prefix": prefix, "level": level})
    if failed := [*deaf, *(name for name, (ok, _) in answers.items() if not ok)]:
        raise Conflict(f"The log levels of {', '.join(failed)} could not be set: they do not answer, or are of an "
                       "older release. Those of all others are set.")


async def get_log(call: Call) -> dict[str, Any]:
    """PUT /os-services/get-log: 200. What does not answer is left out."""
    body: GetLog = call.body
    prefix = body.prefix or ""
    parts = await _parts(call, body)
    controllers, nodes = _processes(parts)
    said = await call.db.run(lambda tx: {name: log_levels.told(tx, name) for name in controllers}, write=False)
    if call.cloud.controller in said:
        said[call.cloud.controller] = log.levels()
    answers = await _ask(call, nodes, "log_levels", {"prefix": prefix})
    of_nodes = {name: levels for name, (ok, levels) in answers.items() if ok}
    found = [
        (part, (of_nodes if part.binary in (VOLUME, BACKUP) else said).get(part.node)) for part in parts
    ]
    return {"log_levels": [
        {"binary": part.binary, "host": part.host,
         "levels": {name: level for name, level in levels.items() if name.startswith(prefix)}}
        for part, levels in found if levels is not None
    ]}


async def _parts(call: Call, body: GetLog) -> list[Part]:
    """The parts that are up and asked for. Every controller answers the API too, which is not told in /os-services."""

    def up() -> list[Part]:
        there = [part for part in services.parts(call) if part.up]
        return [msgspec.structs.replace(part, binary=API) for part in there if part.binary == SCHEDULER] + there

    return [
        part for part in await call.run(up, write=False)
        if body.binary in ("", "*", part.binary) and (not body.server or body.server in (part.host, part.node))
    ]


def _processes(parts: Sequence[Part]) -> tuple[list[str], list[str]]:
    """The controllers and the nodes that these are parts of."""
    controllers = dict.fromkeys(part.node for part in parts if part.binary in (API, SCHEDULER))
    nodes = dict.fromkeys(part.node for part in parts if part.binary in (VOLUME, BACKUP))
    return list(controllers), list(nodes)


async def _ask(
    call: Call, nodes: Sequence[str], question: str, arguments: dict[str, Any]
) -> dict[str, tuple[bool, Any]]:
    """What each node answers, and whether it does."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(node: str) -> tuple[bool, Any]:
        try:
            async with room, asyncio.timeout(_PATIENCE):
                return True, await call.cloud.ask(node, question, arguments)
        except (Problem, TimeoutError) as error:
            _LOG.warning("node %s could not be asked '%s': %s", node, question, str(error) or "no answer")
            return False, None

    return dict(zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True))
