"""Real database servers for tests: PostgreSQL and MariaDB in private folders, on unix sockets, without fsync.

Each is started when the first test asks for it and stopped with the test session. Neither listens on a network, and
neither runs as root: what root starts runs as the user that the Debian package made.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from pileus.db.engine import Database
from pileus.db.migrate import load_tables, upgrade
from pileus.db.tables import metadata

SERVERS = ("postgresql", "mariadb")
_WAIT = 60.0
_INSTALL = "install it with `scripts/install-system test`"


class Server(Protocol):
    """A running server."""

    def database(self) -> Iterator[str]:
        """The URL of a migrated database without rows, for as long as the iterator is held."""
        ...

    def empty(self) -> Iterator[str]:
        """The URL of a database without tables."""
        ...


@contextmanager
def server(name: str) -> Iterator[Server]:
    """A server by its name in `SERVERS`; its folder is removed at the end."""
    kind = {"postgresql": Postgresql, "mariadb": Mariadb}[name]
    folder = Path(tempfile.mkdtemp(prefix=f"pileus-{name}-"))
    try:
        running = kind(folder)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Process:
    """A server program in a folder of its own."""

    user = ""
    socket = ""  # its name in the folder

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0
        self.as_user = self.user if os.geteuid() == 0 else None
        if self.as_user:
            known = pwd.getpwnam(self.as_user)
            os.chown(folder, known.pw_uid, known.pw_gid)
        self.prepare()
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=folder,
            user=self.as_user, group=self.as_user, extra_groups=[] if self.as_user else None,
        )
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> None:
        """Make the data folder."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """How the server is started, in the foreground."""
        raise NotImplementedError

    def url(self, name: str) -> str:
        """The URL of one database of this server."""
        raise NotImplementedError

    def do(self, *statements: str, database: str = "") -> None:
        """Run statements as the server's administrator, each by itself."""
        engine = sa.create_engine(Database(self.url(database)).url, isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as conn:
                for statement in statements:
                    conn.exec_driver_sql(statement)
        finally:
            engine.dispose()

    def call(self, *words: str) -> None:
        """Run a program as the server's user. Fails with what it said."""
        done = subprocess.run(
            words, cwd=self.folder, user=self.as_user, group=self.as_user, timeout=_WAIT, check=False,
            extra_groups=[] if self.as_user else None, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise RuntimeError(f"{words[0]} failed: {done.stdout.decode(errors='replace')[-2000:]}")

    def wait(self) -> None:
        """Until the server answers."""
        until = time.monotonic() + _WAIT
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.folder / self.socket))
                return self.do("SELECT 1")
            except (OSError, sa.exc.DBAPIError) as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    text = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.command()[0]} does not answer: {error}\n{text}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """End the server; what it holds is thrown away."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.log.close()

    def name(self) -> str:
        """A database name that was not used yet."""
        self.number += 1
        return f"test{self.number}"


class Postgresql(_Process):
    """PostgreSQL: a fresh database is a copy of a migrated template."""

    user = "postgres"
    socket = ".s.PGSQL.5432"
    template = False

    def _program(self, name: str) -> str:
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
        path = str(found[-1]) if found else shutil.which(name)
        if not path:
            raise RuntimeError(f"PostgreSQL's {name} is missing: {_INSTALL}")
        return path

    def prepare(self) -> None:
        self.call(
            self._program("initdb"), "--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C.UTF-8", "--pgdata", str(self.folder / "data"),
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "", "unix_socket_directories": str(self.folder), "fsync": "off",
            "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60",
            "autovacuum": "off", "shared_buffers": "64MB", "deadlock_timeout": "100ms",
            "dynamic_shared_memory_type": "mmap",  # what is killed leaves nothing outside its folder
        }
        words = [self._program("postgres"), "-D", str(self.folder / "data")]
        return words + [word for k, v in settings.items() for word in ("-c", f"{k}={v}")]

    def url(self, name: str) -> str:
        return f"postgresql://postgres@/{name or 'postgres'}?host={self.folder}"

    def empty(self) -> Iterator[str]:
        name = self.name()
        self.do(f"CREATE DATABASE {name}")
        yield self.url(name)
        self.do(f"DROP DATABASE {name} WITH (FORCE)")

    def database(self) -> Iterator[str]:
        if not self.template:
            self.do("CREATE DATABASE migrated")
            _migrate(self.url("migrated"))
            self.template = True
        name = self.name()
        self.do(f"CREATE DATABASE {name} TEMPLATE migrated")
        yield self.url(name)
        self.do(f"DROP DATABASE {name} WITH (FORCE)")


class Mariadb(_Process):
    """MariaDB: one database is migrated once, and emptied for whoever comes next."""

    user = "mysql"
    socket = "socket"

    def __init__(self, folder: Path) -> None:
        self.free: list[str] = []
        super().__init__(folder)

    def _program(self, name: str) -> str:
        path = shutil.which(name, path=f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}")
        if not path:
            raise RuntimeError(f"MariaDB's {name} is missing: {_INSTALL}")
        return path

    def prepare(self) -> None:
        self.call(
            self._program("mariadb-install-db"), "--no-defaults", "--auth-root-authentication-method=normal",
            "--skip-test-db", "--innodb-flush-log-at-trx-commit=0", f"--datadir={self.folder / 'data'}",
        )

    def command(self) -> list[str]:
        return [
            self._program("mariadbd"), "--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-networking",
            f"--socket={self.folder / self.socket}", f"--pid-file={self.folder / 'pid'}",
            "--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite", "--sync-binlog=0",
            "--innodb-flush-method=nosync", "--innodb-buffer-pool-size=64M", "--max-connections=60",
            "--innodb-log-file-size=32M", "--innodb-fast-shutdown=2", "--debug-no-sync",
        ]

    def url(self, name: str) -> str:
        return f"mariadb://root@localhost/{name}?unix_socket={self.folder / self.socket}"

    def empty(self) -> Iterator[str]:
        name = self.name()
        self.do(f"CREATE DATABASE {name} CHARACTER SET latin1")  # what an unlucky operator may have
        yield self.url(name)
        self.do(f"DROP DATABASE {name}")

    def database(self) -> Iterator[str]:
        if self.free:
            name = self.free.pop()
        else:
            name = self.name()
            self.do(f"CREATE DATABASE {name}")
            _migrate(self.url(name))
        yield self.url(name)
        load_tables()
        self.do(
            "SET SESSION foreign_key_checks = 0", *(f"DELETE FROM `{table}`" for table in metadata.tables),
            database=name,
        )
        self.free.append(name)


def _migrate(url: str) -> None:
    database = Database(url)
    try:
        upgrade(database)
    finally:
        database.close()
