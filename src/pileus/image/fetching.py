"""Fetches what an import names by URL, from public addresses only.

The name is resolved here, each address is judged, and the connection goes to the address that was judged, never to the
name again; each redirect is judged anew (OSSA-2026-004: a name that changed its address between check and use, and a
redirect, led an import to the cloud's own metadata and services).
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from pileus.image import store
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = 5
_TIMEOUT = 30.0
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Place:
    """A URL that passed the filter, with the address to connect to."""

    __slots__ = ("address", "parts", "port")

    def __init__(self, parts: SplitResult, port: int, address: str) -> None:
        self.parts, self.port, self.address = parts, port, address


def check(url: str, allow_private: bool) -> Place:
    """Judge a URL; blocks for the name's resolution. Raises BadRequest, saying what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
        name = (parts.hostname or "").encode("idna").decode()
    except ValueError:
        raise BadRequest("URI for web-download does not pass filtering: it cannot be read.") from None
    if parts.scheme not in _PORTS or not name:
        raise BadRequest("URI for web-download does not pass filtering: it is not http://… or https://….")
    if any(ord(c) <= 32 or ord(c) > 126 for c in url):
        raise BadRequest("URI for web-download does not pass filtering: it holds spaces or other than ASCII.")
    if parts.username is not None or parts.password is not None:
        raise BadRequest("URI for web-download does not pass filtering: it holds a user's name.")
    if port not in _PORTS.values() and not allow_private:
        raise BadRequest("URI for web-download does not pass filtering: only the ports 80 and 443 are allowed.")
    return Place(parts, port, _address(name, port, allow_private))


def _address(name: str, port: int, allow_private: bool) -> str:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise BadRequest(f"URI for web-download does not pass filtering: the name {name} has no address.") from None
    addresses = [str(entry[4][0]).split("%")[0] for entry in found]
    if not allow_private and not all(public(ipaddress.ip_address(address)) for address in addresses):
        raise BadRequest(f"URI for web-download does not pass filtering: {name} is not a public address.")
    return addresses[0]


def public(address: Address) -> bool:
    """Whether an address is of the public internet, and carries no other address that is not."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


class _Plain(http.client.HTTPConnection):
    """Connects to an address that was judged, and still says the name."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.parts.hostname or "", place.port, timeout=_TIMEOUT)
        self.place = place

    def connect(self) -> None:
        self.sock = socket.create_connection((self.place.address, self.place.port), self.timeout)


class _Secure(_Plain):
    default_port = 443

    def connect(self) -> None:
        super().connect()
        context = ssl.create_default_context()
        self.sock = context.wrap_socket(self.sock, server_hostname=self.place.parts.hostname)


def open_url(url: str, allow_private: bool) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Follow a URL to its content; blocks. Raises BadRequest when the filter or the server refuses."""
    for _ in range(_REDIRECTS + 1):
        place = check(url, allow_private)
        connection = (_Secure if place.parts.scheme == "https" else _Plain)(place)
        try:
            target = (place.parts.path or "/") + (f"?{place.parts.query}" if place.parts.query else "")
            connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "pileus"})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise BadRequest(f"The server of the image cannot be read: {error}") from None
        if response.status == 200:
            return connection, response
        where = response.getheader("Location")
        connection.close()
        if response.status not in (301, 302, 303, 307, 308) or not where:
            raise BadRequest(f"The server of the image answered {response.status} {response.reason}.")
        url = urljoin(url, where)
    raise BadRequest(f"The URL of the image leads to more than {_REDIRECTS} redirects.")


async def fetch(cloud: Cloud, url: str) -> AsyncIterator[bytes]:
    """The bytes behind a URL. Raises BadRequest, also when the server ends too early."""
    loop, threads = asyncio.get_running_loop(), store.pool(cloud)
    connection, response = await loop.run_in_executor(threads, open_url, url, cloud.settings.import_allow_private)
    try:
        while True:
            try:
                data = await loop.run_in_executor(threads, response.read, store.BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise BadRequest(f"The server of the image broke off: {error}") from None
            if not data:
                break
            yield data
        if response.length:
            raise BadRequest(f"The server of the image broke off: {response.length} bytes are missing.")
    finally:
        connection.close()
