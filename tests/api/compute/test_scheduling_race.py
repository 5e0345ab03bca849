"""Servers that are placed at the same moment, as by several controllers: none is placed where there is no room."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import scheduler
from pileus.compute.demand import Demand
from pileus.compute.tables import node, server, server_group
from pileus.db.engine import Database, Tx
from pileus.placement.tables import allocation, consumer, inventory, provider
from tests.api.compute.rows import FACTS, add_node, add_server
from tests.conftest import Servers

NODES = ("a", "b", "c", "d")


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def racing(cloud: Cloud, servers: Servers, request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """A cloud on each database, with nodes of four processors' room."""
    before, settings = cloud.db, cloud.settings
    if request.param != "sqlite":
        urls = servers.get(request.param).database()
        cloud.db = Database(next(urls), pool_size=8)
    cloud.settings = msgspec.structs.replace(settings, cpu_allocation_ratio=1.0)
    for name in NODES:
        add_node(cloud, name, msgspec.structs.replace(FACTS, vcpus=4))
    yield cloud

    def wipe(tx: Tx) -> None:
        tx.execute(server.update().values(deleted=True, host=None, group_id=None))
        for table in (allocation, consumer, inventory, provider, node, server_group):
            tx.execute(table.delete())

    cloud.db.run_sync(wipe)
    if request.param != "sqlite":
        cloud.db.close()
    cloud.db, cloud.settings = before, settings


def place(cloud: Cloud, group: str | None = None) -> str:
    """The node of one more server; "" when none would do."""
    wanted = scheduler.Group(id=group, policy="anti-affinity") if group else None
    wish = scheduler.Wish(demand=Demand(resources={"VCPU": 1, "MEMORY_MB": 64}), group=wanted)
    server_id = add_server(cloud, "p", host=None)
    owner = scheduler.Owner(consumer=server_id, project_id="p", user_id="u")

    def work(tx: Tx) -> str:
        chosen = scheduler.place(tx, cloud, wish, owner)
        tx.execute(server.update().where(server.c.id == server_id).values(host=chosen.name, group_id=group))
        return chosen.name

    try:
        return cloud.db.run_sync(work)
    except scheduler.NoValidHost:
        return ""


def test_no_node_is_given_out_twice(racing: Cloud) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = Counter(pool.map(lambda _: place(racing), range(24)))
    assert found == {**dict.fromkeys(NODES, 4), "": 8}
    used = racing.db.run_sync(lambda tx: tx.all(
        sa.select(inventory.c.resource_class, inventory.c.used).where(inventory.c.resource_class != "DISK_GB")
    ))
    assert sorted(map(tuple, used)) == [("MEMORY_MB", 256)] * 4 + [("VCPU", 4)] * 4
    held = racing.db.run_sync(lambda tx: tx.scalar(sa.select(sa.func.sum(allocation.c.used))))
    assert int(held) == 16 * (1 + 64)


def test_members_of_a_group_are_counted_by_one_at_a_time(racing: Cloud) -> None:
    group = str(uuid.uuid4())
    racing.db.run_sync(lambda tx: tx.execute(server_group.insert().values(
        id=group, name="g", project_id="p", user_id="u", policy="anti-affinity", rules={}, created=0.0
    )))
    with ThreadPoolExecutor(8) as pool:
        found = Counter(pool.map(lambda _: place(racing, group), range(8)))
    assert found == {**dict.fromkeys(NODES, 1), "": 4}
