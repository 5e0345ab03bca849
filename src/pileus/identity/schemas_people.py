"""Request bodies of domains, users and groups."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from pileus.identity.options import ResourceOptions, UserOptions
from pileus.identity.schemas import MaybeText, NameText
from pileus.web.schemas import OpenBody

ShortName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\S")]
HexId = Annotated[str, Meta(pattern=r"^[a-f0-9]{32}$")]
Reference = Annotated[str, Meta(max_length=64)] | None


class DomainBody(OpenBody):
    domain: dict[str, Any]


class DomainNew(OpenBody):
    name: ShortName
    description: str | None = None
    enabled: bool = True
    explicit_domain_id: HexId | None = None
    options: ResourceOptions | UnsetType = UNSET


class DomainChange(OpenBody):
    name: ShortName | UnsetType = UNSET
    description: MaybeText = UNSET
    enabled: bool | UnsetType = UNSET
    options: ResourceOptions | UnsetType = UNSET


class UserBody(OpenBody):
    user: dict[str, Any]


class UserNew(OpenBody):
    name: NameText
    domain_id: Reference = None
    default_project_id: Reference = None
    description: str | None = None
    enabled: bool = True
    password: str | None = None
    options: UserOptions | UnsetType = UNSET


class UserChange(OpenBody):
    name: NameText | UnsetType = UNSET
    domain_id: Reference | UnsetType = UNSET
    default_project_id: Reference | UnsetType = UNSET
    description: MaybeText = UNSET
    enabled: bool | UnsetType = UNSET
    password: MaybeText = UNSET
    options: UserOptions | UnsetType = UNSET


class PasswordChange(OpenBody):
    original_password: str
    password: str


class PasswordChangeBody(OpenBody):
    user: PasswordChange


class GroupBody(OpenBody):
    group: dict[str, Any]


class GroupNew(OpenBody):
    name: ShortName
    domain_id: Reference = None
    description: str | None = None


class GroupChange(OpenBody):
    name: ShortName | UnsetType = UNSET
    domain_id: Reference | UnsetType = UNSET
    description: MaybeText = UNSET
