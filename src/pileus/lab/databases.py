"""Database servers of a lab: MariaDB, a Galera cluster of it, PostgreSQL. Tuned small, and durable as ever."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from pileus.lab.faults import LabError
from pileus.lab.machine import Machine
from pileus.lab.part import Part

_NEEDED = "install it with `scripts/install-system test`"
_DATA = "/var/lib/mysql"
_GALERA = "/usr/lib/galera/libgalera_smm.so"
_SMALL = {
    "innodb_buffer_pool_size": "48M", "innodb_log_file_size": "32M", "performance_schema": "OFF",
    "max_connections": "200", "skip_name_resolve": "ON", "character_set_server": "utf8mb4",
}


def grants(password: str) -> str:
    """The cloud's database and its account, made if they are missing."""
    return (
        "CREATE DATABASE IF NOT EXISTS pileus CHARACTER SET utf8mb4;"
        f"CREATE USER IF NOT EXISTS pileus@'%' IDENTIFIED BY '{password}';"
        "GRANT ALL ON pileus.* TO pileus@'%';"
        # HAProxy asks with this account whether the server answers; it may do nothing.
        "CREATE USER IF NOT EXISTS haproxy@'%';"
    )


class Mariadb(Part):
    """One MariaDB."""

    name = "mariadb"
    user = "mysql"

    def __init__(self, machine: Machine, address: str, password: str) -> None:
        super().__init__(machine, address)
        self._password = password

    def prepare(self) -> None:
        """An empty data folder, and the settings."""
        _need("/usr/sbin/mariadbd", "MariaDB")
        machine = self.machine
        machine.run("install", "-d", "-o", "mysql", "-g", "mysql", "-m", "700", _DATA)
        machine.run("mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={_DATA}", "--skip-test-db")
        lines = [f"{name}={value}" for name, value in self.settings().items()]
        machine.path("/etc/pileus-lab.cnf").write_text("\n".join(["[mysqld]", *lines, ""]))

    def settings(self) -> dict[str, str]:
        """Its options."""
        return {
            "datadir": _DATA, "socket": "/run/mysqld/mysqld.sock", "pid_file": "/run/mysqld/mysqld.pid",
            "bind_address": self.address, **_SMALL,
        }

    def launch(self) -> None:
        """Start it; its socket's folder is made anew, as /run is."""
        self.machine.run("install", "-d", "-o", "mysql", "-g", "mysql", "/run/mysqld")
        super().launch()

    def command(self) -> list[str]:
        """How it is started."""
        return ["mariadbd", "--defaults-file=/etc/pileus-lab.cnf"]

    def answers(self) -> bool:
        """Whether it takes statements; the account of the cloud is made then."""
        return self.sql("SELECT 1") == "1" and self.sql(grants(self._password)) is not None

    def sql(self, statements: str) -> str | None:
        """What statements of its administrator print; None when it does not answer."""
        done = self.machine.run(
            "mariadb", "--no-defaults", "--socket=/run/mysqld/mysqld.sock", "-N", text=statements, check=False
        )
        return None if done.returncode else done.stdout.strip()


