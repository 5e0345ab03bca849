"""Two nodes of a Galera cluster: what each of them cannot know of the other's locks, and the death of one."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.databases import Mariadb
from tests.unit.db.conftest import KERNEL, item, own
from tests.unit.db.proxy import Proxy

from pileus.db import hosts
from pileus.db.engine import Database, Tx

pytestmark = pytest.mark.system

_PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")


class Node(Mariadb):
    """One node, with an address of its own on loopback. The second one alone is a majority."""

    def __init__(self, folder: Path, number: int, subnet: str) -> None:
        self.node = number
        self.subnet = subnet
        super().__init__(folder)

    def command(self) -> list[str]:
        """As one server, and what joins them."""
        address = f"{self.subnet}.{self.node}"
        options = {
            "gmcast.listen_addr": f"tcp://{address}:24567", "ist.recv_addr": f"{address}:24568", "gcache.size": "16M",
            "pc.weight": str(self.node), "evs.keepalive_period": "PT0.3S", "evs.suspect_timeout": "PT1S",
            "evs.inactive_timeout": "PT3S", "evs.install_timeout": "PT3S",
        }
        return [
            *super().command(), "--wsrep-on=ON", f"--wsrep-provider={_PROVIDER}", "--binlog-format=ROW",
            "--wsrep-cluster-name=test", f"--wsrep-node-address={address}", "--innodb-autoinc-lock-mode=2",
            f"--wsrep-node-name=n{self.node}", "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address={address}:24444",
            "--wsrep-cluster-address=gcomm://" + ("" if self.node == 1 else f"{self.subnet}.1:24567"),
            "--wsrep-provider-options=" + ";".join(f"{name}={value}" for name, value in options.items()),
        ]

    def wait(self) -> None:
        """Until it is in."""
        super().wait()
        until = time.monotonic() + 60
        while self._status() != "ON":
            assert time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    def _status(self) -> str:
        engine = sa.create_engine(hosts.parse(self.url(""))[0])
        with engine.connect() as conn:
            row = conn.exec_driver_sql("SHOW STATUS LIKE 'wsrep_ready'").one()
        engine.dispose()
        return str(row[1])


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    """Both, with a database."""
    if not _PROVIDER.exists() or shutil.which("rsync") is None:
        pytest.fail("Galera or rsync is missing: install them with `scripts/install-system test`")
    folders = [Path(tempfile.mkdtemp(prefix="pileus-galera-")) for _ in range(2)]
    running: list[Node] = []
    # The ports are fixed, so the addresses are left to chance: others may run the same test on this machine.
    subnet = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}"
    try:
        for number, folder in enumerate(folders, 1):
            running.append(Node(folder, number, subnet))
        running[0].do(
            "CREATE DATABASE cloud CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
            "CREATE USER cloud@localhost IDENTIFIED BY 'secret'", "GRANT ALL ON cloud.* TO cloud@localhost",
        )
        first = Database(running[0].url("cloud"))
        KERNEL[0].metadata.create_all(first.engine, tables=KERNEL)
        own.create_all(first.engine)
        first.close()
        yield running
    finally:
        for each in running:
            each.stop()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def both(nodes: list[Node]) -> Iterator[list[Database]]:
    """A database at each node, without items."""
    made = [Database(node.url("cloud")) for node in nodes]
    made[0].run_sync(lambda tx: tx.execute(item.delete()))
    yield made
    for database in made:
        database.close()


def _at_once(both: list[Database], times: int, work: object) -> None:
    """`work(tx, number)` `times` times at each node, two at a time."""
    with ThreadPoolExecutor(4) as pool:
        ends = [
            pool.submit(each.run_sync, lambda tx, n=number * 2 + at: work(tx, n))  # type: ignore[operator]
            for number in range(times) for at, each in enumerate(both)
        ]
        for end in ends:
            end.result(60)


def test_a_named_lock_holds_across_nodes(both: list[Database]) -> None:
    def take_one_of_ten(tx: Tx, number: int) -> None:
        tx.serialize("ten")
        if (tx.scalar(sa.select(sa.func.count()).select_from(item)) or 0) < 10:
            time.sleep(0.005)
            tx.execute(item.insert().values(id=number))

    _at_once(both, 20, take_one_of_ten)
    time.sleep(0.5)
    for each in both:
        assert each.run_sync(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(item))) == 10


def test_changes_of_one_row_at_both_nodes_are_all_made(both: list[Database]) -> None:
    both[0].run_sync(lambda tx: tx.execute(item.insert().values(id=1, value=0)))
    time.sleep(0.5)
    _at_once(both, 25, lambda tx, _: tx.execute(item.update().where(item.c.id == 1).values(value=item.c.value + 1)))
    time.sleep(0.5)
    assert both[1].run_sync(lambda tx: tx.scalar(sa.select(item.c.value))) == 50


def test_the_death_of_a_node_costs_no_change_and_doubles_none(nodes: list[Node], both: list[Database]) -> None:
    tried: list[int] = []
    with Proxy(str(nodes[0].folder / "socket")) as first, Proxy(str(nodes[1].folder / "socket")) as second:
        url = f"mysql://cloud:secret@127.0.0.1:{first.port},127.0.0.1:{second.port}/cloud"
        database = Database(url, patience=20)

        def add(number: int) -> None:
            def work(tx: Tx) -> None:
                tried.append(number)
                # A second time this would be refused: its id is there already.
                tx.execute(item.insert().values(id=number))

            database.run_sync(work)
            time.sleep(0.01)

        threading.Timer(0.7, lambda: nodes[0].process.send_signal(signal.SIGKILL)).start()
        began = time.monotonic()
        slowest = 0.0
        with ThreadPoolExecutor(4) as pool:
            for end in [pool.submit(add, number) for number in range(400)]:
                end.result(60)
        slowest = time.monotonic() - began
        there = database.run_sync(lambda tx: tx.scalars(sa.select(item.c.id).order_by(item.c.id)))
        assert there == list(range(400))
        assert len(tried) > 400  # it died while there was something to do
        assert second.made > 0
        assert slowest < 30
        database.close()
