"""Request bodies of unified limits."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from pileus.identity.schemas import MaybeText, NameText
from pileus.web.schemas import OpenBody

Amount = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
ShortId = Annotated[str, Meta(min_length=1, max_length=64)]
RegionId = Annotated[str, Meta(min_length=1, max_length=255)]


class RegisteredLimitNew(OpenBody):
    service_id: ShortId
    resource_name: NameText
    default_limit: Amount
    region_id: RegionId | None = None
    description: str | None = None


class RegisteredLimitsBody(OpenBody):
    registered_limits: Annotated[list[RegisteredLimitNew], Meta(min_length=1, max_length=1000)]


class RegisteredLimitChange(OpenBody):
    service_id: ShortId | UnsetType = UNSET
    resource_name: NameText | UnsetType = UNSET
    default_limit: Amount | UnsetType = UNSET
    region_id: RegionId | UnsetType | None = UNSET
    description: MaybeText = UNSET


class RegisteredLimitBody(OpenBody):
    registered_limit: RegisteredLimitChange


class LimitNew(OpenBody):
    service_id: ShortId
    resource_name: NameText
    resource_limit: Amount
    region_id: RegionId | None = None
    project_id: ShortId | None = None
    domain_id: ShortId | None = None
    description: str | None = None


class LimitsBody(OpenBody):
    limits: Annotated[list[LimitNew], Meta(min_length=1, max_length=1000)]


class LimitChange(OpenBody):
    resource_limit: Amount | UnsetType = UNSET
    description: MaybeText = UNSET


class LimitBody(OpenBody):
    limit: LimitChange
