"""What guests reach at 169.254.169.254: a small ASGI application per network or router, answered over the link."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pileus.node.contract import NodeLink

_LOG = logging.getLogger("pileus.node.metadata")
_MOST = 64 * 1024

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class GuestMetadata:
    """Call it with a network's or router's id for the application that serves there."""

    def __init__(self, link: NodeLink) -> None:
        self._link = link

    def __call__(self, place: str) -> Callable[[dict[str, Any], Receive, Send], Awaitable[None]]:
        async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return
            client = scope.get("client") or ("", 0)
            status, media, body = await self._answer(place, client[0], scope, receive)
            headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

        return app

    async def _answer(
        self, place: str, address: str, scope: dict[str, Any], receive: Receive
    ) -> tuple[int, str, bytes]:
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "text/plain", b"405 Method Not Allowed\n"
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > _MOST:
                return 413, "text/plain", b"413 Request Entity Too Large\n"
            if not message.get("more_body"):
                break
        try:
            return await self._link.metadata(place, address, scope["method"], scope["path"], body)
        except Exception:
            _LOG.exception("metadata for %s on %s failed", address, place)
            return 500, "text/plain", b"500 Internal Server Error\n"
