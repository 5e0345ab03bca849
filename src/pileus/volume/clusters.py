"""Clusters of services and what is left behind by those that died.

There are none: the nodes that keep volumes are not clustered, and whatever a dead process left is done by its tasks."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call
from pileus.web.errors import NotFound


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
    """POST /workers/cleanup: 202. No service has to be told: open tasks go on, or are undone, by themselves."""
    return {"cleaning": [], "unavailable": []}
