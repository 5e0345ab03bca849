"""The reference: an ASGI "hello" on the server that Pileus uses, set up in the same way."""

from __future__ import annotations

import sys
from typing import Any

import uvloop

from pileus.serve import make_server, open_socket


async def hello(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """200 and five bytes."""
    await receive()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def main() -> None:
    await make_server(hello)._serve([open_socket(f"127.0.0.1:{sys.argv[1]}")])


uvloop.run(main())
