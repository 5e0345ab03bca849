"""Where a caller says that a server shall be: availability zones, and hosts for those who may name them."""

from __future__ import annotations

from pileus.compute import availability_zones, nodes
from pileus.web.call import Call
from pileus.web.errors import BadRequest


def parse(call: Call, text: str | None) -> tuple[str | None, str | None, bool]:
    """`zone`, `zone:host` or `zone:host:node`: (zone, host, whether the host is forced).

    Raises BadRequest for unknown zones and hosts, Forbidden for hosts named by those who may not."""
    if text is None:
        return None, None, False
    zone, *rest = text.split(":")
    if len(rest) > 2:
        raise BadRequest("Unable to parse availability_zone")
    named = [part for part in rest if part]
    if not named:
        if zone and not availability_zones.exists(call.tx, call.cloud, zone):
            raise BadRequest("The requested availability zone is not available")
        return zone or None, None, False
    call.enforce("os_compute_api:servers:create:forced_host", project_id=call.context.project_id)
    if len(set(named)) > 1:
        raise BadRequest(f"No host {named[0]} has a node {named[1]}: a host is its own one node here.")
    host = known_host(call, named[0])
    return availability_zones.of_host(call.tx, call.cloud, host), host, True


def known_host(call: Call, name: str) -> str:
    """The name of a node. Raises BadRequest when there is none."""
    if nodes.by_name(call.tx, name) is None:
        raise BadRequest(f"Compute host {name} could not be found.")
    return name
