"""Pools: the nodes that keep volumes, as the scheduler sees them, and what they can do."""

from __future__ import annotations

from typing import Any

from pileus.cluster.liveness import moment
from pileus.volume import backends, listing, placing, volume_types
from pileus.volume.schemas_rest import PoolQuery
from pileus.volume.views_rest import when
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

_PROPERTIES = {
    "thin_provisioning": ("Thin Provisioning", "Space is taken when it is written.", "boolean", True),
    "multiattach": ("Multiattach", "A volume can be attached to several servers at once.", "boolean", True),
    "encryption": ("Encryption at rest", "Volumes are encrypted where they are kept.", "boolean", False),
    "replication_enabled": ("Replication", "Volumes are replicated to other nodes.", "boolean", False),
    "qos": ("QoS", "The node itself limits how fast a volume is.", "boolean", False),
}
_PARAMETERS = frozenset({"detail", "name", "volume_type"})


def index(call: Call) -> dict[str, Any]:
    """GET /scheduler-stats/get_pools: 200. By name from 3.28 on, by volume type from 3.35 on.

    From 3.28 to 3.30 by any capability too; from 3.31 on only by what /resource_filters names."""
    query: PoolQuery = call.query
    version = call.version or (3, 0)
    rows = backends.listing(call.tx)
    if query.name and version >= (3, 28):
        rows = [row for row in rows if query.name == backends.host(row.node, row.backend)]
    if query.volume_type and version >= (3, 35):
        kind = volume_types.find(call.tx, call.context, query.volume_type)
        rows = [row for row in rows if placing.suits(row, kind.extra_specs)]
    others = {name: value for name, value in call.query_pairs if name not in _PARAMETERS}
    if others and version >= (3, 31):
        raise BadRequest(f"Invalid filters {', '.join(others)} are found in query options.")
    given = backends.provisioned(call.tx)
    able = [(backends.host(row.node, row.backend), _capabilities(call, row, given)) for row in rows]
    if version >= (3, 28):
        able = [(name, can) for name, can in able if all(_is(can.get(key), value) for key, value in others.items())]
    if not listing.flag(query.detail, "detail"):
        return {"pools": [{"name": name} for name, _ in able]}
    return {"pools": [{"name": name, "capabilities": can} for name, can in able]}


def _is(there: Any, wanted: str) -> bool:
    """Whether a capability is what a query says."""
    return there is not None and str(there).lower() == wanted.lower()


def _capabilities(call: Call, row: Any, given: dict[str, int]) -> dict[str, Any]:
    return {
        **placing.CAPABILITIES, "volume_backend_name": placing.backend_name(row), "pool_name": row.backend,
        "backend_state": "up" if backends.is_up(row, moment(call.cloud)) else "down",
        "total_capacity_gb": row.total_gib, "free_capacity_gb": row.free_gib, "reserved_percentage": 0,
        "provisioned_capacity_gb": given.get(row.node, 0), "allocated_capacity_gb": given.get(row.node, 0),
        "thin_provisioning_support": True, "thick_provisioning_support": False, "multiattach": True,
        "QoS_support": False, "timestamp": when(row.seen), "updated": when(row.updated),
    }


def capabilities(call: Call) -> dict[str, Any]:
    """GET /capabilities/{host}: 200, what the node's volumes can be. The host is node@backend or node@backend#pool."""
    host = call.params["host"]
    if not host:
        raise BadRequest("Name a host.")
    row = backends.by_node(call.tx, backends.node_of(host))
    if row is None or host not in (row.node, f"{row.node}@{row.backend}", backends.host(row.node, row.backend)):
        raise NotFound(f"No node {host} keeps volumes.")
    return {
        **placing.CAPABILITIES, "namespace": f"OS::Storage::Capabilities::{row.node}@{row.backend}",
        "volume_backend_name": placing.backend_name(row), "pool_name": row.backend, "display_name": None,
        "description": None, "visibility": None, "replication_targets": [],
        "properties": {
            name: {"title": title, "description": description, "type": kind}
            for name, (title, description, kind, there) in _PROPERTIES.items() if there
        },
    }
