"""What of Neutron's API is here beyond networks, subnets and ports. An alias stands here only if it works."""

from __future__ import annotations

from typing import Any

from pileus.network.faults import not_found
from pileus.web.call import Call

_ROWS = (
    ("address-scope", "Address scope", "Address scopes of subnet pools"),
    ("agent", "agent", "The agents of each node"),
    ("allowed-address-pairs", "Allowed Address Pairs", "More addresses that a port may send from"),
    ("availability_zone", "Availability Zone", "Availability zones of agents"),
    ("binding", "Port Binding", "The node that a port is bound to"),
    ("default-subnetpools", "Default Subnetpools", "Subnets from the default pool"),
    ("dhcp_agent_scheduler", "DHCP Agent Scheduler", "Which agent serves the DHCP of a network"),
    ("dns-integration", "DNS Integration", "Names of ports in their network's DNS"),
    ("empty-string-filtering", "Empty String Filtering", "Filters by empty values"),
    ("ext-gw-mode", "Neutron L3 Configurable external gateway mode", "Routers with and without source NAT"),
    ("external-net", "Neutron external network", "Networks that routers have their gateway on"),
    ("extra_dhcp_opt", "Neutron Extra DHCP options", "DHCP options of single ports"),
    ("extraroute", "Neutron Extra Route", "Static routes of routers"),
    ("extraroute-atomic", "Atomically add/remove extra routes", "Static routes added and removed one by one"),
    ("filter-validation", "Filter parameters validation", "Unknown filters are refused"),
    ("fip-port-details", "Floating IP Port Details Extension", "Details of the port of a floating IP"),
    ("ip-substring-filtering", "IP address substring filtering", "Ports by a part of their address"),
    ("l3_agent_scheduler", "L3 Agent Scheduler", "Which agent has a router"),
    ("net-mtu", "Network MTU", "The MTU of networks"),
    ("net-mtu-writable", "Network MTU (writable)", "The MTU of networks may be set"),
    ("network-ip-availability", "Network IP Availability", "How many addresses of a network are used"),
    ("network_availability_zone", "Network Availability Zone", "Availability zones of networks"),
    ("pagination", "Pagination support", "Lists in pages"),
    ("port-security", "Port Security", "Ports without filters"),
    ("port-security-groups-filtering", "Port filtering on security groups", "Ports by their security group"),
    ("project-id", "project_id field enabled", "project_id besides tenant_id"),
    ("provider", "Provider Network", "The segment that carries a network"),
    ("quota-check-limit", "Quota engine limit check", "Quotas that may not go below what is used"),
    ("quota_details", "Quota details management support", "Quotas with what is used"),
    ("quotas", "Quota management support", "Quotas of projects"),
    ("rbac-policies", "RBAC Policies", "Networks shared with single projects"),
    ("revision-if-match", "If-Match constraints based on revision_number", "Changes of a known revision only"),
    ("router", "Neutron L3 Router", "Routers and floating IPs"),
    ("router_availability_zone", "Router Availability Zone", "Availability zones of routers"),
    ("security-group", "security-group", "Security groups"),
    ("security-groups-normalized-cidr", "Normalized CIDR field for security group rules",
     "The CIDR of rules without host bits"),
    ("service-type", "Neutron Service Type Management", "Providers of services"),
    ("sorting", "Sorting support", "Sorted lists"),
    ("standard-attr-description", "standard-attr-description", "Descriptions"),
    ("standard-attr-revisions", "Resource revision numbers", "Revision numbers"),
    ("standard-attr-tag", "Tag support for resources with standard attribute", "Tags"),
    ("standard-attr-timestamp", "Resource timestamps", "Times of creation and last change"),
    ("stateful-security-group", "Stateful security group", "Security groups with and without connection tracking"),
    ("subnet-service-types", "Subnet service types", "Subnets for ports of certain owners"),
    ("subnet_allocation", "Subnet Allocation", "Subnet pools"),
    ("tag", "Tag support", "Tags of networks"),
    ("tag-ext", "Tag support for resources: subnet, subnetpool, port, router", "Tags of the rest"),
    ("tag-ports-during-bulk-creation", "Tag Ports During Bulk Creation", "Ports made with their tags"),
    ("trunk", "Trunk Extension", "Ports that carry other ports, by VLAN tags"),
    ("trunk-details", "Trunk port details", "The subports of a trunk, shown by its parent port"),
)

EXTENSIONS: dict[str, dict[str, Any]] = {
    alias: {
        "alias": alias, "name": name, "description": text, "updated": "2026-01-01T00:00:00-00:00", "links": [],
    }
    for alias, name, text in _ROWS
}


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/extensions: 200."""
    return {"extensions": list(EXTENSIONS.values())}


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/extensions/{alias}: 200."""
    found = EXTENSIONS.get(call.params["alias"])
    if found is None:
        raise not_found("ExtensionNotFound", "Extension with alias", call.params["alias"])
    return {"extension": found}
