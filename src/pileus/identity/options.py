"""Resource options: switches of a user, project, role or domain; `immutable` protects against change and removal."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from pileus.web.errors import Forbidden
from pileus.web.schemas import Body

Method = Literal["password", "totp", "token", "application_credential"]
Switch = bool | None | UnsetType


class ResourceOptions(Body):
    """Of projects, domains and roles."""

    immutable: Switch = UNSET


class UserOptions(Body):
    """Of users. A rule of multi_factor_auth_rules is a list of methods that together are enough."""

    ignore_change_password_upon_first_use: Switch = UNSET
    ignore_password_expiry: Switch = UNSET
    ignore_lockout_failure_attempts: Switch = UNSET
    ignore_user_inactivity: Switch = UNSET
    lock_password: Switch = UNSET
    multi_factor_auth_enabled: Switch = UNSET
    multi_factor_auth_rules: list[list[Method]] | UnsetType | None = UNSET


def merge(old: dict[str, Any], given: ResourceOptions | UserOptions | UnsetType) -> dict[str, Any]:
    """The options after a change: null takes one away, what is not named stays."""
    if isinstance(given, UnsetType):
        return old
    named: dict[str, Any] = msgspec.to_builtins(given)
    return {k: v for k, v in {**old, **named}.items() if v is not None}


def guard_change(kind: str, row: Any, given: ResourceOptions | UnsetType) -> None:
    """Raises Forbidden for a change of an immutable resource, unless the change makes it mutable."""
    if not row.options.get("immutable"):
        return
    if isinstance(given, ResourceOptions) and given.immutable in (False, None):
        return
    raise Forbidden(f"Unable to update immutable {kind} resource: {row.id}. Set resource option 'immutable' to false "
                    "first.")


def guard_removal(kind: str, row: Any) -> None:
    """Raises Forbidden for the removal of an immutable resource."""
    if row.options.get("immutable"):
        raise Forbidden(f"Unable to delete immutable {kind} resource: {row.id}. Set resource option 'immutable' to "
                        "false first.")
