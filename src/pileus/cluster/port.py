"""The cluster port of a controller: where nodes join and are connected, and other controllers ask.

Who has no certificate may ask for the authority's, or join with a token. A node may say what its link has, about
itself; a controller may wake, ask and fetch images. Everything else is refused before it reaches a room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.cluster import authority, channel, controllers, frames, nodes
from pileus.cluster.errors import as_failure
from pileus.cluster.frames import Broken, Data, Failure, Hello, Reply
from pileus.cluster.session import NodeSession
from pileus.cluster.streams import Streams, splice
from pileus.node.contract import NodeFault
from pileus.web.errors import Forbidden, NotFound, Problem, Unavailable

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.controller import LocalNodes

_LOG = logging.getLogger("pileus.cluster")
_GREETING = 10.0
_LOOK = 1.0
_STRANGERS = 64  # connections without a certificate at a time


class Peer:
    """Who is at the other end of a connection."""

    def __init__(self, kind: str, name: str, digest: str) -> None:
        self.kind, self.name, self.digest = kind, name, digest


class ClusterPort:
    """Serves until cancelled."""

    def __init__(self, cloud: Cloud, local: LocalNodes) -> None:
        self.cloud = cloud
        self.local = local
        self.sessions: dict[str, NodeSession] = {}
        self._streams: dict[str, tuple[str, asyncio.Future[Streams]]] = {}
        self._strangers = asyncio.Semaphore(_STRANGERS)
        self._open: set[asyncio.Task[Any]] = set()
        self._purposes: dict[tuple[str, str], Callable[[Peer, Hello, Streams], Awaitable[None]]] = {
            ("", "ca"): self._ca, ("", "join"): self._join,
            ("node", "node"): self._node, ("node", "image"): self._image, ("node", "store"): self._store,
            ("node", "stream"): self._stream, ("controller", "peer"): self._peer,
            ("controller", "peer-image"): self._peer_image, ("controller", "peer-stream"): self._peer_stream,
            ("operator", "control"): self._peer,
        }

    async def serve(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Take connections on a listening socket."""
        server = await asyncio.start_server(
            self._connected, sock=sock, ssl=context, ssl_handshake_timeout=_GREETING, limit=frames.BUFFER
        )
        try:
            await self._watch()
        finally:
            server.close()
            await self._hang_up()

    async def control(self, path: str) -> None:
        """Take connections of this machine's operator on a socket that only the owner may open."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._operator, path)
        finally:
            os.umask(before)
        async with server:
            await server.serve_forever()

    async def _hang_up(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _watch(self) -> None:
        """Nodes that were removed, or are connected elsewhere by now, are out."""
        while True:
            await asyncio.sleep(_LOOK)
            with contextlib.suppress(Exception):
                await self.check()

    async def check(self) -> None:
        """Compare the connections with what the database says of them."""
        if not self.sessions:
            return
        name = self.cloud.controller
        known = await self.cloud.db.run(lambda tx: nodes.sessions(tx, name), write=False)
        for session in list(self.sessions.values()):
            if known.get(session.node) != (session.id, session.digest) and session.admitted:
                _LOG.warning("node %s: its connection is ended: removed, or connected elsewhere", session.node)
                session.close()

    # -- connections

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True)
        peer = Peer(*authority.holder(der)) if der else Peer("", "", "")
        if not peer.kind:
            async with self._strangers:
                return await self._greet(peer, reader, writer)
        return await self._greet(peer, reader, writer)

    async def _operator(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._greet(Peer("operator", "operator", ""), reader, writer)

    async def _greet(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            hello = await asyncio.wait_for(frames.read(reader, frames.LARGEST_HELLO), _GREETING)
            await self._receive(peer, hello, (reader, writer))
        except (Broken, TimeoutError):
            pass
        except asyncio.CancelledError:
            if not task.cancelling():
                raise
        finally:
            self._open.discard(task)
            with contextlib.suppress(OSError, RuntimeError):
                writer.close()

    async def _receive(self, peer: Peer, hello: frames.Frame, streams: Streams) -> None:
        try:
            if not isinstance(hello, Hello) or hello.protocol != frames.PROTOCOL:
                raise Forbidden("This is another protocol: are node and controller of the same release?")
            purpose = self._purposes.get((peer.kind, hello.purpose)) or self._purposes.get(("", hello.purpose))
            if purpose is None:
                raise Forbidden(f"'{hello.purpose}' is not for {peer.kind or 'strangers'}.")
            await purpose(peer, hello, streams)
        except (Problem, msgspec.ValidationError, KeyError, TypeError) as error:
            shown = error if isinstance(error, Problem) else Forbidden(f"The greeting lacks something: {error}")
            what = getattr(hello, "purpose", "?")
            _LOG.warning("'%s' of %s %s is refused: %s", what, peer.kind or "a stranger", peer.name, shown)
            await frames.write(streams[1], as_failure(0, "greeting", shown))

    async def _ca(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        pem = await self.cloud.db.run(lambda tx: authority.ensure(tx, self.cloud))
        await frames.write(streams[1], Reply(0, pem.encode()))

    async def _join(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        wish = msgspec.convert(hello.arguments, Wish)

        def join(tx: Any) -> tuple[str, tuple[str, ...]]:
            return nodes.join(
                tx, self.cloud, token_id=wish.token_id, secret=wish.secret, name=wish.name, request=wish.request,
                roles=wish.roles, address=wish.address, version=wish.version,
            )

        certificate, roles = await self.cloud.db.run(join)
        _LOG.info("node %s has joined: %s", wish.name, ", ".join(roles))
        known = await self._controllers()
        await frames.write(streams[1], Reply(0, channel.pack(
            {"certificate": certificate, "roles": roles, "controllers": known}
        )))

    async def _controllers(self) -> list[str]:
        now = self.cloud.world.now()
        return list((await self.cloud.db.run(lambda tx: controllers.endpoints(tx, now), write=False)).values())

    # -- nodes

    async def _node(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        wish = msgspec.convert(hello.arguments, Greeting)
        session = NodeSession(self, peer.name, peer.digest, *streams)
        before = self.sessions.get(peer.name)
        if before is not None:
            before.close()
        self.sessions[peer.name] = session
        try:
            row = await self.cloud.db.run(lambda tx: nodes.admit(
                tx, self.cloud, peer.name, peer.digest, session=session.id, address=wish.address, version=wish.version
            ))
            session.admitted = True
            if self.sessions.get(peer.name) is not session:
                return
            session.link.roles = frozenset(row.roles)
            await frames.write(streams[1], Reply(0, channel.pack({
                "time": self.cloud.world.now(), "roles": row.roles, "controllers": await self._controllers(),
            })))
            self.cloud.heartbeats.heard(peer.name)
            self._came(peer.name)
            await session.run()
        finally:
            if self.sessions.get(peer.name) is session:
                del self.sessions[peer.name]
                self._went(peer.name)
            session.close()
            if session.admitted:
                with contextlib.suppress(Exception):
                    await self.cloud.db.run(lambda tx: nodes.left(tx, peer.name, session.id))

    def _came(self, name: str) -> None:
        hook = getattr(self.cloud.bus.carrier, "connected", None)
        if hook is not None:
            hook(name)

    def _went(self, name: str) -> None:
        hook = getattr(self.cloud.bus.carrier, "disconnected", None)
        if hook is not None:
            hook(name)

    def _session(self, peer: Peer) -> NodeSession:
        """The node's connection, without which it gets nothing: a node that was removed has none."""
        session = self.sessions.get(peer.name)
        if session is None or session.digest != peer.digest or not session.admitted:
            raise Forbidden(f"Node {peer.name} is not connected to this controller.")
        return session

    async def _image(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        session = self._session(peer)
        await _send_all(streams[1], session.link.image_bytes(str(hello.arguments["image_id"])))

    async def _store(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        session = self._session(peer)
        image_id = str(hello.arguments["image_id"])
        if not await session.link.image_wanted(image_id):
            return await frames.write(streams[1], Reply(0, b"had"))
        await frames.write(streams[1], Reply(0, b"send"))
        try:
            await session.link.image_take(image_id, _receive_all(streams[0]))
        except NodeFault as fault:
            return await frames.write(streams[1], as_failure(0, "store", fault))
        return await frames.write(streams[1], Reply(0))

    async def _stream(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        """A node has opened the stream that it was asked for."""
        node, future = self._streams.pop(str(hello.arguments["id"]), ("", None))
        if future is None or node != peer.name or future.done():
            raise NotFound("Nobody waits for this stream.")
        await frames.write(streams[1], Reply(0))
        future.set_result(streams)
        await streams[1].wait_closed()

    async def stream(self, node: str, question: str, arguments: dict[str, Any]) -> Streams:
        """Have a connected node open a stream: its bytes both ways. Raises Unavailable, Conflict."""
        session = self.sessions.get(node)
        if session is None:
            raise Unavailable(f"Node {node} is not connected to this controller.")
        number = self.cloud.world.secret(18)
        future: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
        self._streams[number] = node, future
        try:
            await session.call("stream", [number, question, arguments])
            return await asyncio.wait_for(future, _GREETING)
        except (TimeoutError, Broken):
            raise Unavailable(f"Node {node} did not open the stream in time.") from None
        finally:
            self._streams.pop(number, None)

    # -- controllers, and this machine's operator

    async def _peer(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        await frames.write(streams[1], Reply(0))
        await channel.Channel(*streams, self._peer_asks, self._peer_tells).run()

    async def _peer_asks(self, method: str, body: bytes) -> bytes:
        if method == "ask":
            node, question, arguments = channel.unpack(body)
            return channel.pack(await self.local.ask_here(node, question, arguments))
        if method == "ask-anywhere":
            node, question, arguments = channel.unpack(body)
            return channel.pack(await self.local.ask(node, question, arguments))
        if method == "check":
            await self.check()
            return b""
        raise NotFound(f"controllers do not know '{method}'")

    def _peer_tells(self, topic: str, body: bytes) -> None:
        if topic == "wake":
            self.cloud.bus.wake_here(body.decode())

    async def _peer_image(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        from pileus.image import store

        image_id, kind = str(hello.arguments["image_id"]), hello.arguments["kind"]
        place = store.staged_path if kind == "staged" else store.final_path
        path = place(self.cloud, image_id)
        if "/" in image_id or not path.is_file():
            raise NotFound(f"Image {image_id} has no content in this store.")
        await _send_all(streams[1], store.read_file(self.cloud, path))

    async def _peer_stream(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        given = hello.arguments
        far = await self.local.stream_here(given["node"], given["question"], given["arguments"])
        await frames.write(streams[1], Reply(0))
        await splice(streams, far)


class Wish(msgspec.Struct, frozen=True):
    """What a node says to join."""

    token_id: str
    secret: str
    name: str
    request: str
    roles: tuple[str, ...] = ()
    address: str = ""
    version: str = ""


class Greeting(msgspec.Struct, frozen=True):
    """What a node says to be connected."""

    address: str = ""
    version: str = ""


async def _send_all(writer: asyncio.StreamWriter, pieces: Any) -> None:
    """A stream of data frames. An error before its end is told in its place."""
    try:
        async for piece in pieces:
            await frames.write(writer, Data(bytes(piece)))
    except Broken:
        raise
    except Exception as error:
        await frames.write(writer, as_failure(0, "stream", error))
        return
    await frames.write(writer, Data())


async def _receive_all(reader: asyncio.StreamReader) -> Any:
    """The pieces of a stream. Raises Broken when it ends before its end."""
    while True:
        frame = await frames.read(reader)
        if isinstance(frame, Data):
            if not frame.data:
                return
            yield frame.data
        elif isinstance(frame, Failure):
            raise Broken(frame.text)
        else:
            raise Broken("something else than data was sent")
