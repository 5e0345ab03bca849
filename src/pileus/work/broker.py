"""Where RabbitMQ is: the setting `bus` taken apart, and a connection to one of its hosts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote

import msgspec
from aio_pika.abc import AbstractConnection
from aio_pika.connection import Connection, make_url
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from pileus.settings import SettingsError

_PORTS = {"amqp": 5672, "amqps": 5671}
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s\[\]@:]+))(?::(?P<port>[0-9]{1,5}))?")
_FILES = ("cafile", "certfile", "keyfile")
_SHAPE = "write amqp://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]…][/VHOST], or amqps://… with ?cafile=PATH"
_CONNECT = 5.0
"""Seconds that one host may take to answer before the next is tried."""
_HEARTBEAT = 5
"""Seconds; a host that is cut off is given up after about three of these."""


class Lost(Exception):
    """The connection to RabbitMQ is gone, or it takes no messages; says why."""


@contextlib.contextmanager
def as_lost() -> Iterator[None]:
    """Turn the library's errors into `Lost`: it also cancels whoever waits for a channel that is closed."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Lost("the connection to RabbitMQ was lost") from None
    except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
        raise Lost(f"the connection to RabbitMQ was lost: {str(error) or type(error).__name__}") from None


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """RabbitMQ as the setting names it. Its text never shows the password."""

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    vhost: str
    tls: bool
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""

    def __repr__(self) -> str:
        return f"Broker({', '.join(f'{host}:{port}' for host, port in self.hosts)})"

    def context(self) -> ssl.SSLContext:
        """What TLS needs, read from the files anew, as certificates are renewed. Raises OSError, naming the file."""
        context = ssl.create_default_context(cafile=self.cafile or None)
        if self.certfile:
            context.load_cert_chain(self.certfile, self.keyfile or None)
        return context


def parse(url: str) -> Broker:
    """The setting `bus` taken apart. Raises SettingsError, which does not show the URL: a password is in it."""
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    place, _, vhost = rest.partition("/")
    login, _, hosts = place.rpartition("@")
    user, _, password = login.partition(":")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if scheme not in _PORTS:
        raise SettingsError(f"setting 'bus': {_SHAPE}")
    if not options.keys() <= set(_FILES):  # which one is not said: it may be a password with a question mark
        raise SettingsError(f"setting 'bus': after the question mark come {', '.join(_FILES)} alone")
    if options and scheme == "amqp":
        raise SettingsError("setting 'bus': certificates are for amqps://, and this is amqp://")
    return Broker(
        hosts=tuple(_host(part, _PORTS[scheme]) for part in hosts.split(",")), user=unquote(user) or "guest",
        password=unquote(password) or "guest", vhost=unquote(vhost) or "/", tls=scheme == "amqps", **options,
    )


def _host(text: str, default: int) -> tuple[str, int]:
    """`host`, `host:port`, `[::1]` or `[::1]:port`."""
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found["port"] or default) < 65536:
        raise SettingsError(f"setting 'bus': each host is HOST or HOST:PORT; {_SHAPE}")
    return found["six"] or found["name"], int(found["port"] or default)


async def connect(broker: Broker, host: str, port: int, name: str) -> AbstractConnection:
    """A connection to one host, which RabbitMQ lists by `name`.

    Raises OSError, TimeoutError or one of the library's errors; none of them shows the password."""
    for library in ("aio_pika", "aiormq"):  # they log each failed try; one line for all of them is said here
        logging.getLogger(library).setLevel(logging.CRITICAL)
    context = await asyncio.to_thread(broker.context) if broker.tls else None
    url = make_url(
        host=host, port=port, login=broker.user, password=broker.password, virtualhost=broker.vhost, ssl=broker.tls,
        heartbeat=_HEARTBEAT,
    )
    connection = Connection(url, ssl_context=context, client_properties={"connection_name": name})
    try:
        await connection.connect(timeout=_CONNECT)
    except BaseException:
        await connection.close()  # or the collector does, on whichever thread it runs
        raise
    return connection
