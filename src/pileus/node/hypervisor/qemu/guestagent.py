"""The QEMU guest agent inside a guest, on its virtio channel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from pileus.node.contract import NodeFault

# A guest that is still booting answers when its agent has started; clients commonly wait 60 s for a reply.
PATIENCE = 50.0
_LONGEST = 64 * 1024
_RESET = b"\xff"  # ends whatever half a message an agent may have in hand, and stands before what answers to a sync


class _Refusal(msgspec.Struct):
    desc: str = ""


class _Answer(msgspec.Struct):
    value: Any = msgspec.field(name="return", default=None)
    error: _Refusal | None = None


async def set_password(socket: Path, user: str, password: str, within: float = PATIENCE) -> None:
    """Have the agent in the guest set a user's password.

    Raises NodeFault if no agent answers within `within` seconds, or if it refuses."""
    secret = base64.b64encode(password.encode()).decode()
    arguments = {"username": user, "password": secret, "crypted": False}
    try:
        async with asyncio.timeout(within), _connected(socket) as channel:
            await channel.synchronise(time.monotonic_ns() % 1_000_000_000)
            refusal = (await channel.ask("guest-set-user-password", arguments)).error
    except TimeoutError:
        raise NodeFault(
            "the guest agent does not answer: is qemu-guest-agent installed in the guest, and has it started?"
        ) from None
    except (OSError, EOFError, ValueError) as error:
        raise NodeFault(f"the guest agent's channel cannot be used: {error}") from None
    if refusal is not None:
        raise NodeFault(f"the guest agent did not set the password of '{user}': {refusal.desc}")


class _Channel:
    """One message a line, as every agent takes it: some wait for the line's end, which JSON itself does not need."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def synchronise(self, number: int) -> None:
        """Pass over answers to those who asked before and did not wait."""
        self._writer.write(_RESET + self._message("guest-sync-delimited", {"id": number}))
        while True:
            with contextlib.suppress(msgspec.DecodeError):
                if (await self._answer()).value == number:
                    return

    async def ask(self, command: str, arguments: dict[str, Any]) -> _Answer:
        self._writer.write(self._message(command, arguments))
        return await self._answer()

    @staticmethod
    def _message(command: str, arguments: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"execute": command, "arguments": arguments}) + b"\n"

    async def _answer(self) -> _Answer:
        line = await self._reader.readuntil(b"\n")
        return msgspec.json.decode(line.rpartition(_RESET)[2], type=_Answer)


@contextlib.asynccontextmanager
async def _connected(socket: Path) -> AsyncIterator[_Channel]:
    reader, writer = await asyncio.open_unix_connection(socket, limit=_LONGEST)
    try:
        yield _Channel(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
