"""Takes connections on the cluster port, and keeps strangers from taking all the room.

Who has not finished the TLS handshake, or has no certificate, costs memory and a file handle: of both there are so
many at a time, each for a few seconds. Strangers who say nothing make way for those who come after them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

import msgspec

from pileus.cluster import certificates, frames
from pileus.cluster.streams import Streams

_LOG = logging.getLogger("pileus.cluster")
SHAKING = 256
"""TLS handshakes at a time; more wait in the kernel's queue."""
STRANGERS = 128
"""Connections without a certificate at a time."""
HANDSHAKE = 5.0
HELLO = 10.0


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end of a connection: kind ("" for a stranger), name and digest of the key."""

    kind: str = ""
    name: str = ""
    digest: str = ""


Greet = Callable[[Peer, frames.Frame, Streams], Awaitable[None]]


class Listener:
    """`greet` gets each connection with its first frame; when it returns, the connection is closed."""

    def __init__(self, greet: Greet) -> None:
        self._greet = greet
        self._shaking = asyncio.Semaphore(SHAKING)
        self._strangers: dict[asyncio.Task[None], None] = {}  # those who have said nothing yet, oldest first
        self._joining = 0
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Take connections on a listening socket, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._shaking.acquire()
            try:
                connection, _ = await loop.sock_accept(sock)
            except OSError as error:
                self._shaking.release()
                _LOG.warning("no connection can be taken now: %s", error)
                await asyncio.sleep(0.5)
                continue
            except BaseException:
                self._shaking.release()
                raise
            self._start(self._shake(connection, context))

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection of this machine's operator."""
        self._start(self._meet(Peer("operator", "operator"), (reader, writer)))

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._open.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a connection has ended by an error", exc_info=error)

    async def hang_up(self) -> None:
        """End all connections."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _shake(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(frames.BUFFER)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=context, ssl_handshake_timeout=HANDSHAKE, ssl_shutdown_timeout=2.0
            )
        except OSError as error:
            _LOG.debug("a TLS handshake has failed: %s", error)
            return sock.close()
        finally:
            self._shaking.release()
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        frames.keep_alive(writer)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        peer = Peer(*certificates.holder(der)) if der else Peer()
        return await self._meet(peer, (reader, writer))

    async def _meet(self, peer: Peer, streams: Streams) -> None:
        try:
            if peer.kind:
                await self._greet(peer, await _first(streams), streams)
            else:
                await self._meet_stranger(streams)
        except (OSError, TimeoutError) as error:  # Broken is one
            _LOG.debug("%s %s has gone: %s", peer.kind or "a stranger", peer.name, error)
        finally:
            with contextlib.suppress(OSError, RuntimeError):
                streams[1].close()

    async def _meet_stranger(self, streams: Streams) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._strangers) + self._joining >= STRANGERS:
            oldest = next(iter(self._strangers), None)
            if oldest is None:
                return
            del self._strangers[oldest]
            oldest.cancel()
        self._strangers[task] = None
        try:
            hello = await _first(streams)
        finally:
            self._strangers.pop(task, None)
        self._joining += 1
        try:
            await self._greet(Peer(), hello, streams)
        finally:
            self._joining -= 1


async def _first(streams: Streams) -> frames.Frame:
    async with asyncio.timeout(HELLO):
        return await frames.read(streams[0], frames.LARGEST_HELLO)
