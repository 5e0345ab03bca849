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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pileus.cluster import certificates, channel, frames, greeting, invitation
from pileus.cluster.frames import Hello
from pileus.cluster.streams import Streams
from pileus.web.errors import Problem, Unavailable

PORT = 8443
_DIAL = 8.0
_JOIN = 30.0
_AT_ONCE = 8


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
            self._context = certificates.client_context(
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
        if not certificates.wants_renewal((self.folder / "cert.pem").read_text(), time.time()):
            return None
        return certificates.request_for((self.folder / "key.pem").read_text(), self.node)

    def keep_certificate(self, certificate: str) -> None:
        """Use a new certificate from the next connection on."""
        certificates.keep(self.folder / "cert.pem", certificate)
        self._context = None


def has_joined(folder: Path) -> bool:
    """Whether the folder holds a node's identity, with a certificate that has not run out."""
    try:
        return certificates.end((folder / "cert.pem").read_text()) > time.time() and (folder / "node.json").exists()
    except FileNotFoundError:
        return False


def addresses(text: str) -> list[str]:
    """`https://a:8443,b,2001:db8::1` as `["a:8443", "b:8443", "[2001:db8::1]:8443"]`. Raises ValueError."""
    found = []
    for part in text.split(","):
        name = part.strip().removeprefix("https://").rstrip("/")
        if not name:
            continue
        if name.count(":") > 1 and not name.startswith("["):
            name = f"[{name}]"
        if name.endswith("]") or ":" not in name:
            name = f"{name}:{PORT}"
        if not name.rpartition(":")[2].isdecimal():
            raise ValueError(f"'{part.strip()}' is no controller's address: write HOST or HOST:PORT")
        found.append(name)
    return found


async def dial(identity: Identity, server: str) -> Streams:
    """A connection to a controller as this node. Raises OSError (TimeoutError is one)."""
    return await greeting.dial(server, identity.context, _DIAL)


class Joining:
    """One process that joins, as one node or as many (fake ones)."""

    def __init__(self, servers: list[str], token: str, *, roles: tuple[str, ...], address: str, version: str) -> None:
        """Raises CannotJoin for what is no token."""
        try:
            self._token = invitation.parse(token)
        except invitation.BadToken as error:
            raise CannotJoin(str(error)) from None
        self._servers, self._roles, self._address, self._version = servers, roles, address, version
        self._trusted: dict[str, tuple[str, ssl.SSLContext]] = {}

    async def all(self, folders: Mapping[str, Path]) -> None:
        """Join as each of the names; told again after being killed, it goes on. Raises CannotJoin."""
        names = iter(folders)

        async def some() -> None:
            for name in names:
                await self.one(folders[name], name)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(folders))):
                    group.create_task(some())
        except BaseExceptionGroup as failed:
            reasons = failed.subgroup(CannotJoin)
            if reasons is None:
                raise
            # Some releases of Python wrap what `except*` raises into a group again.
            raise reasons.exceptions[0] from None

    async def one(self, folder: Path, name: str) -> Identity:
        """Join as this node, at the first controller that answers. Raises CannotJoin."""
        problems = []
        for server in self._servers:
            try:
                await self._enter(folder, server, name)
                return Identity(folder)
            except CannotJoin:
                raise
            except Unavailable as error:
                problems.append(f"{server}: {error}")
            except Problem as problem:
                raise CannotJoin(str(problem)) from None
            except Exception as error:
                problems.append(f"{server}: {error or type(error).__name__}")
        raise CannotJoin("no controller could be joined: " + "; ".join(problems))

    async def _enter(self, folder: Path, server: str, name: str) -> None:
        if server not in self._trusted:
            self._trusted[server] = await self._pinned(server)
        ca, context = self._trusted[server]
        key = await asyncio.to_thread(certificates.keep_key, folder / "key.pem")
        try:
            request = certificates.request_for(key, name)
        except ValueError as error:
            raise CannotJoin(f"'{name}' cannot be a node's name: {error}. Set node_name.") from None
        streams = await greeting.dial(server, context, _DIAL)
        wish = {
            "token_id": self._token.id, "secret": self._token.secret, "name": name, "request": request,
            "roles": list(self._roles), "version": self._version,
            "address": self._address or str(streams[1].get_extra_info("sockname")[0]),
        }
        said: dict[str, Any] = channel.unpack(await _ask(streams, Hello("join", wish)))
        await asyncio.to_thread(self._keep, folder, name, ca, said)

    def _keep(self, folder: Path, name: str, ca: str, said: dict[str, Any]) -> None:
        """The last file is the one that says that the node has joined. Blocks."""
        certificates.keep(folder / "ca.pem", ca)
        certificates.keep(folder / "cert.pem", said["certificate"])
        known = list(dict.fromkeys([*said["controllers"], *self._servers]))
        _write(folder, name, tuple(said["roles"]), known, self._servers)

    async def _pinned(self, server: str) -> tuple[str, ssl.SSLContext]:
        """The authority's certificate, and a context that trusts nobody else. Raises CannotJoin for another one."""
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname = False
        stranger.verify_mode = ssl.CERT_NONE
        said = (await _ask(await greeting.dial(server, stranger, _DIAL), Hello("ca"))).decode("ascii")
        ca = certificates.only(said)
        if certificates.fingerprint(ca) != self._token.fingerprint:
            raise CannotJoin(
                f"{server} is not of the cloud that this token is for: its authority is another. Somebody may be "
                "in between; the token has not been sent."
            )
        return ca, certificates.client_context(ca)


async def _ask(streams: Streams, hello: Hello) -> bytes:
    reader, writer = streams
    try:
        await frames.write(writer, hello)
        return await greeting.reply(reader, _JOIN, frames.LARGEST_HELLO)
    finally:
        writer.close()


def _write(folder: Path, name: str, roles: tuple[str, ...], servers: list[str], joined_by: list[str]) -> None:
    said = {"name": name, "roles": list(roles), "servers": servers, "joined_by": joined_by}
    certificates.keep(folder / "node.json", json.dumps(said))
