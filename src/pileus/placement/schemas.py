"""Request bodies and queries of placement."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pileus.web.schemas import Body, Query, UuidText, since

MOST = 2**31 - 1

ClassText = Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$", max_length=255)]
CustomText = Annotated[str, Meta(pattern=r"^CUSTOM_[A-Z0-9_]+$", max_length=255)]
ProviderName = Annotated[str, Meta(min_length=1, max_length=200)]
OwnerText = Annotated[str, Meta(min_length=1, max_length=255)]
Amount = Annotated[int, Meta(ge=1, le=MOST)]
Generation = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


# -- providers


class ProviderNew(Body):
    name: ProviderName
    uuid: UuidText | UnsetType = UNSET
    parent_provider_uuid: Annotated[UuidText | UnsetType | None, since(1, 14)] = UNSET


class ProviderChange(Body):
    name: ProviderName
    parent_provider_uuid: Annotated[UuidText | UnsetType | None, since(1, 14)] = UNSET


class ProvidersQuery(Query, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    uuid: UuidText | UnsetType = UNSET
    member_of: Annotated[list[str] | UnsetType, since(1, 3)] = UNSET
    resources: Annotated[str | UnsetType, since(1, 4)] = UNSET
    in_tree: Annotated[UuidText | UnsetType, since(1, 14)] = UNSET
    required: Annotated[list[str] | UnsetType, since(1, 18)] = UNSET


# -- inventories


class InventoryRecord(Body):
    total: Annotated[int, Meta(ge=1, le=MOST)]
    reserved: Annotated[int, Meta(ge=0, le=MOST)] = 0
    min_unit: Amount = 1
    max_unit: Amount = MOST
    step_size: Amount = 1
    allocation_ratio: Annotated[float, Meta(ge=0, le=3.40282e38)] = 1.0
    resource_provider_generation: Generation | UnsetType = UNSET


class InventoryNew(InventoryRecord, kw_only=True):
    resource_class: ClassText


class InventoryChange(InventoryRecord):
    pass


class InventoriesBody(Body):
    resource_provider_generation: Generation
    inventories: dict[ClassText, InventoryRecord]


# -- traits, classes, aggregates


class TraitsBody(Body):
    resource_provider_generation: Generation
    traits: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$", min_length=1, max_length=255)]],
                      Meta(max_length=10_000)]


class TraitsQuery(Query, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    associated: str | UnsetType = UNSET


class ClassBody(Body):
    name: CustomText


class AggregatesBody(Body):
    aggregates: Annotated[list[UuidText], Meta(max_length=10_000)]
    resource_provider_generation: Generation


# -- allocations


class ProviderRef(Body):
    uuid: UuidText


ResourcesMap = Annotated[dict[ClassText, Amount], Meta(min_length=1)]


class ListedAllocation(Body):
    resource_provider: ProviderRef
    resources: ResourcesMap


class Allocations10(Body):
    allocations: Annotated[list[ListedAllocation], Meta(min_length=1)]


class Allocations18(Allocations10):
    project_id: OwnerText
    user_id: OwnerText


class AllocationOf(Body):
    resources: ResourcesMap
    generation: Generation | UnsetType = UNSET


class Allocations12(Body):
    allocations: Annotated[dict[UuidText, AllocationOf], Meta(min_length=1)]
    project_id: OwnerText
    user_id: OwnerText


class Allocations13(Body):
    """One consumer of a POST; empty allocations remove the consumer's."""

    allocations: dict[UuidText, AllocationOf]
    project_id: OwnerText
    user_id: OwnerText


Mappings = Annotated[
    dict[str, Annotated[list[UuidText], Meta(min_length=1)]], Meta(min_length=1)
]


class Allocations28(Allocations13):
    consumer_generation: Generation | None
    mappings: Annotated[Mappings | UnsetType, since(1, 34)] = UNSET


class Allocations38(Allocations28, kw_only=True):
    consumer_type: Annotated[str, Meta(pattern=r"^[A-Z0-9_]+$", min_length=1, max_length=255)]


PostAllocations13 = Annotated[dict[UuidText, Allocations13], Meta(min_length=1)]
PostAllocations28 = Annotated[dict[UuidText, Allocations28], Meta(min_length=1)]
PostAllocations38 = Annotated[dict[UuidText, Allocations38], Meta(min_length=1)]


class Reshaper30(Body):
    inventories: Annotated[dict[UuidText, InventoriesBody], Meta(min_length=1)]
    allocations: dict[UuidText, Allocations28]


class Reshaper38(Body):
    inventories: Annotated[dict[UuidText, InventoriesBody], Meta(min_length=1)]
    allocations: dict[UuidText, Allocations38]


class UsagesQuery(Query, forbid_unknown_fields=True):
    project_id: OwnerText
    user_id: OwnerText | UnsetType = UNSET
    consumer_type: Annotated[
        Annotated[str, Meta(pattern=r"^([A-Z0-9_]+|all|unknown)$", max_length=255)] | UnsetType, since(1, 38)
    ] = UNSET


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a class a provider has. `allocation_ratio` times (`total` - `reserved`) can be allocated,
    in one allocation from `min_unit` to `max_unit` in steps of `step_size`."""

    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = MOST
    step_size: int = 1
    allocation_ratio: float = 1.0

    @property
    def capacity(self) -> int:
        """How much can be allocated in all."""
        return capacity(self.total, self.reserved, self.allocation_ratio)


def capacity(total: int, reserved: int, ratio: float) -> int:
    """How much of an inventory can be allocated in all."""
    return int(min((total - reserved) * ratio, 2**53))
