"""Availability zones: where nodes keep volumes. They are compute's; an aggregate puts a node into one."""

from __future__ import annotations

from typing import Any

from pileus.volume import backends, placing
from pileus.web.call import Call


def index(call: Call) -> dict[str, Any]:
    """GET /os-availability-zone: 200. A zone is available while one of its nodes is enabled."""
    zones, default = placing.by_node(call.tx), call.cloud.settings.availability_zone
    found = {default: False} if not (rows := backends.listing(call.tx)) else {}
    for row in rows:
        zone = zones.get(row.node, default)
        found[zone] = found.get(zone, False) or not row.disabled
    return {"availabilityZoneInfo": [
        {"zoneName": name, "zoneState": {"available": available}} for name, available in sorted(found.items())
    ]}
