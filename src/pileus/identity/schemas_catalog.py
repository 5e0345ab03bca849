"""Request bodies of regions, services, endpoints and policies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from pileus.identity.schemas import MaybeText, NameText
from pileus.web.schemas import OpenBody

RegionId = Annotated[str, Meta(min_length=1, max_length=255)]
Url = Annotated[str, Meta(min_length=1, max_length=8192, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$")]
Interface = Literal["public", "internal", "admin"]


class RegionBody(OpenBody):
    region: dict[str, Any]


class RegionNew(OpenBody):
    id: Annotated[str, Meta(max_length=255)] | None = None
    description: str | None = None
    parent_region_id: RegionId | None = None


class RegionChange(OpenBody):
    description: MaybeText = UNSET
    parent_region_id: RegionId | UnsetType | None = UNSET


class ServiceBody(OpenBody):
    service: dict[str, Any]


class ServiceNew(OpenBody):
    type: NameText
    name: Annotated[str, Meta(max_length=255)] | None = None
    description: str | None = None
    enabled: bool = True


class ServiceChange(OpenBody):
    type: NameText | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    description: MaybeText = UNSET
    enabled: bool | UnsetType = UNSET


class EndpointBody(OpenBody):
    endpoint: dict[str, Any]


class EndpointNew(OpenBody):
    service_id: Annotated[str, Meta(max_length=64)]
    interface: Interface
    url: Url
    region_id: RegionId | None = None
    region: RegionId | None = None
    enabled: bool = True


class EndpointChange(OpenBody):
    service_id: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    interface: Interface | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    region_id: RegionId | UnsetType | None = UNSET
    region: RegionId | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class PolicyBody(OpenBody):
    policy: dict[str, Any]


class PolicyNew(OpenBody):
    blob: str | dict[str, Any]
    type: Annotated[str, Meta(min_length=1, max_length=255)]


class PolicyChange(OpenBody):
    blob: str | dict[str, Any] | UnsetType = UNSET
    type: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
