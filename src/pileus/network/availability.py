"""How many addresses networks have left, availability zones, and who provides which service."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import lists, networks
from pileus.network.tables import allocation, network, subnet
from pileus.web.call import Call


def size(pools: Sequence[Sequence[str]]) -> int:
    """How many addresses allocation pools have."""
    return sum(int(ipaddress.ip_address(b)) - int(ipaddress.ip_address(a)) + 1 for a, b in pools)


def _of(call: Call, rows: Sequence[Row[Any]], version: int | None) -> list[dict[str, Any]]:
    subnets = networks.subnets_of(call.tx, [row.id for row in rows])
    counted = sa.select(allocation.c.subnet_id, sa.func.count().label("used")).join(
        subnet, subnet.c.id == allocation.c.subnet_id
    ).where(subnet.c.network_id.in_([row.id for row in rows])).group_by(allocation.c.subnet_id)
    used = {row.subnet_id: row.used for row in call.tx.all(counted)}
    found = []
    for row in rows:
        parts = [
            {
                "subnet_id": s.id, "subnet_name": s.name, "cidr": s.cidr, "ip_version": s.ip_version,
                "total_ips": size(s.pools), "used_ips": used.get(s.id, 0),
            }
            for s in subnets.get(row.id, ()) if version is None or s.ip_version == version
        ]
        found.append({
            "network_id": row.id, "network_name": row.name, "project_id": row.project_id,
            "tenant_id": row.project_id, "subnet_ip_availability": parts,
            "total_ips": sum(p["total_ips"] for p in parts), "used_ips": sum(p["used_ips"] for p in parts),
        })
    return found


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/network-ip-availabilities: 200. Filters: network_id, network_name, project_id, ip_version."""
    columns = {"network_id": network.c.id, "network_name": network.c.name, "project_id": network.c.project_id,
               "tenant_id": network.c.project_id}
    asked: dict[str, list[str]] = {}
    for name, value in call.query_pairs:
        asked.setdefault(name, []).append(value)
    statement = sa.select(network).order_by(network.c.id)
    for name, values in asked.items():
        if name in columns:
            statement = statement.where(columns[name].in_(values))
    version = {"4": 4, "6": 6}.get(asked.get("ip_version", [""])[-1])
    return {"network_ip_availabilities": _of(call, call.tx.all(statement), version)}


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/network-ip-availabilities/{id}: 200."""
    return {"network_ip_availability": _of(call, [lists.find(call, networks.NOUN, call.params["id"])], None)[0]}


def zones(call: Call) -> dict[str, Any]:
    """GET /v2.0/availability_zones: 200. There is one, of all nodes."""
    name = call.cloud.settings.availability_zone
    return {"availability_zones": [
        {"name": name, "resource": resource, "state": "available"} for resource in ("network", "router")
    ]}


def providers(call: Call) -> dict[str, Any]:
    """GET /v2.0/service-providers: 200."""
    return {"service_providers": [{"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": True}]}