class Galera(Mariadb):
    """One MariaDB of a Galera cluster."""

    name = "galera"

    def __init__(self, machine: Machine, address: str, password: str, addresses: list[str]) -> None:
        super().__init__(machine, address, password)
        self._addresses = addresses
        self.others: list[Galera] = []
        """The rest of the cluster: if one of them runs, this one joins it, else it begins the cluster."""

    def prepare(self) -> None:
        """As of one server, and what joins them."""
        for path in (_GALERA, "/usr/bin/rsync"):
            _need(path, Path(path).name)
        super().prepare()

    def settings(self) -> dict[str, str]:
        """Its options."""
        return {
            **super().settings(), "binlog_format": "ROW", "default_storage_engine": "InnoDB",
            "innodb_autoinc_lock_mode": "2", "innodb_flush_log_at_trx_commit": "2", "wsrep_on": "ON",
            "wsrep_provider": _GALERA, "wsrep_cluster_name": "pileus-lab", "wsrep_sst_method": "rsync",
            "wsrep_cluster_address": f"gcomm://{','.join(self._addresses)}", "wsrep_node_address": self.address,
            "wsrep_node_name": self.machine.name,
            "wsrep_provider_options": '"gcache.size=32M;gcache.page_size=16M"',
        }

    def command(self) -> list[str]:
        """How it is started."""
        words = super().command()
        if any(other.running for other in self.others):
            return words
        # The first after all have ended. What a killed one had not written down, its peers do not have either.
        state = self.machine.path(f"{_DATA}/grastate.dat")
        if state.exists():
            state.write_text(state.read_text().replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1"))
        return [*words, "--wsrep-new-cluster"]

    def answers(self) -> bool:
        """Whether it is a ready member of the cluster."""
        return self.status("wsrep_ready") == "ON" and super().answers()

    def status(self, name: str) -> str:
        """One of the server's status variables; empty when it does not answer."""
        return (self.sql(f"SHOW STATUS LIKE '{name}'") or "").partition("\t")[2]


class Postgresql(Part):
    """One PostgreSQL."""

    name = "postgresql"
    user = "postgres"
    ends_by = signal.SIGINT  # as service managers do: by SIGTERM it would wait until the last client has gone

    def __init__(self, machine: Machine, address: str, password: str, network: str) -> None:
        super().__init__(machine, address)
        self._password, self._network = password, network

    @staticmethod
    def _program(name: str) -> str:
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
        if not found:
            raise LabError(f"PostgreSQL's {name} is missing: {_NEEDED}")
        return str(found[-1])

    def prepare(self) -> None:
        """An empty cluster that takes passwords from the lab's network."""
        self.machine.run("install", "-d", "-o", "postgres", "-g", "postgres", "-m", "700", "/var/lib/postgresql")
        self.machine.run(
            self._program("initdb"), "--username=postgres", "--auth-local=peer", "--auth-host=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", "/var/lib/postgresql/data", user="postgres",
        )
        with self.machine.path("/var/lib/postgresql/data/pg_hba.conf").open("a") as file:
            file.write(f"host all all {self._network} scram-sha-256\n")

    def launch(self) -> None:
        """Start it; its socket's folder is made anew, as /run is."""
        self.machine.run("install", "-d", "-o", "postgres", "-g", "postgres", "/run/postgresql")
        until = time.monotonic() + 10
        while self._children_run() and time.monotonic() < until:
            time.sleep(0.05)
        super().launch()

    def _children_run(self) -> bool:
        """Those of a server that was killed end by themselves, and none can start before they have."""
        return self.machine.run("pgrep", "-x", "postgres", check=False).returncode == 0

    def command(self) -> list[str]:
        """How it is started."""
        settings = {
            "listen_addresses": self.address, "unix_socket_directories": "/run/postgresql",
            "max_connections": "200", "shared_buffers": "64MB",
            "dynamic_shared_memory_type": "mmap",  # below its own folder: one that is killed leaves nothing elsewhere
        }
        words = [self._program("postgres"), "-D", "/var/lib/postgresql/data"]
        return words + [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def answers(self) -> bool:
        """Whether it takes statements; the cloud's account and database are made then."""
        if self.sql("SELECT 1") != "1":
            return False
        if self.sql("SELECT 1 FROM pg_roles WHERE rolname = 'pileus'") != "1":
            self.sql(f"CREATE ROLE pileus LOGIN PASSWORD '{self._password}'")
        if self.sql("SELECT 1 FROM pg_database WHERE datname = 'pileus'") != "1":
            self.sql("CREATE DATABASE pileus OWNER pileus ENCODING 'UTF8' TEMPLATE template0")
        return self.listens(5432)

    def sql(self, statement: str) -> str | None:
        """What a statement of its administrator prints; None when it does not answer."""
        done = self.machine.run(
            "psql", "-h", "/run/postgresql", "-XAtq", "postgres", user="postgres", text=statement, check=False
        )
        return None if done.returncode else done.stdout.strip()


def _need(path: str, what: str) -> None:
    if not Path(path).exists():
        raise LabError(f"{what} is missing: {_NEEDED}")
