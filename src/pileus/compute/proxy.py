"""Other services' APIs, asked from within for the proxies that compute has up to 2.35.

A question goes through the other service's own route table, with the caller's own rights: its row decodes the
body, its rule decides, its handler answers. So a proxy can do nothing that the caller could not do there himself.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from pileus.volume.faults import OverLimit
from pileus.web.body import Chunks
from pileus.web.call import Call, Reply, SendFile, Stream
from pileus.web.errors import NotFound, OverQuota
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route, find, pick, segments
from pileus.web.schemas import decode_body, decode_query

Pairs = Sequence[tuple[str, str]]


async def ask(
    call: Call, service: str, method: str, path: str, body: Any = None, query: Pairs = (), media: str = "",
) -> Any:
    """What `service` answers to the caller, decoded; None without a body.

    Raises what its handler raises (OverQuota as compute's own), and NotFound when this cloud has no such service."""
    inner, route = _inner(call, service, method, path)
    inner.query_pairs = list(query)
    if route.query is not None:
        inner.query = decode_query(route.query, inner.query_pairs)
    data = b"" if body is None else msgspec.json.encode(body)
    if media:
        inner.headers = {**inner.headers, "content-type": media}
    if route.raw:
        inner.chunks, inner.source = _once(data), Chunks(_once(data))
    elif route.body is not None:
        inner.body = decode_body(route.body, data, inner.version)
    if route.policy not in (PUBLIC, AUTHENTICATED):
        context = call.context
        inner.enforce(
            route.policy, project_id=context.project_id, user_id=context.user_id, domain_id=context.domain_id
        )
    try:
        if inspect.iscoroutinefunction(route.handler):
            result = await route.handler(inner)
        else:
            result = await call.db.run(lambda tx: _plain(inner, route, tx), write=route.writes)
    except (OverQuota, OverLimit) as problem:  # which compute answers with 403, whatever the other service does
        raise OverQuota(problem.message) from None
    return _decoded(result)


def _inner(call: Call, service: str, method: str, path: str) -> tuple[Call, Route]:
    room = call.cloud.rooms.get(service)
    found = find(room.service.tree, segments(path)) if room is not None else None
    if room is None or found is None:
        raise NotFound(f"This cloud has no {service} service that could answer.")
    node, values = found
    inner = Call(call.cloud, room.service, method, path, call.request_id)
    micro = room.service.microversions
    inner.version = micro.highest if micro else None
    chosen = pick(node.routes.get(method, ()), inner.version)
    if chosen is None:
        raise NotFound(f"The {service} service has no {method} {path}.")
    names, route = chosen
    inner.params = dict(zip(names, values, strict=True))
    inner.route, inner.context, inner.base, inner.client = route, call.context, call.base, call.client
    inner.headers = {k: v for k, v in call.headers.items() if not k.startswith("content-")}
    return inner, route


def _plain(inner: Call, route: Route, tx: Any) -> Any:
    inner.tx = tx
    try:
        return route.handler(inner)
    finally:
        inner.tx = None


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _decoded(result: Any) -> Any:
    if isinstance(result, Stream | SendFile):
        raise TypeError("a proxy asked for a stream")
    body = result.body if isinstance(result, Reply) else result
    if body is None or body == b"":
        return None
    return msgspec.json.decode(body if isinstance(body, bytes) else msgspec.json.encode(body))
