"""Which address a port gets: exact when pools are nearly or wholly used."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.network import addresses
from pileus.network.tables import allocation
from pileus.settings import Settings
from tests.statements import counted


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A database without foreign keys in force, so that allocations can stand alone."""
    cloud = Cloud(Settings(state_dir=str(tmp_path), hypervisor="fake"), rooms=())
    allocation.create(cloud.db.engine)
    cloud.db.run_sync(lambda tx: None)
    with cloud.db.engine.connect() as conn:
        conn.exec_driver_sql("PRAGMA foreign_keys=OFF")
    yield cloud
    cloud.close()


def _fill(tx: Tx, values: list[int], subnet: str = "s") -> None:
    kind = ipaddress.IPv4Address
    tx.execute(allocation.insert(), [
        {"subnet_id": subnet, "ip_key": addresses.key(v), "ip": str(kind(v)), "position": 0, "port_id": "p"}
        for v in values
    ])


@pytest.mark.parametrize("left", [0, 1, 517, 1022, 1023])
def test_the_last_free_address_is_found(cloud: Cloud, left: int) -> None:
    low = int(ipaddress.ip_address("10.0.0.0"))
    pools = [["10.0.0.0", "10.0.3.255"]]

    def work(tx: Tx) -> None:
        _fill(tx, [low + n for n in range(1024) if n != left])
        assert addresses.free(tx, cloud, "s", pools) == ipaddress.ip_address(low + left)
        assert addresses.take(tx, "s", str(ipaddress.ip_address(low + left)), "p", 0)
        assert addresses.free(tx, cloud, "s", pools) is None
        assert not addresses.take(tx, "s", "10.0.0.0", "q", 0)

    cloud.db.run_sync(work)


def test_addresses_outside_the_pools_do_not_count(cloud: Cloud) -> None:
    def work(tx: Tx) -> None:
        _fill(tx, [int(ipaddress.ip_address(f"10.0.0.{n}")) for n in (1, 9, 200)])
        found = {str(addresses.free(tx, cloud, "s", [["10.0.0.9", "10.0.0.9"], ["10.0.0.20", "10.0.0.20"]]))}
        assert found == {"10.0.0.20"}
        assert addresses.free(tx, cloud, "s", []) is None

    cloud.db.run_sync(work)


def test_a_full_pool_of_65536_takes_few_statements(cloud: Cloud) -> None:
    low = int(ipaddress.ip_address("10.1.0.0"))

    def work(tx: Tx) -> None:
        _fill(tx, [low + n for n in range(65536) if n != 40000])
        with counted(cloud.db) as sent:
            found = addresses.free(tx, cloud, "s", [["10.1.0.0", "10.1.255.255"]])
        assert found == ipaddress.ip_address(low + 40000)
        assert 0 < len(sent) <= 18

    cloud.db.run_sync(work)


def test_ipv6_pools_are_as_large_as_they_are(cloud: Cloud) -> None:
    def work(tx: Tx) -> None:
        network = ipaddress.ip_network("fd00::/48")
        pools = addresses.default_pools(network, "fd00::1")
        found = {addresses.free(tx, cloud, "s", pools) for _ in range(20)}
        assert len(found) == 20
        assert all(a in network for a in found if a is not None)

    cloud.db.run_sync(work)


def test_eui64() -> None:
    # RFC 4291, appendix A: 34-56-78-9A-BC-DE becomes 36-56-78-FF-FE-9A-BC-DE.
    assert addresses.eui64("2001:db8::/64", "34:56:78:9a:bc:de") == "2001:db8::3656:78ff:fe9a:bcde"


@pytest.mark.parametrize(
    ("cidr", "gateway", "pools"),
    [
        ("10.0.0.0/29", "10.0.0.1", [["10.0.0.2", "10.0.0.6"]]),
        ("10.0.0.0/29", "10.0.0.4", [["10.0.0.1", "10.0.0.3"], ["10.0.0.5", "10.0.0.6"]]),
        ("10.0.0.0/29", "10.9.9.9", [["10.0.0.1", "10.0.0.6"]]),
        ("10.0.0.0/31", None, [["10.0.0.0", "10.0.0.1"]]),
        ("10.0.0.1/32", None, [["10.0.0.1", "10.0.0.1"]]),
        ("fd00::/126", "fd00::1", [["fd00::2", "fd00::3"]]),
    ],
)
def test_default_pools(cidr: str, gateway: str | None, pools: list[list[str]]) -> None:
    assert addresses.default_pools(ipaddress.ip_network(cidr), gateway) == pools
