"""Weighers: which of the nodes that will do is the best.

As in Nova each weigher's values are brought to the range from 0 to 1 over the nodes that are compared, multiplied, and
summed; the most wins. The multipliers are settings; an aggregate's metadata may set them otherwise for its nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pileus.compute.host_filters import Ask, limit
from pileus.compute.places import Place


class Weigher(NamedTuple):
    """`setting` is the name of its multiplier, in the settings and in aggregates' metadata."""

    name: str
    setting: str
    value: Callable[[Ask, Place], float]


def _free(name: str) -> Callable[[Ask, Place], float]:
    return lambda ask, place: place.free.get(name, 0)


def _soft(policy: str, sign: int) -> Callable[[Ask, Place], float]:
    def value(ask: Ask, place: Place) -> float:
        return sign * place.members if ask.wish.group is not None and ask.wish.group.policy == policy else 0

    return value


RESOURCES = {"MEMORY_MB": "ram_weight_multiplier", "VCPU": "cpu_weight_multiplier", "DISK_GB": "disk_weight_multiplier"}

WEIGHERS = (
    Weigher("memory", "ram_weight_multiplier", _free("MEMORY_MB")),
    Weigher("processors", "cpu_weight_multiplier", _free("VCPU")),
    Weigher("disk", "disk_weight_multiplier", _free("DISK_GB")),
    Weigher("busy servers", "io_ops_weight_multiplier", lambda ask, place: place.busy),
    Weigher("servers", "num_instances_weight_multiplier", lambda ask, place: place.servers),
    Weigher("hypervisor version", "hypervisor_version_weight_multiplier",
            lambda ask, place: place.facts.get("hypervisor_version", 0)),
    Weigher("soft affinity", "soft_affinity_weight_multiplier", _soft("soft-affinity", 1)),
    Weigher("soft anti-affinity", "soft_anti_affinity_weight_multiplier", _soft("soft-anti-affinity", -1)),
    Weigher("failed builds", "build_failure_weight_multiplier", lambda ask, place: -place.row.build_failures),
)


class Ranked(NamedTuple):
    """A node with its weight, and what each weigher that tells nodes apart gave to it."""

    place: Place
    weight: float
    parts: dict[str, float]


def rank(ask: Ask, places: list[Place]) -> list[Ranked]:
    """The best first; nodes that weigh the same by name."""
    parts: list[dict[str, float]] = [{} for _ in places]
    for weigher in WEIGHERS:
        values = [weigher.value(ask, place) for place in places]
        least, span = min(values), max(values) - min(values)
        if not span:
            continue
        default = getattr(ask.settings, weigher.setting)
        for place, value, part in zip(places, values, parts, strict=True):
            multiplier = limit(place.metadata, weigher.setting, default) if place.metadata else default
            if multiplier:
                part[weigher.name] = multiplier * (value - least) / span
    ranked = [Ranked(place, sum(part.values()), part) for place, part in zip(places, parts, strict=True)]
    return sorted(ranked, key=lambda one: (-one.weight, one.place.name))


def leading(ask: Ask) -> tuple[str, bool]:
    """The resource class by which candidates are best sorted, and whether the least free come first."""
    asked = ask.wish.demand.resources
    known = [(name, getattr(ask.settings, setting)) for name, setting in RESOURCES.items() if name in asked]
    if not known:
        return min(asked), False
    name, multiplier = max(known, key=lambda pair: abs(pair[1]))
    return name, multiplier < 0
