"""Limits: a project's quotas and what it uses of them, in the shape of the oldest clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import quotas
from pileus.compute.schemas_rest import LimitsQuery
from pileus.compute.tables import server_group
from pileus.web.call import Call
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def _limit(wire: str, name: str, until: tuple[int, int] = (10**9, 0)) -> Field:
    return Field(wire, lambda pair: pair[0][name], until=until)


def _used(wire: str, name: str, until: tuple[int, int] = (10**9, 0)) -> Field:
    return Field(wire, lambda pair: pair[1].get(name, 0), until=until)


_ABSOLUTE = View(
    _limit("maxTotalInstances", "instances"), _limit("maxTotalCores", "cores"), _limit("maxTotalRAMSize", "ram"),
    _limit("maxServerMeta", "metadata_items"), _limit("maxImageMeta", "metadata_items", (2, 38)),
    _limit("maxTotalKeypairs", "key_pairs"), _limit("maxServerGroups", "server_groups"),
    _limit("maxServerGroupMembers", "server_group_members"),
    _limit("maxPersonality", "injected_files", (2, 56)),
    _limit("maxPersonalitySize", "injected_file_content_bytes", (2, 56)),
    _limit("maxTotalFloatingIps", "floating_ips", (2, 35)), _limit("maxSecurityGroups", "security_groups", (2, 35)),
    _limit("maxSecurityGroupRules", "security_group_rules", (2, 35)),
    _used("totalInstancesUsed", "instances"), _used("totalCoresUsed", "cores"), _used("totalRAMUsed", "ram"),
    _used("totalServerGroupsUsed", "server_groups"),
    _used("totalFloatingIpsUsed", "floating_ips", (2, 35)),
    _used("totalSecurityGroupsUsed", "security_groups", (2, 35)),
)


def index(call: Call) -> dict[str, Any]:
    """GET /limits: 200. `tenant_id` names another project, for those who may see it."""
    query: LimitsQuery = call.query
    project_id = call.context.project_id or ""
    if query.tenant_id is not None:
        call.enforce("os_compute_api:limits:other_project")
        project_id = query.tenant_id
    allowed = quotas.limits(call.tx, call.cloud, project_id)
    taken = {
        **quotas.used(call.tx, project_id), **quotas.network_used(call.tx, project_id),
        "server_groups": _groups(call.tx, project_id),
    }
    return {"limits": {"rate": [], "absolute": _ABSOLUTE.render((allowed, taken), call.version)}}


def _groups(tx: Tx, project_id: str) -> int:
    counted: int = tx.scalar(sa.select(sa.func.count()).where(server_group.c.project_id == project_id))
    return counted
