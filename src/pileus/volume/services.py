"""The volume service's parts as Cinder's users know them: a cinder-volume and a cinder-backup on every node that keeps
volumes, and a cinder-scheduler in every controller."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pileus.cluster import controllers
from pileus.cluster.liveness import moment
from pileus.volume import backends, placing
from pileus.volume.schemas_rest import ServiceChange, ServiceQuery
from pileus.volume.tables import backend
from pileus.volume.views_rest import when
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.views import Field, View

VOLUME, BACKUP, SCHEDULER = "cinder-volume", "cinder-backup", "cinder-scheduler"

FROZEN = "frozen"
"""The reason of a node that is disabled by `freeze`."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One service of one host."""

    binary: str
    host: str
    node: str
    zone: str
    up: bool
    seen: float
    disabled: bool = False
    reason: str | None = None


_PART = View(
    "binary", "host", "zone", Field("status", lambda part: "disabled" if part.disabled else "enabled"),
    Field("state", lambda part: "up" if part.up else "down"), Field("updated_at", lambda part: when(part.seen)),
    Field("disabled_reason", "reason"), Field("cluster", lambda part: None, since=(3, 7)),
)
_BACKEND = View(
    Field("replication_status", lambda part: "disabled"), Field("active_backend_id", lambda part: None),
    Field("frozen", lambda part: part.disabled and part.reason == FROZEN),
    Field("backend_state", lambda part: "up" if part.up else "down", since=(3, 49)),
)


def parts(call: Call) -> list[Part]:
    """All services of all hosts."""
    zones, default = placing.by_node(call.tx), call.cloud.settings.availability_zone
    found = [
        Part(binary=SCHEDULER, host=row.name, node=row.name, zone=default,
             up=call.now - row.seen < controllers.DEAD_AFTER, seen=row.seen)
        for row in controllers.listing(call.tx)
    ] or [Part(binary=SCHEDULER, host=call.cloud.controller, node=call.cloud.controller, zone=default, up=True,
               seen=call.now)]
    for row in backends.listing(call.tx):
        zone, up = zones.get(row.node, default), backends.is_up(row, moment(call.cloud))
        found.append(Part(
            binary=VOLUME, host=f"{row.node}@{row.backend}", node=row.node, zone=zone, up=up, seen=row.seen,
            disabled=row.disabled, reason=row.disabled_reason,
        ))
        found.append(Part(binary=BACKUP, host=row.node, node=row.node, zone=zone, up=up, seen=row.seen))
    return found


def index(call: Call) -> dict[str, Any]:
    """GET /os-services: 200. By host, with or without @backend, and binary."""
    query: ServiceQuery = call.query
    binary = query.binary or query.service
    found = [
        part for part in parts(call)
        if (not query.host or query.host in (part.host, part.node)) and (not binary or binary == part.binary)
    ]
    return {"services": [
        {**_PART.render(part, call.version),
         **(_BACKEND.render(part, call.version) if part.binary == VOLUME else {})}
        for part in found
    ]}


def update(call: Call) -> Any:
    """PUT /os-services/{action}: 200. enable, disable, disable-log-reason, freeze, thaw."""
    action = call.params["action"]
    handler = _ACTIONS.get(action)
    if handler is None:
        raise NotFound(f"Unknown action {action}.")
    return handler(call, call.body)


def _enable(call: Call, body: ServiceChange) -> dict[str, Any]:
    return {**_turn(call, body, None, disabled=False), "disabled_reason": None}


def _disable(call: Call, body: ServiceChange) -> dict[str, Any]:
    return _turn(call, body, None, disabled=True)


def _disable_for(call: Call, body: ServiceChange) -> dict[str, Any]:
    reason = None if body.disabled_reason is UNSET else body.disabled_reason
    if not reason or not reason.strip():
        raise BadRequest("Disabled reason contains invalid characters or is too long, or is missing.")
    return {**_turn(call, body, reason, disabled=True), "disabled_reason": reason}


def _turn(call: Call, body: ServiceChange, reason: str | None, *, disabled: bool) -> dict[str, Any]:
    binary = body.binary or body.service or ""
    host = _host(body)
    found = [part for part in parts(call) if host in (part.host, part.node) and part.binary == binary]
    if not found:
        raise NotFound(f"Service {binary or '(none named)'} could not be found on host {host}.")
    if binary != VOLUME:
        raise BadRequest(f"Invalid input received: {binary} cannot be disabled by itself; disable {VOLUME} of a node, "
                         "so that it gets no new volumes.")
    _write(call, found[0].node, reason, disabled=disabled)
    status = "disabled" if disabled else "enabled"
    return {"host": host, "service": binary, "binary": binary, "disabled": disabled, "status": status}


def _freeze(call: Call, body: ServiceChange) -> None:
    _write(call, _backend(call, body), FROZEN, disabled=True)


def _thaw(call: Call, body: ServiceChange) -> None:
    _write(call, _backend(call, body), None, disabled=False)


def fail_over(call: Call) -> None:
    """PUT /os-services/failover_host. Raises BadRequest: nothing is replicated."""
    raise BadRequest(f"Invalid input received: {_backend(call, call.body)} replicates to nowhere: there is nothing to "
                     "fail over to.")


def _backend(call: Call, body: ServiceChange) -> str:
    """The node that keeps volumes. Raises BadRequest when there is none of that name."""
    if body.cluster and (call.version or (3, 0)) >= (3, 26):
        raise BadRequest("Invalid input received: name a 'host' alone; there are no clusters of nodes.")
    node = backends.node_of(_host(body))
    if backends.by_node(call.tx, node) is None:
        raise BadRequest(f"Invalid input received: no node {_host(body)} keeps volumes.")
    return node


def _host(body: ServiceChange) -> str:
    if body.host is UNSET:
        raise BadRequest("Missing required element 'host' in request body.")
    return body.host


def _write(call: Call, node: str, reason: str | None, *, disabled: bool) -> None:
    call.tx.execute(backend.update().where(backend.c.node == node).values(
        disabled=disabled, disabled_reason=reason, updated=call.now
    ))


_ACTIONS: dict[str, Any] = {
    "enable": _enable, "disable": _disable, "disable-log-reason": _disable_for, "freeze": _freeze, "thaw": _thaw,
}
