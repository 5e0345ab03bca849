"""Allocation candidates: what fits where, in trees, with shared storage, and of how many providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.placement import candidates, providers
from pileus.placement.candidates import CandidatesRequest
from pileus.placement.schemas import Inventory
from tests.api.placement.conftest import Placement
from tests.statements import NOW_AND_THEN, counted

NewId = Callable[[], str]


class Question:
    """Asks within one aggregate, so that specifications do not see each other's providers."""

    def __init__(self, placement: Placement, group: str) -> None:
        self.placement, self.group = placement, group

    def __call__(self, query: str, version: str = "1.39") -> Any:
        return self.placement("GET", "/allocation_candidates?" + query, 200, version=version)

    def answers(self, query: str, version: str = "1.39") -> list[dict[str, dict[str, int]]]:
        got = self(query, version)["allocation_requests"]
        return [{p: entry["resources"] for p, entry in one["allocations"].items()} for one in got]


@pytest.fixture
def ask(placement: Placement, new_id: NewId) -> Question:
    return Question(placement, new_id())


def test_one_provider_for_all(ask: Question, placement: Placement, new_id: NewId) -> None:
    group = ask.group
    big = placement.provider(VCPU=8, MEMORY_MB=1024, aggregates=(group,), traits=("HW_CPU_X86_AVX",))
    full = placement.provider(VCPU=8, MEMORY_MB=1024, aggregates=(group,))
    placement.provider(VCPU=8, aggregates=(group,))
    placement.allocate(new_id(), {full: {"VCPU": 7}})
    query = f"resources=VCPU:2,MEMORY_MB:512&member_of={group}"
    got = ask(query)
    assert got["allocation_requests"] == [
        {"allocations": {big: {"resources": {"MEMORY_MB": 512, "VCPU": 2}}}, "mappings": {"": [big]}}
    ]
    assert got["provider_summaries"] == {big: {
        "resources": {"VCPU": {"capacity": 8, "used": 0}, "MEMORY_MB": {"capacity": 1024, "used": 0}},
        "traits": ["HW_CPU_X86_AVX"], "parent_provider_uuid": None, "root_provider_uuid": big,
    }}
    assert len(ask.answers(f"resources=VCPU:1&member_of={group}")) == 3
    assert len(ask.answers(f"resources=VCPU:1&member_of={group}&limit=2")) == 2
    assert ask.answers(f"resources=VCPU:1&member_of={group}&required=HW_CPU_X86_AVX") == [{big: {"VCPU": 1}}]
    assert len(ask.answers(f"resources=VCPU:1&member_of={group}&required=!HW_CPU_X86_AVX")) == 2
    assert ask.answers(f"resources=VCPU:1&in_tree={full}") == [{full: {"VCPU": 1}}]
    assert ask.answers(f"resources=VCPU:1&in_tree={new_id()}") == []
    assert len(ask.answers(f"resources=VCPU:1&member_of=!{group}&in_tree={full}")) == 0


def test_older_shapes(ask: Question, placement: Placement) -> None:
    placement("PUT", "/resource_classes/CUSTOM_OLD", 201)
    host = placement.provider(CUSTOM_OLD=1, VCPU=1)
    first = ask("resources=CUSTOM_OLD:1", "1.10")
    assert first["allocation_requests"] == [
        {"allocations": [{"resource_provider": {"uuid": host}, "resources": {"CUSTOM_OLD": 1}}]}
    ]
    assert first["provider_summaries"] == {host: {"resources": {"CUSTOM_OLD": {"capacity": 1, "used": 0}}}}
    later = ask("resources=CUSTOM_OLD:1", "1.27")
    assert set(later["provider_summaries"][host]) == {"resources", "traits"}
    assert set(later["provider_summaries"][host]["resources"]) == {"CUSTOM_OLD", "VCPU"}


def test_shared_storage_serves_hosts_of_its_aggregate(ask: Question, placement: Placement) -> None:
    group = ask.group
    disk = placement.provider(DISK_GB=1000, traits=("MISC_SHARES_VIA_AGGREGATE",), aggregates=(group,))
    host = placement.provider(VCPU=4, aggregates=(group,))
    own = placement.provider(VCPU=4, DISK_GB=50, aggregates=(group,))
    got = ask.answers(f"resources=VCPU:1,DISK_GB:10&member_of={group}")
    assert sorted(map(sorted, got)) == sorted(map(sorted, [
        {host: {}, disk: {}}, {own: {}}, {own: {}, disk: {}},
    ]))


