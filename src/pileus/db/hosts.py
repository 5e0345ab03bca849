"""Connections to a database of one or several hosts: the first in the URL that takes writes is used.

All controllers write the hosts in the same order, so that all use the same one and a reply that one of them gave can
be read at once through any other. Where one host had to be passed over, Galera's others are told to wait for what
their neighbours have written before they answer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa

from pileus.settings import SettingsError

CONNECT_SECONDS = 3
"""How long one host may take to let us in."""
ANSWER_SECONDS = 60
"""How long one statement may take, but for those of migrations."""
IDLE_SECONDS = 5
"""How long a transaction may ask nothing before the server ends it, but for those of migrations. What a controller had
locked when it was cut off, or stopped, is locked for all others until then; one that stood still begins anew."""
_AVOID = 20.0  # seconds for which a host that failed is asked last
_STRICT = "SET SESSION sql_mode='STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
_IDLE = "/*M!100300 , idle_transaction_timeout={} */"  # MySQL's own server has no such variable
# PostgreSQL notices within seconds that who asks is gone, even in a statement; the system's own default is hours.
_GONE = (
    "SET idle_in_transaction_session_timeout = '{}s'; SET tcp_keepalives_idle = 3; SET tcp_keepalives_interval = 1; "
    "SET tcp_keepalives_count = 3; SET tcp_user_timeout = 6000; SET client_connection_check_interval = 1000"
)
_DRIVERS = {
    "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
Host = tuple[str, int | None]


class DatabaseUrlError(SettingsError):
    """A database URL that cannot be read. Never holds the URL: it may have a password in it."""


def parse(url: str) -> tuple[sa.URL, tuple[Host, ...]]:
    """A URL with the driver filled in, and its hosts in order; none for a file or a socket. Raises DatabaseUrlError."""
    scheme, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    account, at, places = authority.rpartition("@")
    several = [place for place in places.split(",") if place]
    try:
        hosts = tuple(_host(place) for place in several) if len(several) > 1 else ()
        first = several[0] if several else places
        parsed = sa.make_url(f"{scheme}{mark}{account}{at}{first}{slash}{path}" if mark else url)
    except (sa.exc.ArgumentError, ValueError):
        raise DatabaseUrlError(
            "the database URL cannot be read: write sqlite:///PATH, mysql://… or "
            "postgresql://USER:PASSWORD@HOST[:PORT][,HOST…]/NAME (in a password, @ / : are %40 %2F %3A)"
        ) from None
    if parsed.drivername in _DRIVERS:
        parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
    if parsed.get_backend_name() not in ("sqlite", "postgresql", "mysql"):
        raise DatabaseUrlError(f"there is no database of the kind '{parsed.drivername}': sqlite, postgresql, mysql")
    if parsed.get_backend_name() == "mysql" and "charset" not in parsed.query:
        parsed = parsed.update_query_dict({"charset": "utf8mb4"})
    if not hosts and parsed.host and parsed.get_backend_name() != "sqlite":
        hosts = ((parsed.host, parsed.port),)
    return parsed, hosts


def _host(text: str) -> Host:
    name, port = text, ""
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in text:
        name, _, port = text.rpartition(":")
    return unquote(name), int(port) if port else None


def shown(url: str) -> str:
    """A URL as it may be logged and printed: without the password."""
    parsed, hosts = parse(url)
    if parsed.get_backend_name() == "sqlite":
        return f"sqlite:///{parsed.database}"
    places = ",".join(name if port is None else f"{name}:{port}" for name, port in hosts)
    account = f"{parsed.username}@" if parsed.username else ""
    socket_path = parsed.query.get("unix_socket") or (parsed.query.get("host") if not parsed.host else "")
    end = f" at {socket_path}" if socket_path else ""
    return f"{parsed.get_backend_name()}://{account}{places}/{parsed.database or ''}{end}"


def connect_arguments(url: sa.URL, hosts: Sequence[Host], hurried: bool) -> dict[str, Any]:
    """What the driver is told beside the URL. `hurried`: no statement may take longer than a minute."""
    if url.get_backend_name() == "mysql":
        # What does not fit is refused, not cut, whatever the server's own default is.
        # The driver's own limit on connecting does not hold for the greeting; the answers' limit comes after that.
        return {
            "init_command": _STRICT + (_IDLE.format(IDLE_SECONDS) if hurried else ""),
            "connect_timeout": CONNECT_SECONDS, "read_timeout": CONNECT_SECONDS,
            "write_timeout": ANSWER_SECONDS if hurried else None,
        }
    options = {
        "connect_timeout": CONNECT_SECONDS, "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 2,
        "keepalives_count": 3, "tcp_user_timeout": 10_000,
    }
    # A standby takes no writes; asking a single server which it is costs each connection a round trip.
    return {**options, "target_session_attrs": "read-write"} if len(hosts) > 1 else options


class Connector:
    """Makes the connections of one database, passing over hosts that do not answer."""

    def __init__(self, url: sa.URL, hosts: Sequence[Host], hurried: bool = True) -> None:
        self._answer = ANSWER_SECONDS if hurried else None
        self._url = url
        self._hosts = tuple(hosts)
        self._lock = threading.Lock()
        self._failed: dict[Host, float] = {}

    def listen(self, engine: sa.Engine) -> None:
        """Make this engine's connections."""
        sa.event.listen(engine, "do_connect", self._connect)

    def order(self) -> list[Host]:
        """The hosts in the order in which they are tried now: those that failed lately come last."""
        now = time.monotonic()
        with self._lock:
            bad = {host for host, at in self._failed.items() if now - at < _AVOID}
        return [host for host in self._hosts if host not in bad] + [host for host in self._hosts if host in bad]

    def avoid(self, host: Host | None) -> None:
        """The host does not work: connections made from now on try the others first."""
        if host is not None:
            with self._lock:
                self._failed[host] = time.monotonic()

    def _connect(self, dialect: Any, record: Any, words: Any, named: dict[str, Any]) -> Any:
        if not self._hosts:  # a socket
            made = dialect.connect(*words, **named)
            self._set_up(dialect.name, made)
            return made
        last: BaseException | None = None
        for host in self.order():
            options = {**named, "host": host[0], "port": host[1]}
            if host[1] is None:
                del options["port"]
            errors = dialect.loaded_dbapi
            made = None
            try:
                made = dialect.connect(*words, **options)
                if not self._set_up(dialect.name, made, host):
                    raise errors.OperationalError(1047, f"{host[0]} is not ready: Galera has not let it in")
            except errors.Error as error:
                last = error
                self.avoid(host)
                if made is not None:
                    with contextlib.suppress(errors.Error):
                        made.close()
                continue
            with self._lock:
                self._failed.pop(host, None)
            if record is not None:
                record.info["host"] = host
            return made
        assert last is not None
        raise last

    def _set_up(self, kind: str, made: Any, host: Host | None = None) -> bool:
        """What neither URL nor driver does; False for a MariaDB server that its Galera cluster has not let in."""
        if kind == "mysql":
            _keep_alive(made)
            if host is not None and len(self._hosts) > 1 and not self._of_a_cluster(made, host):
                return False
            made._read_timeout = self._answer
        elif self._answer is not None:
            made.autocommit = True  # else a rollback would undo it
            made.execute(_GONE.format(IDLE_SECONDS))
            made.autocommit = False
        return True

    def _of_a_cluster(self, made: Any, host: Host) -> bool:
        with made.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'wsrep_ready'")
            row = cursor.fetchone()
            if row is not None and row[1] != "ON" and _galera(cursor):
                return False
            if row is not None and host != self._hosts[0]:
                with contextlib.suppress(Exception):  # MySQL's own server has no such variable
                    cursor.execute("SET SESSION wsrep_sync_wait=7")
        return True


def _galera(cursor: Any) -> bool:
    """Whether the server is a node of Galera: MariaDB has the status without it too, and it is OFF then."""
    cursor.execute("SHOW VARIABLES LIKE 'wsrep_on'")
    row = cursor.fetchone()
    return row is not None and row[1] == "ON"


def _keep_alive(made: Any) -> None:
    """Notice within seconds that the host at the other end is gone; the system's own default is hours."""
    sock = getattr(made, "_sock", None)
    if isinstance(sock, socket.socket) and sock.family != socket.AF_UNIX:
        for option, value in (
            (socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3),
            (socket.TCP_USER_TIMEOUT, 10_000),
        ):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
