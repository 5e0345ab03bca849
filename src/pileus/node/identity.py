"""Who a node is to its controllers: its key, its certificate, the authority it trusts, and where they are.

The key never leaves the node. Joining is done by two connections: over the first, which trusts nobody, comes the
authority's certificate, which has to be the one that the token pins; the second trusts only that, and gets the secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from pathlib import Path
from typing import Any

from pileus.cluster import authority, channel, frames, tokens
from pileus.cluster.errors import from_failure
from pileus.cluster.frames import Broken, Failure, Hello, Reply
from pileus.web.errors import Problem

PORT = 8443
_DIAL = 8.0


class CannotJoin(Exception):
    """The node is not let in, or nobody answers; says why and what to do."""


class Identity:
    """What is kept in the node's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        said = json.loads((folder / "node.json").read_text())
        self.node: str = said["name"]
        self.roles: tuple[str, ...] = tuple(said["roles"])
        self.servers: list[str] = list(said["servers"])
        self._joined_by: list[str] = list(said["joined_by"])
        self._context: ssl.SSLContext | None = None

    @property
    def context(self) -> ssl.SSLContext:
        """TLS towards the controllers."""
        if self._context is None:
            self._context = authority.client_context(
                (self.folder / "ca.pem").read_text(), self.folder / "cert.pem", self.folder / "key.pem"
            )
        return self._context

    def remember(self, controllers: list[str]) -> None:
        """The controllers that live now; the one that let us in stays on the list."""
        found = list(dict.fromkeys([*controllers, *self._joined_by]))
        if set(found) != set(self.servers):
            self.servers = found
            with contextlib.suppress(OSError):
                _write(self.folder, self.node, self.roles, found, self._joined_by)

    def renewal(self) -> str | None:
        """A request for a new certificate, when the one here is near its end."""
        if not authority.wants_renewal((self.folder / "cert.pem").read_text(), time.time()):
            return None
        return authority.request_for((self.folder / "key.pem").read_text(), self.node)

    def keep_certificate(self, certificate: str) -> None:
        """Use a new certificate from the next connection on."""
        authority.keep(self.folder / "cert.pem", certificate)
        self._context = None


def has_joined(folder: Path) -> bool:
    """Whether the folder holds a node's identity."""
    return (folder / "node.json").exists()


def addresses(text: str) -> list[str]:
    """`https://a:8443,b` as `["a:8443", "b:8443"]`."""
    found = []
    for part in text.split(","):
        name = part.strip().removeprefix("https://").rstrip("/")
        if not name:
            continue
        bare = (name.startswith("[") and name.endswith("]")) or (":" not in name)
        found.append(f"{name}:{PORT}" if bare else name)
    return found


async def dial(identity: Identity, server: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a controller as this node. Raises OSError (TimeoutError is one)."""
    return await _dial(server, identity.context)


async def _dial(server: str, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.rpartition(":")
    return await asyncio.wait_for(
        asyncio.open_connection(
            host.strip("[]"), int(port), ssl=context, server_hostname=authority.SERVER_NAME, limit=frames.BUFFER
        ),
        _DIAL,
    )


async def join(
    folder: Path, servers: list[str], token: str, *, name: str, roles: tuple[str, ...], address: str, version: str
) -> Identity:
    """Join by a token; told again after being killed, it goes on. Raises CannotJoin."""
    try:
        parts = tokens.parse(token)
    except tokens.BadToken as error:
        raise CannotJoin(str(error)) from None
    problems = []
    for server in servers:
        try:
            ca = await _authority(server)
            if authority.fingerprint(ca) != parts.fingerprint:
                raise CannotJoin(
                    f"{server} is not of the cloud that this token is for: its authority is another. Somebody may be "
                    "in between; the token has not been sent."
                )
            await _enter(folder, server, servers, ca, parts, name, roles, address, version)
            return Identity(folder)
        except (OSError, Broken, ValueError) as error:
            problems.append(f"{server}: {error or type(error).__name__}")
        except Problem as problem:
            raise CannotJoin(str(problem)) from None
    raise CannotJoin("no controller could be joined: " + "; ".join(problems))


async def _authority(server: str) -> str:
    """The certificate of the authority that a server says it has; not to be trusted before it is compared."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return (await _ask(await _dial(server, context), Hello("ca"))).decode("ascii")


async def _enter(
    folder: Path, server: str, servers: list[str], ca: str, parts: tokens.Parts, name: str, roles: tuple[str, ...],
    address: str, version: str,
) -> None:
    key = authority.keep_key(folder / "key.pem")
    streams = await _dial(server, authority.client_context(ca))
    here = address or str(streams[1].get_extra_info("sockname")[0])
    wish = {
        "token_id": parts.id, "secret": parts.secret, "name": name, "request": authority.request_for(key, name),
        "roles": list(roles), "address": here, "version": version,
    }
    said: dict[str, Any] = channel.unpack(await _ask(streams, Hello("join", wish)))
    authority.keep(folder / "ca.pem", ca)
    authority.keep(folder / "cert.pem", said["certificate"])
    known = list(dict.fromkeys([*said["controllers"], *servers]))
    _write(folder, name, tuple(said["roles"]), known, servers)


async def _ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], hello: Hello) -> bytes:
    reader, writer = streams
    try:
        await frames.write(writer, hello)
        frame = await asyncio.wait_for(frames.read(reader, frames.LARGEST_HELLO), _DIAL)
    finally:
        writer.close()
    if isinstance(frame, Failure):
        raise from_failure(frame)
    if not isinstance(frame, Reply):
        raise Broken("an answer was expected")
    return frame.body


def _write(folder: Path, name: str, roles: tuple[str, ...], servers: list[str], joined_by: list[str]) -> None:
    said = {"name": name, "roles": list(roles), "servers": servers, "joined_by": joined_by}
    authority.keep(folder / "node.json", json.dumps(said))
