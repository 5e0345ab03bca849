"""What a server of a flavor and an image demands of a node: resources, traits, capabilities."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from pileus.compute.schemas import FlavorFacts, ImageFacts
from pileus.web.errors import BadRequest

# Numbered and named groups (`resources1:`) ask for providers below a node. Nodes are one provider each: all is of it.
_RESOURCE = re.compile(r"^resources([a-zA-Z0-9_-]{1,64})?:([A-Z0-9_]+)$")
_TRAIT = re.compile(r"^trait(?:[a-zA-Z0-9_-]{1,64})?:([A-Z0-9_]+)$")
_STANDARD = frozenset({"VCPU", "MEMORY_MB", "DISK_GB"})
_DISABLED = "COMPUTE_STATUS_DISABLED"


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What one server needs, whatever host it comes to."""

    resources: dict[str, int]
    required: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset({_DISABLED})
    capabilities: dict[str, str] = {}  # fact of the node: what it must be
    aggregate_specs: dict[str, str] = {}  # metadata that an aggregate of the node must have
    architecture: str | None = None
    hypervisor: str | None = None
    flavor: str = ""  # its name
    image_properties: dict[str, str] = {}


def of(flavor: FlavorFacts, image: ImageFacts | None) -> Demand:
    """The demand of a flavor with an image. Raises BadRequest for extra specs that cannot be read."""
    root = 0 if image is not None and image.volume else flavor.disk
    resources = {
        "VCPU": flavor.vcpus, "MEMORY_MB": flavor.ram, "DISK_GB": root + flavor.ephemeral + -(-flavor.swap // 1024),
    }
    required: set[str] = set()
    forbidden = {_DISABLED}
    capabilities: dict[str, str] = {}
    aggregate_specs: dict[str, str] = {}
    for key, value in flavor.extra_specs.items():
        if found := _RESOURCE.match(key):
            if not value.isdecimal():
                raise BadRequest(f"Flavor {flavor.name}: extra spec {key} must be a number, not '{value}'.")
            resources[found[2]] = int(value) + (resources.get(found[2], 0) if found[1] else 0)
        elif found := _TRAIT.match(key):
            _trait(found[1], value, required, forbidden)
        elif key.startswith("capabilities:"):
            capabilities[key.removeprefix("capabilities:")] = value
        elif key.startswith("aggregate_instance_extra_specs:"):
            aggregate_specs[key.removeprefix("aggregate_instance_extra_specs:")] = value
    properties = image.properties if image else {}
    for key, value in properties.items():
        if found := _TRAIT.match(key):
            _trait(found[1], value, required, forbidden)
    return Demand(
        resources={name: amount for name, amount in resources.items() if amount > 0},
        required=frozenset(required), forbidden=frozenset(forbidden), capabilities=capabilities,
        aggregate_specs=aggregate_specs,
        architecture=properties.get("hw_architecture") or properties.get("architecture"),
        hypervisor=properties.get("img_hv_type") or properties.get("hypervisor_type"),
        flavor=flavor.name, image_properties=properties,
    )


def _trait(name: str, value: str, required: set[str], forbidden: set[str]) -> None:
    if value == "required":
        required.add(name)
    elif value == "forbidden":
        forbidden.add(name)
    else:
        raise BadRequest(f"trait:{name} must be 'required' or 'forbidden', not '{value}'.")


def both(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    """The most of each class, which a server holds that may have either of two flavors."""
    return {name: max(first.get(name, 0), second.get(name, 0)) for name in {**first, **second}}


def satisfies(fact: Any, wish: str) -> bool:
    """Whether a node's fact is as an extra spec wants it: `= 4`, `>= 2`, `s== text`, `<in> text`, `<all-in> a b`,
    `<or> a <or> b`."""
    words = wish.split()
    if not words:
        return False
    operator, rest = words[0], " ".join(words[1:])
    if operator in _NUMERIC and rest:
        try:
            return _NUMERIC[operator](float(fact), float(rest))
        except (TypeError, ValueError):
            return False
    if operator in _TEXTUAL and rest:
        return _TEXTUAL[operator](str(fact), rest)
    if operator == "<in>":
        return rest in (fact if isinstance(fact, list) else str(fact))
    if operator == "<all-in>":
        return all(word in (fact if isinstance(fact, list) else str(fact)) for word in words[1:])
    if operator == "<or>":
        return str(fact) in [part.strip() for part in wish.split("<or>") if part.strip()]
    return str(fact) == wish


_NUMERIC: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a >= b,  # "equal or more", as the API has always had it
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b, ">": lambda a, b: a > b,
}
_TEXTUAL: dict[str, Callable[[str, str], bool]] = {
    "s==": lambda a, b: a == b, "s!=": lambda a, b: a != b, "s<": lambda a, b: a < b, "s<=": lambda a, b: a <= b,
    "s>": lambda a, b: a > b, "s>=": lambda a, b: a >= b,
}
