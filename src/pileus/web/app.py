"""The ASGI application: from a request's head to the end of its reply.

The order is: request id, service, route, version, body, transaction, token, policy, handler. Everything a
plain handler does, its token check included, happens in one transaction.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

import msgspec
import sqlalchemy as sa

from pileus.auth.context import NOBODY
from pileus.db.engine import OutcomeUnknown, Retry, Unreachable
from pileus.web import files, log, outage
from pileus.web.body import STRAIGHT, Body
from pileus.web.call import WHOLE, Call, Reply, SendFile, Stream
from pileus.web.errors import (
    BadRequest,
    Conflict,
    MethodNotAllowed,
    NotFound,
    Problem,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route, Service, find, pick, segments
from pileus.web.schemas import decode_body, decode_query

if TYPE_CHECKING:
    from pileus.cloud import Cloud

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOG = logging.getLogger("pileus.web")
_ENCODER = msgspec.json.Encoder()


class App:
    """All services behind one ASGI callable. `extra` are ASGI applications by first path segment."""

    def __init__(self, cloud: Cloud, services: Iterable[Service], extra: dict[str, AsgiApp]) -> None:
        self.cloud = cloud
        self.services = {service.name: service for service in services}
        self.extra = extra

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            return await _lifespan(receive, send)
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.split(b"?", 1)[0].decode("latin-1")
        first, _, rest = path.lstrip("/").partition("/")
        port_service = scope.get("pileus.service")  # a classic port serves one service at its root
        service = self.services.get(port_service or first)
        if service is None or kind == "websocket":
            return await self._extra(first, scope, receive, send)
        inner = path if port_service else "/" + rest
        call = Call(self.cloud, service, scope["method"], inner, self.cloud.world.request_id())
        call.whole_path = path
        await self._serve(call, scope, receive, send)

    async def _extra(self, first: str, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.extra.get(first)
        if app is not None:
            return await app(scope, receive, send)
        if scope["type"] == "websocket":
            await receive()
            return await send({"type": "websocket.close", "code": 4404})
        known = ", ".join(f"/{name}" for name in (*self.services, *self.extra) if name)
        body = {"error": {"code": 404, "title": "Not Found", "message": f"No service here. There are: {known}"}}
        await _send(send, 404, _ENCODER.encode(body), {}, "application/json", scope["method"] == "HEAD")

    async def _serve(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        world, service, path = self.cloud.world, call.service, call.path
        started = world.monotonic()
        log.request_id.set(call.request_id)
        try:
            reply = await self._answer(call, scope, receive)
        except Problem as problem:
            reply = _fault(service, problem, call)
        except Exception:
            _LOG.exception("%s %s failed", call.method, path)
            reply = _fault(service, Problem("The server has hit an error; its log tells more under the id "
                                            f"{call.request_id}."), call)
        status = await self._send_reply(call, reply, send, scope.get("extensions", {}))
        took = world.monotonic() - started
        self.cloud.metrics.answered(service.name, call.method, status, took)
        log.info(
            _LOG, f"{call.method} /{service.name}{path} status={status} ms={took * 1000:.1f} "
            f"user={call.context.user_id or '-'} project={call.context.project_id or '-'} from={call.client}",
        )

    async def _answer(self, call: Call, scope: Scope, receive: Receive) -> Reply:
        _read_head(call, scope)
        route = _route(call)
        call.route = route
        if route.query is not None:
            call.query = decode_query(route.query, call.query_pairs)
        if route.raw:
            straight, limit = scope.get("extensions", {}).get(STRAIGHT), self._limit(route)
            call.chunks = _chunks(receive, limit)
            call.source = Body(receive, straight, call.headers.get("content-length", ""), limit)
        elif route.body is not None:
            call.body = decode_body(route.body, await self._body(call, route, receive), call.version)
        elif call.method in ("POST", "PUT", "PATCH"):
            await _drain(receive)
        try:
            if _is_async(route.handler):
                if route.policy != PUBLIC:
                    await call.db.run(lambda tx: self._authorize(call, route, tx), write=False)
                result = await route.handler(call)
            else:
                result = await call.db.run(lambda tx: self._plain(call, route, tx), write=route.writes)
        except (sa.exc.DBAPIError, OverflowError, Retry, Unreachable, OutcomeUnknown) as error:
            raise _translate(error) from error
        reply = result if isinstance(result, Reply) else Reply(result)
        reply.status = reply.status or route.status
        return reply

    def _plain(self, call: Call, route: Route, tx: Any) -> Any:
        call.tx = tx
        try:
            if route.policy != PUBLIC:
                self._authorize(call, route, tx)
            return route.handler(call)
        finally:
            call.tx = None

    def _authorize(self, call: Call, route: Route, tx: Any) -> None:
        token = call.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request you have made requires authentication: send a token in X-Auth-Token.")
        call.context = self.cloud.verify_token(tx, token, call)
        if route.policy != AUTHENTICATED:
            context = call.context
            target = {"project_id": context.project_id, "user_id": context.user_id, "domain_id": context.domain_id}
            self.cloud.policy.enforce(context, route.policy, target)

    def _limit(self, route: Route) -> int:
        return route.max_body if route.max_body is not None else self.cloud.settings.max_body

    async def _body(self, call: Call, route: Route, receive: Receive) -> bytes:
        limit = self._limit(route)
        length = call.headers.get("content-length", "")
        if length.isdigit() and int(length) > limit:
            raise TooLarge(f"The request's body has {length} bytes; at most {limit} are taken.")
        parts = [part async for part in _chunks(receive, limit)]
        media = call.headers.get("content-type", "").split(";")[0].strip().lower()
        if media and media not in route.media and parts and "*/*" not in route.media:
            raise UnsupportedMediaType(
                f"Content-Type '{media}' is not taken here; send {' or '.join(route.media)}."
            )
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _send_reply(self, call: Call, reply: Reply, send: Send, extensions: Mapping[str, Any]) -> int:
        status = reply.status or 200
        headers = reply.headers
        headers["x-openstack-request-id"] = call.request_id
        if call.service.name == "compute":
            headers["x-compute-request-id"] = call.request_id
        micro = call.service.microversions
        if micro and call.version is not None and not call.service.is_unversioned(call.path):
            headers.update(call.service.version_headers(call.version))
        head = call.method == "HEAD"
        if isinstance(reply, SendFile):
            await _send_file(send, extensions.get(files.FILE), status, reply, head)
        elif isinstance(reply, Stream):
            await _send_stream(send, status, reply, head)
        else:
            body = reply.body
            data = b"" if body is None else body if isinstance(body, bytes) else _ENCODER.encode(body)
            await _send(send, status, data, headers, reply.media, head, extensions.get(WHOLE))
        return status


def _read_head(call: Call, scope: Scope) -> None:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = _text(name)
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers and key != "x-auth-token" else text
    call.headers = headers
    scheme = scope.get("scheme", "http")
    server = scope.get("server") or ("localhost", None)
    host = headers.get("host") or f"{server[0]}:{server[1]}"
    public = call.cloud.settings.public_url
    call.base = public.rstrip("/") if public else f"{scheme}://{host}"
    client = scope.get("client")
    call.client = client[0] if client else ""
    text = scope.get("query_string", b"").decode("latin-1")
    if text:
        call.query_pairs = parse_qsl(text, keep_blank_values=True)
        if "\0" in text or any("\0" in word for pair in call.query_pairs for word in pair):
            raise BadRequest("The query holds a null character.")


def _route(call: Call) -> Route:
    service = call.service
    parts = segments(call.path)
    found = find(service.tree, parts)
    if micro := service.microversions:
        call.version = micro.lowest if service.is_unversioned(call.path) else micro.negotiate(call.headers)
    if found is None:
        raise NotFound(f"The resource could not be found: nothing is at {call.path} in {service.name}.")
    node, values = found
    rows = node.routes.get(call.method)
    if rows is None and call.method == "HEAD":
        rows = node.routes.get("GET")
    if rows is None and call.path.endswith("/") and parts:
        raise NotFound(f"The resource could not be found: {call.method} {call.path} names none.")
    if rows is None:
        allow = ", ".join(sorted(node.routes))
        raise MethodNotAllowed(f"The method {call.method} is not allowed here; there are: {allow}.",
                               headers={"Allow": allow})
    chosen = pick(rows, call.version)
    if chosen is None:
        raise NotFound(f"The resource could not be found: {call.method} {call.path} is not in this version.")
    names, route = chosen
    try:
        call.params = {
            name: unquote(value, errors="strict") if "%" in value else value
            for name, value in zip(names, values, strict=True)
        }
    except UnicodeDecodeError:
        raise BadRequest("The path is not valid UTF-8.") from None
    if "%00" in call.path or "\0" in call.path:
        raise BadRequest("The path holds a null character.")
    return route


async def _chunks(receive: Receive, limit: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooLarge past `limit` bytes and BadRequest when the caller goes away."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The connection ended before the whole body had come.")
        data = message.get("body", b"")
        if data:
            size += len(data)
            if size > limit:
                raise TooLarge(f"The request's body is larger than {limit} bytes, which is the most that is taken.")
            yield data
        if not message.get("more_body"):
            return


async def _drain(receive: Receive) -> None:
    """Read and forget a body that the route has no use for, up to a bound."""
    async for _ in _chunks(receive, 1 << 20):
        pass


def _translate(error: Exception) -> Exception:
    """What a database refuses becomes the caller's 409; what cannot be stored a 400; one that is away a 503."""
    away = outage.problem(error)
    if away is not None:
        return away
    if isinstance(error, sa.exc.IntegrityError):
        return Conflict("The request conflicts with one that came at the same time; look again and repeat it.")
    if isinstance(error, sa.exc.DataError | OverflowError):
        return BadRequest("A value of the request is outside of what can be stored.")
    return error


