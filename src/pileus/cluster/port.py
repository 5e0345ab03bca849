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
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pileus.cluster import authority, bulk, channel, controllers, frames, nodes
from pileus.cluster.errors import as_failure
from pileus.cluster.frames import Broken, Hello, Reply
from pileus.cluster.isolation import Isolation
from pileus.cluster.listener import Listener, Peer
from pileus.cluster.peer_port import PeerPort
from pileus.cluster.session import NodeSession
from pileus.cluster.streams import Streams
from pileus.db.locks import read_revision
from pileus.node.contract import NodeFault
from pileus.web.errors import BadRequest, Forbidden, NotFound, Unavailable

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.controller import LocalNodes

_LOG = logging.getLogger("pileus.cluster")
_LOOK = 1.0
_LOOK_ALL = 30.0
_PATIENCE = 3.0
_OPENING = 10.0
_CHALLENGE = 3.0
_BULK = 256  # connections of one node for images and screens at a time

T = TypeVar("T")
Purpose = Callable[[Peer, Hello, Streams], Awaitable[None]]


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
    """What a node says to be connected. `instance` is another one for each start of its agent."""

    instance: str
    address: str = ""
    version: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """The image that a connection is for, from this byte on."""

    image_id: str
    offset: int = 0


class Opened(msgspec.Struct, frozen=True):
    """The stream that a connection is."""

    id: str