def test_trees_and_granular_groups(ask: Question, placement: Placement) -> None:
    placement("PUT", "/traits/CUSTOM_PHYSNET_A", 201)
    placement("PUT", "/traits/CUSTOM_PHYSNET_B", 201)
    host = placement.provider(VCPU=8, traits=("HW_NUMA_ROOT",))
    first = placement.provider(parent=host, SRIOV_NET_VF=2, traits=("CUSTOM_PHYSNET_A",))
    second = placement.provider(parent=host, SRIOV_NET_VF=2, traits=("CUSTOM_PHYSNET_B",))
    tree = f"&in_tree={host}"
    got = ask.answers(f"resources=VCPU:1,SRIOV_NET_VF:1{tree}")
    assert sorted(map(sorted, got)) == sorted(map(sorted, [{host: {}, first: {}}, {host: {}, second: {}}]))
    query = f"resources=VCPU:1{tree}&resources_NIC=SRIOV_NET_VF:1&required_NIC=CUSTOM_PHYSNET_B"
    one = ask(query)["allocation_requests"]
    assert [entry["mappings"] for entry in one] == [{"": [host], "_NIC": [second]}]
    both = f"resources=VCPU:1{tree}&resources1=SRIOV_NET_VF:2&resources2=SRIOV_NET_VF:1&group_policy="
    assert len(ask.answers(both + "isolate")) == 2
    assert len(ask.answers(both + "none")) == 2  # 2 + 1 do not fit on one of them
    assert ask.answers(f"resources=SRIOV_NET_VF:2{tree}&required=in:CUSTOM_PHYSNET_A,HW_CPU_X86_AVX") == [
        {first: {"SRIOV_NET_VF": 2}}
    ]
    assert ask.answers(f"resources=VCPU:1{tree}&root_required=!HW_NUMA_ROOT") == []
    assert len(ask.answers(f"resources=VCPU:1{tree}&root_required=HW_NUMA_ROOT")) == 1
    summaries = ask(f"resources=VCPU:1{tree}")["provider_summaries"]
    assert set(summaries) == {host, first, second}
    assert summaries[first]["root_provider_uuid"] == host
    assert ask.answers("resources=VCPU:1,SRIOV_NET_VF:1", "1.28") == []  # who knows no trees is given none


def test_same_subtree(ask: Question, placement: Placement) -> None:
    host = placement.provider()
    nodes = [placement.provider(parent=host, VCPU=4, traits=("HW_NUMA_ROOT",)) for _ in range(2)]
    cards = [placement.provider(parent=node, FPGA=1) for node in nodes]
    query = "resources_A=VCPU:1&resources_F=FPGA:1&group_policy=none"
    assert len(ask.answers(f"{query}&in_tree_A={host}&in_tree_F={host}")) == 4
    near = ask.answers(f"{query}&in_tree_A={host}&same_subtree=_A,_F")
    assert sorted(map(sorted, near)) == sorted(sorted([n, c]) for n, c in zip(nodes, cards, strict=True))
    bare = f"resources_F=FPGA:1&required_N=HW_NUMA_ROOT&in_tree_F={host}&same_subtree=_N,_F&group_policy=none"
    assert len(ask.answers(bare)) == 2


@pytest.mark.parametrize("query", [
    "", "limit=1", "resources=", "resources=VCPU", "resources=VCPU:0", "resources=VCPU:x", "resources=NO_CLASS:1",
    "resources=VCPU:1&limit=0", "resources=VCPU:1&limit=x", "resources=VCPU:1&colour=red",
    "resources=VCPU:1&required=NO_SUCH", "resources=VCPU:1&required=HW_CPU_X86_AVX,!HW_CPU_X86_AVX",
    "resources1=VCPU:1&resources2=VCPU:1", "resources=VCPU:1&required1=HW_CPU_X86_AVX",
    "resources=VCPU:1&group_policy=maybe", "resources=VCPU:1&member_of=x", "resources=VCPU:1&in_tree=x",
    "resources=VCPU:1&same_subtree=_X", "resources=VCPU:1&same_subtree=",
    "resources=VCPU:1&root_required=in:HW_NUMA_ROOT",
])
def test_bad_questions(placement: Placement, query: str) -> None:
    placement("GET", "/allocation_candidates?" + query, 400)


@pytest.mark.parametrize(("query", "version"), [
    ("resources=VCPU:1&limit=1", "1.15"), ("resources=VCPU:1&required=HW_CPU_X86_AVX", "1.16"),
    ("resources1=VCPU:1", "1.24"), ("resources=VCPU:1&required=!HW_CPU_X86_AVX", "1.21"),
    ("resources_A=VCPU:1", "1.32"), ("resources=VCPU:1&root_required=HW_NUMA_ROOT", "1.34"),
])
def test_questions_too_new(placement: Placement, query: str, version: str) -> None:
    placement("GET", "/allocation_candidates?" + query, 400, version=version)


def test_a_thousand_providers(cloud: Cloud, placement: Placement) -> None:
    """They are found in as many statements as a hundred."""
    stock = {
        "NUMA_CORE": Inventory(total=64, allocation_ratio=4.0),
        "NUMA_THREAD": Inventory(total=262144, reserved=512),
        "NUMA_SOCKET": Inventory(total=2000),
    }

    def fill(tx: Any, numbers: range) -> None:
        for number in numbers:
            providers.ensure(tx, cloud, id=f"many-{number}", name=f"many-{number:04}", inventories=stock,
                             traits=["COMPUTE_NODE", "HW_CPU_X86_VMX"])

    def sent(query: str, count: int) -> int:
        with counted(cloud.db) as statements:
            got = placement("GET", "/allocation_candidates?" + query, 200)
        assert len(got["allocation_requests"]) == count
        return len(statements)

    queries = ("resources=NUMA_CORE:1,NUMA_THREAD:512", "resources=NUMA_CORE:1,NUMA_THREAD:512&limit=1000")
    cloud.db.run_sync(lambda tx: fill(tx, range(100)))
    few = [sent(query, 100) for query in queries]
    cloud.db.run_sync(lambda tx: fill(tx, range(100, 1000)))
    many = [sent(query, 1000) for query in queries]
    assert all(0 < after <= before + NOW_AND_THEN for before, after in zip(few, many, strict=True)), (few, many)
    request = CandidatesRequest(resources={"NUMA_CORE": 1}, required=frozenset({"HW_CPU_X86_VMX"}), limit=5)
    found = cloud.db.run_sync(lambda tx: candidates.find(tx, request), write=False)
    assert [one.provider_name for one in found] == [f"many-{n:04}" for n in range(5)]
    assert found[0].free == {"NUMA_CORE": 256}
