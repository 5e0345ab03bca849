"""Request bodies and queries of identity."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from pileus.identity.options import ResourceOptions
from pileus.web.errors import BadRequest
from pileus.web.schemas import Body, OpenBody, Query

NameText = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\S")]
IdText = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9-]+$")]
Tags = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^,/]*$")]], Meta(max_length=80)
]
MaybeText = str | None | UnsetType


# -- POST /v3/auth/tokens


class DomainRef(OpenBody):
    id: str | None = None
    name: str | None = None


class ProjectRef(OpenBody):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class UserRef(OpenBody):
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class PasswordUser(OpenBody):
    password: str
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class PasswordMethod(OpenBody):
    user: PasswordUser


class TotpUser(OpenBody):
    passcode: Annotated[str, Meta(max_length=64)]
    id: str | None = None
    name: str | None = None
    domain: DomainRef | None = None


class TotpMethod(OpenBody):
    user: TotpUser


class TokenMethod(OpenBody):
    id: str


class ApplicationCredentialMethod(OpenBody):
    secret: str
    id: str | None = None
    name: str | None = None
    user: UserRef | None = None


class Identity(OpenBody):
    methods: list[str]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None
    totp: TotpMethod | None = None
    application_credential: ApplicationCredentialMethod | None = None


class TrustRef(OpenBody):
    id: str


class SystemRef(OpenBody):
    all: Literal[True]


class Scope(OpenBody):
    project: ProjectRef | None = None
    domain: DomainRef | None = None
    system: SystemRef | None = None
    trust: TrustRef | None = field(default=None, name="OS-TRUST:trust")


class Auth(OpenBody):
    identity: Identity
    scope: Scope | Literal["unscoped"] | None = None


class AuthBody(OpenBody):
    auth: Auth


# -- projects


class ProjectNew(OpenBody):
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\S")]
    domain_id: str | None = None
    parent_id: str | None = None
    description: str | None = None
    enabled: bool = True
    is_domain: bool = False
    tags: Tags = []
    options: ResourceOptions | UnsetType = UNSET


class ProjectNewBody(OpenBody):
    project: dict[str, Any]


class ProjectChange(OpenBody):
    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\S")] | UnsetType = UNSET
    description: MaybeText = UNSET
    enabled: bool | UnsetType = UNSET
    domain_id: str | UnsetType | None = UNSET
    parent_id: str | UnsetType | None = UNSET
    is_domain: bool | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    options: ResourceOptions | UnsetType = UNSET


class ProjectQuery(Query):
    """What is filtered by beyond the columns' own names."""

    parent_id: str | None = None
    is_domain: str | None = None
    tags: str | None = None
    tags_any: str | None = field(default=None, name="tags-any")
    not_tags: str | None = field(default=None, name="not-tags")
    not_tags_any: str | None = field(default=None, name="not-tags-any")


class TagsBody(Body):
    tags: Tags


def same_id(raw: dict[str, Any], row_id: str) -> None:
    """Raises BadRequest when a body names another id than the path."""
    if raw.get("id", row_id) != row_id:
        raise BadRequest(f"Cannot change ID: the body says {raw['id']}, the URL {row_id}.")


def split_extra(kind: type, raw: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A body that may hold attributes of the caller's own: (what we know as `kind`, the rest).

    Raises BadRequest where what we know is wrong."""
    known = set(kind.__struct_encode_fields__)  # type: ignore[attr-defined]
    value: Any
    try:
        value = msgspec.convert({k: v for k, v in raw.items() if k in known}, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input: {error}") from None
    extra = {k: v for k, v in raw.items() if k not in known and k not in ("id", "links")}
    return value, extra
