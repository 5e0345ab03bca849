"""Request bodies and queries of roles and role assignments."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from pileus.identity.options import ResourceOptions
from pileus.identity.schemas import MaybeText, NameText
from pileus.identity.schemas_people import Reference
from pileus.web.schemas import OpenBody, Query


class RoleBody(OpenBody):
    role: dict[str, Any]


class RoleNew(OpenBody):
    name: NameText
    domain_id: Reference = None
    description: str | None = None
    options: ResourceOptions | UnsetType = UNSET


class RoleChange(OpenBody):
    name: NameText | UnsetType = UNSET
    domain_id: Reference | UnsetType = UNSET
    description: MaybeText = UNSET
    options: ResourceOptions | UnsetType = UNSET


class AssignmentQuery(Query):
    """Filters of GET /v3/role_assignments. A switch without a value is on."""

    user_id: str | None = field(default=None, name="user.id")
    group_id: str | None = field(default=None, name="group.id")
    role_id: str | None = field(default=None, name="role.id")
    domain_id: str | None = field(default=None, name="scope.domain.id")
    project_id: str | None = field(default=None, name="scope.project.id")
    system: str | None = field(default=None, name="scope.system")
    inherited_to: str | None = field(default=None, name="scope.OS-INHERIT:inherited_to")
    effective: str | None = None
    include_names: str | None = None
    include_subtree: str | None = None


def switched_on(text: str | None) -> bool:
    """Whether a query switch is on: named, and not said to be false."""
    return text is not None and text.lower() not in ("0", "false", "no", "off")
