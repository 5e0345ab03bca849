"""Allocations: claims, generations, what fits and what does not; usages; the reshaper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.placement import allocations, providers
from pileus.placement.schemas import Inventory
from pileus.placement.tables import allocation, inventory
from pileus.web.errors import Conflict
from tests.api.placement.conftest import Placement

NewId = Callable[[], str]


def used(placement: Placement, provider: str) -> dict[str, int]:
    usages: dict[str, int] = placement("GET", f"/resource_providers/{provider}/usages", 200)["usages"]
    return usages


def test_a_claim_is_seen_from_all_sides(placement: Placement, new_id: NewId) -> None:
    host, server, project = placement.provider(VCPU=8, MEMORY_MB=4096), new_id(), new_id()
    placement.allocate(server, {host: {"VCPU": 2, "MEMORY_MB": 512}}, project=project)
    got = placement("GET", f"/allocations/{server}", 200)
    assert got["allocations"][host] == {"resources": {"VCPU": 2, "MEMORY_MB": 512}, "generation": 2}
    assert (got["project_id"], got["user_id"], got["consumer_type"]) == (project, "a-user", "INSTANCE")
    assert got["consumer_generation"] == 1
    old = placement("GET", f"/allocations/{server}", 200, version="1.11")
    assert set(old) == {"allocations"}
    assert used(placement, host) == {"VCPU": 2, "MEMORY_MB": 512}
    there = placement("GET", f"/resource_providers/{host}/allocations", 200)["allocations"]
    assert there == {server: {"resources": {"VCPU": 2, "MEMORY_MB": 512}, "consumer_generation": 1}}
    error = placement("DELETE", f"/resource_providers/{host}", 409)["errors"][0]
    assert error["code"] == "placement.resource_provider.inuse"
    error = placement("DELETE", f"/resource_providers/{host}/inventories/VCPU", 409)["errors"][0]
    assert error["code"] == "placement.inventory.inuse"
    placement("DELETE", f"/allocations/{server}", 204)
    placement("DELETE", f"/allocations/{server}", 404)
    assert placement("GET", f"/allocations/{server}", 200) == {"allocations": {}}
    assert used(placement, host) == {"VCPU": 0, "MEMORY_MB": 0}


def test_what_does_not_fit_changes_nothing(placement: Placement, new_id: NewId) -> None:
    host = placement.provider(
        VCPU={"total": 4, "reserved": 1, "allocation_ratio": 1.5},
        DISK_GB={"total": 100, "min_unit": 10, "step_size": 5},
    )
    placement.allocate(new_id(), {host: {"VCPU": 4}})
    placement.allocate(new_id(), {host: {"DISK_GB": 20, "VCPU": 1}}, status=409)
    for bad in ({"DISK_GB": 5}, {"DISK_GB": 12}, {"DISK_GB": 105}, {"MEMORY_MB": 1}):
        placement.allocate(new_id(), {host: bad}, status=409)
    for bad in ({"VCPU": 0}, {"VCPU": -1}, {"VCPU": 2**31}, {}, {"CUSTOM_NEVER_MADE": 1}, {"vcpu": 1}):
        placement.allocate(new_id(), {host: bad}, status=400)
    placement.allocate(new_id(), {new_id(): {"VCPU": 1}}, status=400)
    placement.allocate("no-id", {host: {"VCPU": 1}}, status=400)
    assert used(placement, host) == {"VCPU": 4, "DISK_GB": 0}


def test_generations_of_consumers(placement: Placement, new_id: NewId) -> None:
    host, server = placement.provider(VCPU=8), new_id()
    placement.allocate(server, {host: {"VCPU": 1}}, generation=1, status=409)
    placement.allocate(server, {host: {"VCPU": 1}})
    stale = placement.allocate(server, {host: {"VCPU": 2}}, status=409)
    assert stale["errors"][0]["code"] == "placement.concurrent_update"
    placement.allocate(server, {host: {"VCPU": 2}}, generation=1)
    assert used(placement, host) == {"VCPU": 2}
    placement.allocate(server, {}, generation=2)
    assert placement("GET", f"/allocations/{server}", 200) == {"allocations": {}}


def test_older_bodies(placement: Placement, new_id: NewId) -> None:
    host, server = placement.provider(VCPU=8), new_id()
    listed = [{"resource_provider": {"uuid": host}, "resources": {"VCPU": 1}}]
    placement("PUT", f"/allocations/{server}", 204, {"allocations": listed}, version="1.0")
    placement("PUT", f"/allocations/{server}", 400, {"allocations": listed}, version="1.8")
    owned = {"project_id": "p", "user_id": "u"}
    placement("PUT", f"/allocations/{server}", 204, {"allocations": listed, **owned}, version="1.8")
    keyed = {"allocations": {host: {"resources": {"VCPU": 3}}}, **owned}
    placement("PUT", f"/allocations/{server}", 204, keyed, version="1.12")
    placement("PUT", f"/allocations/{server}", 400, keyed, version="1.28")
    assert used(placement, host) == {"VCPU": 3}
    assert placement("GET", f"/allocations/{server}", 200)["consumer_type"] == "unknown"


def test_many_consumers_at_once_all_or_none(placement: Placement, new_id: NewId) -> None:
    host, server, migration = placement.provider(VCPU=4), new_id(), new_id()
    placement.allocate(server, {host: {"VCPU": 4}})
    owner = {"project_id": "p", "user_id": "u"}
    swap: dict[str, dict[str, Any]] = {
        server: {"allocations": {}, "consumer_generation": 1, "consumer_type": "INSTANCE", **owner},
        migration: {"allocations": {host: {"resources": {"VCPU": 4}}}, "consumer_generation": None,
                    "consumer_type": "MIGRATION", **owner},
    }
    placement("POST", "/allocations", 204, swap)
    assert set(placement("GET", f"/resource_providers/{host}/allocations", 200)["allocations"]) == {migration}
    third = new_id()
    too_much = {
        migration: {**swap[server], "consumer_generation": 1},
        third: {**swap[migration], "allocations": {host: {"resources": {"VCPU": 5}}}},
    }
    placement("POST", "/allocations", 409, too_much)
    assert used(placement, host) == {"VCPU": 4}
    placement("POST", "/allocations", 400, {})
    placement("POST", "/allocations", 400, {"no-id": swap[server]})


def test_an_overcommitted_provider_lets_go_but_gives_no_more(placement: Placement, new_id: NewId) -> None:
    host, server = placement.provider(VCPU=8), new_id()
    placement.allocate(server, {host: {"VCPU": 8}})
    generation = placement("GET", f"/resource_providers/{host}", 200)["generation"]
    placement("PUT", f"/resource_providers/{host}/inventories/VCPU", 200,
              {"total": 4, "resource_provider_generation": generation})
    placement.allocate(server, {host: {"VCPU": 6}}, generation=1)
    placement.allocate(server, {host: {"VCPU": 7}}, generation=2, status=409)


def test_usages_of_a_project(placement: Placement, new_id: NewId) -> None:
    host, project = placement.provider(VCPU=8, DISK_GB=10), new_id()
    placement.allocate(new_id(), {host: {"VCPU": 2}}, project=project)
    placement.allocate(new_id(), {host: {"VCPU": 1, "DISK_GB": 3}}, project=project, kind="VOLUME")
    query = f"/usages?project_id={project}"
    assert placement("GET", query, 200, version="1.9") == {"usages": {"VCPU": 3, "DISK_GB": 3}}
    assert placement("GET", query, 200)["usages"] == {
        "INSTANCE": {"VCPU": 2, "consumer_count": 1}, "VOLUME": {"VCPU": 1, "DISK_GB": 3, "consumer_count": 1},
    }
    assert placement("GET", query + "&consumer_type=all", 200)["usages"] == {
        "all": {"VCPU": 3, "DISK_GB": 3, "consumer_count": 2}
    }
    assert placement("GET", query + "&user_id=other", 200) == {"usages": {}}
    placement("GET", "/usages", 400)
    placement("GET", query + "&consumer_type=all", 400, version="1.37")


def test_the_reshaper_moves_inventory_in_use(placement: Placement, new_id: NewId) -> None:
    host, server = placement.provider(VCPU=8, VGPU=2), new_id()
    child = placement.provider(parent=host)
    placement.allocate(server, {host: {"VCPU": 1, "VGPU": 1}})
    inventories = {
        host: {"resource_provider_generation": 2, "inventories": {"VCPU": {"total": 8}}},
        child: {"resource_provider_generation": 1, "inventories": {"VGPU": {"total": 2}}},
    }
    moved = {server: {
        "allocations": {host: {"resources": {"VCPU": 1}}, child: {"resources": {"VGPU": 1}}},
        "consumer_generation": 1, "consumer_type": "INSTANCE", "project_id": "p", "user_id": "u",
    }}
    placement("POST", "/reshaper", 409, {"inventories": inventories, "allocations": {}})
    placement("POST", "/reshaper", 204, {"inventories": inventories, "allocations": moved})
    assert used(placement, host) == {"VCPU": 1}
    assert used(placement, child) == {"VGPU": 1}


def test_rooms_claim_in_their_own_transaction(cloud: Cloud) -> None:
    """What compute uses: ensure, claim, move, release; `used` is always the sum of the allocations."""

    def work(tx: Tx) -> None:
        stock = {"VCPU": Inventory(total=4), "DISK_GB": Inventory(total=10)}
        for name in ("node-a", "node-b"):
            providers.ensure(tx, cloud, id=name, name=name, inventories=stock, traits=["COMPUTE_NODE", "CUSTOM_NEW"])
        owner = {"project_id": "p", "user_id": "u"}
        allocations.claim(tx, cloud, consumer="s", resources={"node-a": {"VCPU": 3}}, **owner)
        with pytest.raises(Conflict):
            allocations.claim(tx, cloud, consumer="t", resources={"node-a": {"VCPU": 2}}, **owner)
        allocations.move(tx, cloud, "s", "m")
        allocations.claim(tx, cloud, consumer="s", resources={"node-b": {"VCPU": 3}}, **owner)
        assert allocations.of_consumer(tx, "m") == {"node-a": {"VCPU": 3}}
        assert allocations.of_provider(tx, "node-b") == {"s": {"VCPU": 3}}
        assert {"m", "s"} <= set(allocations.all_consumers(tx))
        allocations.release(tx, "m")
        allocations.release(tx, "m")

    cloud.db.run_sync(work)
    sums = sa.select(
        inventory.c.provider_id, inventory.c.resource_class, inventory.c.used,
        sa.func.coalesce(sa.func.sum(allocation.c.used), 0),
    ).join(allocation, sa.and_(
        allocation.c.provider_id == inventory.c.provider_id, allocation.c.resource_class == inventory.c.resource_class
    ), isouter=True).group_by(inventory.c.provider_id, inventory.c.resource_class, inventory.c.used)
    rows: Any = cloud.db.run_sync(lambda tx: tx.all(sums), write=False)
    assert all(row[2] == row[3] for row in rows)


def test_a_nodes_report_keeps_what_operators_set_and_what_is_used(cloud: Cloud) -> None:
    def work(tx: Tx) -> None:
        both = {"VCPU": Inventory(total=4), "VGPU": Inventory(total=1)}
        providers.ensure(tx, cloud, id="node-c", name="node-c", inventories=both, traits=["COMPUTE_NODE"])
        providers.set_traits(tx, "node-c", ["COMPUTE_NODE", "CUSTOM_RACK_7", "COMPUTE_STATUS_DISABLED", "HW_NUMA_ROOT"])
        allocations.claim(tx, cloud, consumer="g", project_id="p", user_id="u", resources={"node-c": {"VGPU": 1}})
        providers.ensure(tx, cloud, id="node-c", name="node-c", inventories={"VCPU": Inventory(total=4)},
                         traits=["COMPUTE_NODE"])
        row = providers.need(tx, "node-c")
        assert row.traits == {"COMPUTE_NODE", "CUSTOM_RACK_7", "COMPUTE_STATUS_DISABLED"}
        assert allocations.of_consumer(tx, "g") == {"node-c": {"VGPU": 1}}
        allocations.release(tx, "g")
        before = providers.need(tx, "node-c").generation
        providers.ensure(tx, cloud, id="node-c", name="node-c", inventories={"VCPU": Inventory(total=4)},
                         traits=["COMPUTE_NODE"])
        after = providers.need(tx, "node-c").generation
        assert after == before + 1  # VGPU went away
        providers.ensure(tx, cloud, id="node-c", name="node-c", inventories={"VCPU": Inventory(total=4)},
                         traits=["COMPUTE_NODE"])
        assert providers.need(tx, "node-c").generation == after

    cloud.db.run_sync(work)
