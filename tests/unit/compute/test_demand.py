"""What flavors and images demand of a node."""

from __future__ import annotations

from typing import Any

import pytest

from pileus.compute import demand
from pileus.compute.schemas import FlavorFacts
from pileus.web.errors import BadRequest


def flavor(**specs: str) -> FlavorFacts:
    named = {key.replace("__", ":"): value for key, value in specs.items()}
    return FlavorFacts(
        seq=1, id="1", name="small", vcpus=2, ram=512, disk=10, ephemeral=1, swap=1500, rxtx_factor=1.0,
        extra_specs=named,
    )


def test_resources_are_the_flavors_unless_its_extra_specs_say_otherwise() -> None:
    assert demand.of(flavor(), None).resources == {"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 13}
    changed = demand.of(flavor(resources__VCPU="0", resources__CUSTOM_GPU="1", resources1__MEMORY_MB="100"), None)
    assert changed.resources == {"MEMORY_MB": 612, "DISK_GB": 13, "CUSTOM_GPU": 1}


def test_traits() -> None:
    found = demand.of(flavor(trait__HW_A="required", trait2__HW_B="required", trait__HW_C="forbidden"), None)
    assert found.required == {"HW_A", "HW_B"}
    assert found.forbidden == {"HW_C", "COMPUTE_STATUS_DISABLED"}
    for wrong in ({"trait__HW_A": "maybe"}, {"resources__VCPU": "-1"}, {"resources__VCPU": "many"}):
        with pytest.raises(BadRequest):
            demand.of(flavor(**wrong), None)


@pytest.mark.parametrize(("fact", "wish", "expected"), [
    (8, "= 4", True), (8, "= 9", False), (8, "== 8", True), (8, "!= 8", False), (8, ">= 8", True), (8, "< 9", True),
    ("abc", "s== abc", True), ("abc", "s!= abc", False), ("b", "s> a", True), (["avx", "sse"], "<in> sse", True),
    (["avx", "sse"], "<all-in> sse avx", True), (["avx"], "<all-in> sse avx", False),
    ("debian 12", "<in> debian", True),
    ("a", "<or> b <or> a", True), ("c", "<or> b <or> a", False), ("true", "true", True), (8, "8", True), (8, "", False),
    ("x", "= 4", False), (None, ">= 1", False),
])
def test_operators_of_extra_specs(fact: Any, wish: str, expected: bool) -> None:
    assert demand.satisfies(fact, wish) is expected
