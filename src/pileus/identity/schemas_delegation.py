"""Request bodies of credentials, trusts and application credentials."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from pileus.identity.schemas import NameText
from pileus.web.schemas import OpenBody

ShortId = Annotated[str, Meta(min_length=1, max_length=64)]


class CredentialBody(OpenBody):
    credential: dict[str, Any]


class CredentialNew(OpenBody):
    type: NameText
    blob: str | dict[str, Any]
    user_id: ShortId
    project_id: ShortId | None = None


class CredentialChange(OpenBody):
    type: NameText | UnsetType = UNSET
    blob: str | dict[str, Any] | UnsetType = UNSET
    user_id: ShortId | UnsetType = UNSET
    project_id: ShortId | UnsetType | None = UNSET


class Ec2Body(OpenBody):
    tenant_id: ShortId


class Ec2Signature(OpenBody):
    """A signed request, as a service tells of it."""

    access: str = ""
    signature: str = ""
    host: str = ""
    verb: str = "GET"
    path: str = "/"
    params: dict[str, str] = {}
    headers: dict[str, str] = {}
    body_hash: str = ""


class Ec2TokenBody(OpenBody):
    credentials: Ec2Signature | None = None
    old: Ec2Signature | None = field(default=None, name="ec2Credentials")


class S3Signature(OpenBody):
    access: str
    signature: str
    token: str


class S3TokenBody(OpenBody):
    credentials: S3Signature


class RoleRef(OpenBody):
    id: ShortId | None = None
    name: NameText | None = None


class TrustNew(OpenBody):
    trustor_user_id: ShortId
    trustee_user_id: ShortId
    impersonation: bool
    project_id: ShortId | None = None
    roles: list[RoleRef] = []
    expires_at: str | None = None
    remaining_uses: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    redelegation_count: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    allow_redelegation: bool = False


class TrustBody(OpenBody):
    trust: TrustNew


class AccessRuleNew(OpenBody):
    id: ShortId | None = None
    service: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None
    path: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class ApplicationCredentialNew(OpenBody):
    name: NameText
    secret: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    description: str | None = None
    expires_at: str | None = None
    roles: list[RoleRef] = []
    unrestricted: bool | None = None
    access_rules: Annotated[list[AccessRuleNew], Meta(max_length=100)] = []


class ApplicationCredentialBody(OpenBody):
    credential: ApplicationCredentialNew = field(name="application_credential")
