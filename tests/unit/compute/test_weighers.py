"""How nodes are weighed against each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pileus.compute.demand import Demand
from pileus.compute.host_filters import Ask
from pileus.compute.places import Place
from pileus.compute.scheduler import Group, Wish
from pileus.compute.weighers import leading, rank
from pileus.settings import Settings


def place(name: str, memory: int, **more: Any) -> Place:
    row = SimpleNamespace(id=name, name=name, facts={}, build_failures=more.pop("build_failures", 0))
    made = Place(row, {"MEMORY_MB": memory, "VCPU": 4}, {"MEMORY_MB": 8192, "VCPU": 4})
    for key, value in more.items():
        setattr(made, key, value)
    return made


def ask(policy: str = "", resources: dict[str, int] | None = None, **settings: Any) -> Ask:
    group = Group(id="g", policy=policy) if policy else None
    wish = Wish(demand=Demand(resources=resources or {"MEMORY_MB": 64, "VCPU": 1}), group=group)
    return Ask(wish, "p", Settings(**settings), 0.0, 0.0)


def names(asked: Ask, *places: Place) -> list[str]:
    return [one.place.name for one in rank(asked, list(places))]


def test_the_most_free_first_and_equals_by_name() -> None:
    assert names(ask(), place("b", 100), place("c", 200), place("a", 100)) == ["c", "a", "b"]


def test_values_are_brought_to_one_range_and_what_tells_nothing_apart_is_left_out() -> None:
    ranked = rank(ask(), [place("a", 100), place("b", 400), place("c", 1100)])
    assert [(one.weight, one.parts) for one in ranked] == [
        (1.0, {"memory": 1.0}), (pytest.approx(0.3), {"memory": pytest.approx(0.3)}), (0.0, {"memory": 0.0}),
    ]


def test_soft_policies_weigh_more_than_resources() -> None:
    full, empty = place("full", 100, members=2), place("empty", 4000)
    assert names(ask("soft-affinity"), full, empty) == ["full", "empty"]
    assert names(ask("soft-anti-affinity"), full, empty) == ["empty", "full"]
    assert names(ask("soft-affinity", soft_affinity_weight_multiplier=0.5), full, empty) == ["empty", "full"]


def test_busy_and_failing_nodes_come_last() -> None:
    assert names(ask(), place("a", 100, busy=3), place("b", 100)) == ["b", "a"]
    assert names(ask(), place("a", 4000, build_failures=1), place("b", 100)) == ["b", "a"]


def test_the_least_of_the_aggregates_multipliers_counts_and_nonsense_does_not() -> None:
    low = place("low", 4000, metadata={"ram_weight_multiplier": frozenset({"2.0", "-1.0"})})
    odd = place("odd", 2000, metadata={"ram_weight_multiplier": frozenset({"many"})})
    assert names(ask(), low, place("plain", 1000), odd) == ["odd", "plain", "low"]


@pytest.mark.parametrize(("settings", "resources", "expected"), [
    ({}, {"MEMORY_MB": 1, "VCPU": 1}, ("MEMORY_MB", False)),
    ({"ram_weight_multiplier": -1.0}, {"MEMORY_MB": 1, "VCPU": 1}, ("MEMORY_MB", True)),
    ({"cpu_weight_multiplier": 3.0}, {"MEMORY_MB": 1, "VCPU": 1}, ("VCPU", False)),
    ({}, {"CUSTOM_GPU": 1}, ("CUSTOM_GPU", False)),
])
def test_candidates_come_in_the_order_of_the_heaviest_resource(
    settings: dict[str, Any], resources: dict[str, int], expected: tuple[str, bool]
) -> None:
    assert leading(ask(resources=resources, **settings)) == expected
