"""Clusters of services and what is left behind by those that died.

There are none: the nodes that keep volumes are not clustered, and whatever a dead process left is done by its tasks."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.volume import backends
from pileus.volume.schemas_rest import Cleanup
from pileus.volume.services import VOLUME
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import as_bool


def index(call: Call) -> dict[str, Any]:
    """GET /clusters and /clusters/detail: 200."""
    return {"clusters": []}


def show(call: Call) -> dict[str, Any]:
    """GET /clusters/{name}. Raises NotFound."""
    raise NotFound(f"Cluster {call.params['name']} could not be found.")


def update(call: Call) -> dict[str, Any]:
    """PUT /clusters/{action}. Raises NotFound."""
    raise NotFound("Cluster could not be found: there are none.")


def cleanup(call: Call) -> dict[str, Any]:
    """POST /workers/cleanup: 202. Nothing is ever sent to another service to be cleaned up there.

    What a dead process has begun goes on, or is undone, by itself when it is back; until then a node's volumes are in
    nobody else's reach, so that a node that is down is `unavailable`. Raises BadRequest for a resource by its id alone:
    none waits for a cleanup."""
    body: Cleanup = call.body
    if body.resource_type and body.resource_type.title() not in ("Volume", "Snapshot"):
        raise BadRequest(f"Invalid input received: resource type {body.resource_type} is not valid: it must be "
                         "Volume or Snapshot.")
    if body.resource_id and not (body.service_id or body.host or body.cluster_name):
        raise BadRequest(f"Invalid input received: There is no resource with UUID {body.resource_id} pending cleanup.")
    return {"cleaning": [], "unavailable": [] if as_bool(body.is_up) else [
        {"id": row.id, "host": f"{row.node}@{row.backend}", "binary": VOLUME, "cluster_name": None}
        for row in backends.listing(call.tx) if _is_meant(body, row) and not backends.is_up(row, moment(call.cloud))
    ]}


def _is_meant(body: Cleanup, row: Any) -> bool:
    return (
        body.binary in (UNSET, VOLUME) and not body.cluster_name
        and (not body.host or body.host in (row.node, f"{row.node}@{row.backend}"))
        and (not body.service_id or str(body.service_id) == row.id)
        and (body.disabled is UNSET or as_bool(body.disabled) == row.disabled)
    )
