"""Request bodies and queries of everything in compute but servers."""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from pileus.web.errors import BadRequest
from pileus.web.schemas import Body, Flag, Query, since

BIGGEST = 0x7FFFFFFF
"""The largest number that the API takes."""

NameText = Annotated[
    str,
    Meta(min_length=1, max_length=255, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$(?!\n)"),
]
"""Printable, without blanks at the ends."""

HostText = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-._]*$(?!\n)")]
ProjectText = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]*$(?!\n)")]
Amount = Annotated[int, Meta(ge=-1, le=BIGGEST)] | Annotated[str, Meta(pattern=r"^-?[0-9]{1,10}$(?!\n)")]
"""A number that may come as text; read it with `number`."""


def number(value: int | str, name: str, least: int = 0) -> int:
    """The meaning of an `Amount`. Raises BadRequest when it is below `least` or beyond what can be stored."""
    meant = int(value)
    if not least <= meant <= BIGGEST:
        raise BadRequest(f"Invalid input for field {name}: {meant} is not from {least} to {BIGGEST}.")
    return meant


class Paged(Query):
    """The parameters of lists that page."""

    limit: Annotated[int, Meta(ge=0)] | None = None
    marker: str | None = None


@functools.cache
def strict(query: type[Query]) -> type[Query]:
    """The same query with unknown parameters refused, as from 2.75 on."""
    made = msgspec.defstruct(
        f"{query.__name__}Strict", [], bases=(query,), kw_only=True, forbid_unknown_fields=True, module=__name__
    )
    return cast(type[Query], made)


class NoQuery(Query):
    """No parameters."""


# -- flavors


class FlavorQuery(Paged):
    is_public: str | None = None
    min_ram: Annotated[int, Meta(ge=-BIGGEST, le=BIGGEST)] | None = field(default=None, name="minRam")
    min_disk: Annotated[int, Meta(ge=-BIGGEST, le=BIGGEST)] | None = field(default=None, name="minDisk")
    sort_key: str = "flavorid"
    sort_dir: Literal["asc", "desc"] = "asc"


class FlavorNew(Body):
    name: NameText
    ram: Amount
    vcpus: Amount
    disk: Amount
    id: (
        Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^(?! )[a-zA-Z0-9. _-]+(?<! )$(?!\n)")]
        | int | float | None
    ) = None
    ephemeral: Amount = field(default=0, name="OS-FLV-EXT-DATA:ephemeral")
    swap: Amount = 0
    rxtx_factor: float | Annotated[str, Meta(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)?$(?!\n)")] = 1.0
    is_public: Flag = field(default=True, name="os-flavor-access:is_public")
    description: Annotated[
        Annotated[str, Meta(max_length=65535)] | UnsetType | None, since(2, 55)
    ] = UNSET


class FlavorNewBody(Body):
    flavor: FlavorNew


class FlavorChange(Body):
    description: Annotated[str, Meta(max_length=65535)] | None


class FlavorChangeBody(Body):
    flavor: FlavorChange


SpecKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9-_:. ]{1,255}$(?!\n)")]
SpecValue = Annotated[str, Meta(max_length=255)] | int | float
Specs = dict[SpecKey, SpecValue]


class SpecsBody(Body):
    extra_specs: Specs


class Tenant(Body):
    tenant: ProjectText


class FlavorAction(Body):
    """One of the two."""

    add: Tenant | UnsetType = field(default=UNSET, name="addTenantAccess")
    remove: Tenant | UnsetType = field(default=UNSET, name="removeTenantAccess")


Metadata = dict[str, Any]
