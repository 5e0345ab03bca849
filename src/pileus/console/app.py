"""`/console/…`: noVNC's files, and `/console/websockify?token=…` which carries RFB between browser and guest;
`/console/serial?token=…`, which carries what the guest's serial port says.

A token opens one guest's screen, or its serial port, until it expires. A web socket from a page of another origin is
refused, as a browser would send it along with a user's link. Tokens are never logged (OSSA-2020-001).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from starlette.staticfiles import StaticFiles

from pileus.web.errors import Problem

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.web.app import AsgiApp, Receive, Scope, Send

_LOG = logging.getLogger("pileus.console")
_PIECE = 64 * 1024
_SOCKETS = {"/websockify": "novnc", "/serial": "serial"}
_QUESTIONS = {"novnc": "vnc_socket", "serial": "serial_socket"}
_REFUSED = 4401
_GONE = 4404


class ConsoleApp:
    """An ASGI application under /console."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self._files: AsgiApp = StaticFiles(directory=cloud.settings.novnc_dir, check_dir=False)  # type: ignore[assignment]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/console")
        if scope["type"] == "websocket":
            if path in _SOCKETS:
                return await self._screen(_SOCKETS[path], scope, receive, send)
            await receive()
            return await send({"type": "websocket.close", "code": _GONE})
        inner = {**scope, "path": path or "/", "root_path": ""}
        try:
            await self._files(inner, receive, send)
        except Exception as error:
            await _plain(send, getattr(error, "status_code", 404), b"Not found; is the package novnc installed?\n")

    async def _screen(self, kind: str, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if not _same_origin(headers, self.cloud.settings.public_url):
            return await send({"type": "websocket.close", "code": _REFUSED, "reason": "foreign origin"})
        from pileus.compute import consoles

        token, now = _token(scope, headers), self.cloud.world.now()
        found = await self.cloud.db.run(lambda tx: consoles.find(tx, token, now), write=False)
        if found is None or found.kind != kind:
            return await send({"type": "websocket.close", "code": _REFUSED, "reason": "the console token is not valid"})
        try:
            reader, writer = await self.cloud.stream(found.node, _QUESTIONS[kind], {"server_id": found.server_id})
        except (Problem, OSError) as error:
            _LOG.warning("a guest's console cannot be reached: %s", error)
            return await send({"type": "websocket.close", "code": _GONE, "reason": "the guest has no console now"})
        offered = scope.get("subprotocols") or []
        await send({"type": "websocket.accept", "subprotocol": "binary" if "binary" in offered else None})
        await _carry(receive, send, reader, writer)


def _token(scope: Scope, headers: dict[str, str]) -> str:
    """The token of the socket's URL, or the cookie that older pages set."""
    query: dict[str, list[str]] = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    if found := query.get("token"):
        return found[0]
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "token":
            return value
    return ""


def _same_origin(headers: dict[str, str], public_url: str) -> bool:
    origin = headers.get("origin")
    if origin is None:
        return True  # not a browser
    allowed = {headers.get("host", ""), urlsplit(public_url).netloc if public_url else ""}
    return urlsplit(origin).netloc in allowed - {""}


async def _carry(receive: Receive, send: Send, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways until either side ends."""

    async def to_guest() -> None:
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            data = message.get("bytes") or (message.get("text") or "").encode("latin-1", "ignore")
            writer.write(data)
            await writer.drain()

    async def to_browser() -> None:
        while data := await reader.read(_PIECE):
            await send({"type": "websocket.send", "bytes": data})

    ways: list[asyncio.Task[Any]] = [asyncio.create_task(to_guest()), asyncio.create_task(to_browser())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        with contextlib.suppress(RuntimeError):
            await send({"type": "websocket.close", "code": 1000})


async def _plain(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