def _fault(service: Service, problem: Problem, call: Call) -> Reply:
    body, headers = service.faults(problem, call)
    if problem.status == 401:
        where = call.cloud.settings.auth_url or call.base + "/identity"
        headers = {"WWW-Authenticate": f'Keystone uri="{where}"', **headers}
    return Reply(body, status=problem.status, headers={**headers, **problem.headers})


# What is the same for every request is worked out once: a request has a dozen names of headers.
@functools.lru_cache(1024)
def _name(header: str) -> bytes:
    return header.lower().encode("latin-1")


@functools.lru_cache(1024)
def _text(name: bytes) -> str:
    return name.decode("latin-1")


@functools.lru_cache(4096)
def _is_async(handler: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(handler)


def _head_of(status: int, headers: dict[str, str], media: str, length: int | None) -> dict[str, Any]:
    pairs = [(_name(k), v.encode("latin-1", "replace")) for k, v in headers.items()]
    if media and status not in (204, 304) and b"content-type" not in [k for k, _ in pairs]:
        pairs.append((b"content-type", media.encode()))
    if length is not None and status not in (204, 304):
        pairs.append((b"content-length", str(length).encode()))
    return {"type": "http.response.start", "status": status, "headers": pairs}


async def _send(
    send: Send, status: int, data: bytes, headers: dict[str, str], media: str, head: bool,
    whole: Callable[[int, list[tuple[bytes, bytes]], bytes], bool] | None = None,
) -> None:
    start = _head_of(status, headers, media if data else "", len(data))
    body = b"" if head or status in (204, 304) else data
    if whole is None or not whole(status, start["headers"], body):
        await send(start)
        await send({"type": "http.response.body", "body": body})


async def _send_stream(send: Send, status: int, reply: Stream, head: bool) -> None:
    await send(_head_of(status, reply.headers, reply.media, reply.length))
    if not head:
        async for chunk in reply.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_file(send: Send, kernel: files.Kernel | None, status: int, reply: SendFile, head: bool) -> None:
    handle = os.open(reply.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        await send(_head_of(status, reply.headers, reply.media, reply.length))
        await files.send_body(send, kernel, handle, reply.start, 0 if head else reply.length)
    finally:
        os.close(handle)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


__all__ = ["NOBODY", "App"]