class ClusterPort:
    """Serves until cancelled."""

    def __init__(self, cloud: Cloud, local: LocalNodes) -> None:
        self.cloud = cloud
        self.sessions: dict[str, NodeSession] = {}
        """The nodes that are connected here, by name; each was let in."""
        self.listener = Listener(self._greet)
        self._streams: dict[str, tuple[str, asyncio.Future[Streams]]] = {}
        self._bulk: dict[asyncio.Task[Any], Peer] = {}
        self._counted, self._looked = -1, 0.0
        self._isolation = Isolation(cloud, self.sessions)
        self._stopping = False
        peers = PeerPort(cloud, local, self.check)
        self._purposes: dict[tuple[str, str], Purpose] = {
            ("", "ca"): self._ca, ("", "join"): self._join,
            ("node", "node"): self._node, ("node", "image"): self._as_bulk(self._image),
            ("node", "store"): self._as_bulk(self._store), ("node", "stream"): self._as_bulk(self._stream),
            ("controller", "peer"): peers.channel, ("controller", "peer-image"): peers.image,
            ("controller", "peer-stream"): peers.stream, ("operator", "control"): peers.channel,
        }

    async def serve(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        """Take connections on a listening socket."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.listener.serve(sock, context))
                group.create_task(self._watch())
        finally:
            sock.close()
            self._stopping = True
            await self.listener.hang_up()
            name = self.cloud.controller
            with contextlib.suppress(Exception):
                await self.cloud.db.run(lambda tx: nodes.all_left(tx, name), patience=1.0)

    async def control(self, path: str) -> None:
        """Take connections of this machine's operator on a socket that only its owner may open."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
        os.chmod(path, 0o600)  # before anybody can connect: it does not listen yet
        server = await asyncio.start_unix_server(self.listener.accept, sock=sock)
        async with server:
            await server.serve_forever()

    async def _watch(self) -> None:
        """Nodes that were removed, or are connected elsewhere by now, are out."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                now = self.cloud.world.monotonic()
                count = await self.cloud.db.run(
                    lambda tx: read_revision(tx, nodes.COUNTER), write=False, patience=_PATIENCE
                )
                self._isolation.there()
                if count != self._counted or now - self._looked > _LOOK_ALL:
                    self._counted, self._looked = count, now
                    await self.check()
                    self._isolation.remember(await self._endpoints())
            except Exception as error:
                self._counted = -1
                _LOG.warning("whether nodes were removed cannot be found out now: %s", error)
                await self._isolation.away()

    async def check(self) -> None:
        """Compare the connections with what the database says of them."""
        mine, bulk_here = list(self.sessions.values()), dict(self._bulk)
        names = {session.node for session in mine} | {peer.name for peer in bulk_here.values()}
        if not names:
            return
        known = await self.cloud.db.run(lambda tx: nodes.sessions(tx, names), write=False)
        for session in mine:
            if known.get(session.node) != (session.id, session.digest):
                why = "it is connected elsewhere" if session.node in known else "it was removed"
                _LOG.warning("node %s: its connection is ended: %s", session.node, why)
                session.close()
        for task, peer in bulk_here.items():
            if known.get(peer.name, ("", ""))[1] != peer.digest:
                task.cancel()
        for name in names - known.keys():
            self._tell_carrier("forget", name)

    # -- connections

    async def _greet(self, peer: Peer, hello: frames.Frame, streams: Streams) -> None:
        what = hello.purpose if isinstance(hello, Hello) else type(hello).__name__
        try:
            if not isinstance(hello, Hello) or hello.protocol != frames.PROTOCOL:
                raise Forbidden("This is another protocol: are node and controller of the same release?")
            purpose = self._purposes.get((peer.kind, what)) or self._purposes.get(("", what))
            if purpose is None:
                raise Forbidden(f"'{what[:80]}' is not for {'a ' + peer.kind if peer.kind else 'strangers'}.")
            await purpose(peer, hello, streams)
        except Broken:
            raise
        except Exception as error:
            failure = as_failure(0, f"{what} of {peer.name or 'a stranger'}", error)
            _LOG.warning("'%s' of %s %s is refused: %s", what[:80], peer.kind or "a stranger", peer.name, failure.text)
            await frames.write(streams[1], failure)

    async def _ca(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        pem = await self.cloud.db.run(authority.certificate, write=False)
        await frames.write(streams[1], Reply(0, (pem or "").encode()))

    async def _join(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        wish = _as(hello, Wish)

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
        return list((await self._endpoints()).values())

    async def _endpoints(self) -> dict[str, str]:
        now = self.cloud.world.now()
        return await self.cloud.db.run(lambda tx: controllers.endpoints(tx, now), write=False)

    # -- nodes

    async def _node(self, peer: Peer, hello: Hello, streams: Streams) -> None:
        wish = _as(hello, Greeting)
        before = self.sessions.get(peer.name)
        other = before is not None and before.digest == peer.digest and before.instance != wish.instance
        if before is not None and other and await before.answers(_CHALLENGE):
            raise nodes.taken(peer.name, before.address)
        row, number = await self.cloud.db.run(lambda tx: nodes.admit(
            tx, self.cloud, peer.name, peer.digest, instance=wish.instance, address=wish.address, version=wish.version
        ))
        session = NodeSession(self, peer, number, row.roles, wish.address, streams)
        before, self.sessions[peer.name] = self.sessions.get(peer.name), session
        if before is not None:
            before.close()
        try:
            await frames.write(streams[1], Reply(0, channel.pack({
                "roles": row.roles, "controllers": await self._controllers(),
            })))
            self.cloud.heartbeats.heard(peer.name)
            self._tell_carrier("connected", peer.name)
            await session.run()
        finally:
            session.close()
            if self.sessions.get(peer.name) is session:
                del self.sessions[peer.name]
                self._tell_carrier("disconnected", peer.name)
            if not self._stopping:
                with contextlib.suppress(Exception):
                    await self.cloud.db.run(lambda tx: nodes.left(tx, peer.name, number))

    def _tell_carrier(self, what: str, name: str) -> None:
        hook = getattr(self.cloud.bus.carrier, what, None)
        if hook is not None:
            hook(name)

    def _as_bulk(self, purpose: Callable[[NodeSession, Hello, Streams], Awaitable[None]]) -> Purpose:
        """A connection beside a node's own one, without which it gets nothing; it ends when the node is removed."""

        async def carry(peer: Peer, hello: Hello, streams: Streams) -> None:
            session = self.sessions.get(peer.name)
            if session is None or session.digest != peer.digest:
                raise Unavailable(f"Node {peer.name} is not connected to this controller.")
            if sum(other.name == peer.name for other in self._bulk.values()) >= _BULK:
                raise Unavailable(f"Node {peer.name} has {_BULK} connections for images and screens already.")
            task = asyncio.current_task()
            assert task is not None
            self._bulk[task] = peer
            try:
                await purpose(session, hello, streams)
            finally:
                del self._bulk[task]

        return carry

    async def _image(self, session: NodeSession, hello: Hello, streams: Streams) -> None:
        wanted = _as(hello, Wanted)
        await bulk.send(streams[1], session.link.image_bytes(wanted.image_id), wanted.offset)

    async def _store(self, session: NodeSession, hello: Hello, streams: Streams) -> None:
        wanted = _as(hello, Wanted)
        answer = await session.link.image_wanted(wanted.image_id)
        await frames.write(streams[1], Reply(0, answer.encode()))
        if answer == "send":
            try:
                await session.link.image_take(wanted.image_id, bulk.receive(streams[0]))
            except NodeFault as fault:
                return await frames.write(streams[1], as_failure(0, "store", fault))
            await frames.write(streams[1], Reply(0))
        return None

    async def _stream(self, session: NodeSession, hello: Hello, streams: Streams) -> None:
        """A node has opened the stream that it was asked for."""
        number = _as(hello, Opened).id
        node, future = self._streams.get(number, ("", None))
        if future is None or node != session.node or future.done():
            raise NotFound("Nobody waits for this stream.")
        await frames.write(streams[1], Reply(0))
        if not future.done():
            future.set_result(streams)
            await streams[1].wait_closed()

    async def stream(self, node: str, question: str, arguments: dict[str, Any]) -> Streams:
        """Have a connected node open a stream: its bytes both ways. Raises Unavailable, and what the node raises."""
        session = self.sessions.get(node)
        if session is None:
            raise Unavailable(f"Node {node} is not connected to this controller; is its agent running?")
        number = self.cloud.world.secret(18)
        future: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
        self._streams[number] = node, future
        try:
            await session.call("stream", [number, question, arguments])
            async with asyncio.timeout(_OPENING):
                return await future
        except (TimeoutError, Broken):
            raise Unavailable(f"Node {node} did not open the stream in time.") from None
        except BaseException:
            if future.done() and not future.cancelled():
                future.result()[1].close()  # it came when nobody wanted it any more
            raise
        finally:
            self._streams.pop(number, None)
            future.cancel()


def _as(hello: Hello, kind: type[T]) -> T:
    try:
        return msgspec.convert(hello.arguments, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The greeting of '{hello.purpose}' lacks something: {error}") from None
