"""The word from the node that a guest has left to the one that has taken it in: now it may run there.

A guest whose memory is complete at its new node does not run before that word, or the controller's: only then is it
sure, and recorded, that it never runs at the old one again. Both know the secret of the move, and the word proves it;
one that is overheard and said again says nothing new.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable

from pileus.node.contract import MoveTarget

_LOG = logging.getLogger("pileus.node")
SIZE = hashlib.sha256().digest_size
PATIENCE = 15.0


def proof(secret: str, word: str, server_id: str) -> bytes:
    """A word about a guest, by who knows the secret."""
    return hmac.digest(bytes.fromhex(secret), f"{word} {server_id}".encode(), "sha256")


async def wait(made: socket.socket, server_id: str, secret: str, go: Callable[[], Awaitable[bool]]) -> asyncio.Server:
    """Listen for the word on a socket that is bound, and call `go` then, which tells whether the guest runs."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            said = await asyncio.wait_for(reader.readexactly(SIZE), PATIENCE)
            if hmac.compare_digest(said, proof(secret, "go", server_id)) and await go():
                writer.write(proof(secret, "runs", server_id))
                await asyncio.wait_for(writer.drain(), PATIENCE)
        except (OSError, EOFError, TimeoutError):
            pass  # the controller tells it too
        except Exception:
            _LOG.exception("server %s could not be let go after its move", server_id)
        finally:
            writer.close()

    return await asyncio.start_server(answer, sock=made)


async def give(server_id: str, target: MoveTarget) -> bool:
    """Tell the node of `target` that the guest is its own; whether it answered that the guest runs."""
    try:
        return await asyncio.wait_for(_give(server_id, target), PATIENCE)
    except (OSError, EOFError, TimeoutError) as error:
        _LOG.warning("server %s: its new node did not answer that it runs: %s", server_id, error or "no answer")
        return False


async def _give(server_id: str, target: MoveTarget) -> bool:
    reader, writer = await asyncio.open_connection(target.host, target.word_port)
    try:
        writer.write(proof(target.secret, "go", server_id))
        await writer.drain()
        said = await reader.readexactly(SIZE)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return hmac.compare_digest(said, proof(target.secret, "runs", server_id))
