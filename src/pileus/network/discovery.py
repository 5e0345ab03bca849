"""What versions and resources of the network service there are."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call

RESOURCES = {
    "subnet": "subnets", "network": "networks", "port": "ports", "router": "routers", "floatingip": "floatingips",
    "security_group": "security-groups", "security_group_rule": "security-group-rules", "subnetpool": "subnetpools",
    "address_scope": "address-scopes", "quota": "quotas", "agent": "agents", "rbac_policy": "rbac-policies",
    "extension": "extensions", "availability_zone": "availability_zones",
    "network_ip_availability": "network-ip-availabilities", "service_provider": "service-providers",
    "trunk": "trunks",
}


def versions(call: Call) -> dict[str, Any]:
    """GET /: 200, all versions."""
    links = [{"rel": "self", "href": f"{call.url}/v2.0/"}]
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}


def resources(call: Call) -> dict[str, Any]:
    """GET /v2.0: 200, the collections of the version."""
    return {"resources": [
        {"name": name, "collection": path.replace("-", "_"),
         "links": [{"rel": "self", "href": f"{call.url}/v2.0/{path}"}]}
        for name, path in RESOURCES.items()
    ]}
