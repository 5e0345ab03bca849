"""The network service: the whole API on one screen."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from pileus.network import (
    address_scopes,
    agents,
    availability,
    discovery,
    extensions,
    floating_ips,
    networks,
    port_handlers,
    quotas,
    rbac_policies,
    router_interfaces,
    routers,
    schedulers,
    security_group_rules,
    security_groups,
    subnet_pools,
    subnets,
    tag_handlers,
    trunks,
)
from pileus.network import schemas as s
from pileus.network.lists import FieldsQuery, query_of
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route


def _noun(module: ModuleType, path: str, new: Any, change: Any = None, reads_write: bool = False) -> tuple[Route, ...]:
    """List, create, show, update and delete of a noun. Changes are allowed per object, by the handlers."""
    noun = module.NOUN
    rule, all_, one = noun.in_rules, f"/v2.0/{path}", f"/v2.0/{path}/{{id}}"
    write = True if reads_write else None
    query = query_of(noun.filters, noun.taggable, noun.title.replace(" ", ""))
    rows = (
        Route("GET", all_, module.index, f"get_{rule}", query=query, write=write),
        Route("POST", all_, module.create, AUTHENTICATED, 201, body=new),
        Route("GET", one, module.show, f"get_{rule}", query=FieldsQuery, write=write),
        Route("DELETE", one, module.delete, AUTHENTICATED, 204),
    )
    return rows if change is None else (*rows, Route("PUT", one, module.update, AUTHENTICATED, body=change))


_ROUTER = "/v2.0/routers/{id}"
_TRUNK = "/v2.0/trunks/{id}"
_QUOTA = "/v2.0/quotas/{project_id}"
_DHCP_NETWORKS = "/v2.0/agents/{id}/dhcp-networks"
_L3_ROUTERS = "/v2.0/agents/{id}/l3-routers"
_TAGS = "/v2.0/{collection}/{id}/tags"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", discovery.versions, PUBLIC),
    Route("GET", "/v2.0", discovery.resources, PUBLIC),
    *_noun(networks, "networks", s.NetworksBody, s.NetworkBody),
    *_noun(subnets, "subnets", s.SubnetsBody, s.SubnetBody),
    *_noun(subnet_pools, "subnetpools", s.SubnetPoolsBody, s.SubnetPoolBody),
    *_noun(address_scopes, "address-scopes", s.AddressScopesBody, s.AddressScopeBody),
    *_noun(port_handlers, "ports", s.PortsBody, s.PortBody),
    *_noun(routers, "routers", s.RoutersBody, s.RouterBody),
    Route("PUT", _ROUTER + "/add_router_interface", router_interfaces.add, AUTHENTICATED, body=s.InterfaceBody),
    Route("PUT", _ROUTER + "/remove_router_interface", router_interfaces.remove, AUTHENTICATED, body=s.InterfaceBody),
    Route("PUT", _ROUTER + "/add_extraroutes", routers.add_extraroutes, AUTHENTICATED, body=s.ExtraRoutesBody),
    Route("PUT", _ROUTER + "/remove_extraroutes", routers.remove_extraroutes, AUTHENTICATED, body=s.ExtraRoutesBody),
    *_noun(floating_ips, "floatingips", s.FloatingIpsBody, s.FloatingIpBody),
    *_noun(security_groups, "security-groups", s.SecurityGroupsBody, s.SecurityGroupBody, reads_write=True),
    *_noun(security_group_rules, "security-group-rules", s.RulesBody, reads_write=True),
    *_noun(trunks, "trunks", s.TrunksBody, s.TrunkBody),
    Route("GET", _TRUNK + "/get_subports", trunks.get_subports, AUTHENTICATED),
    Route("PUT", _TRUNK + "/add_subports", trunks.add_subports, AUTHENTICATED, body=s.SubportsBody),
    Route("PUT", _TRUNK + "/remove_subports", trunks.remove_subports, AUTHENTICATED, body=s.SubportsBody),
    *_noun(rbac_policies, "rbac-policies", s.RbacsBody, s.RbacBody),
    # quotas
    Route("GET", "/v2.0/quotas", quotas.index, "update_quota"),
    Route("GET", "/v2.0/quotas/tenant", quotas.show_own, AUTHENTICATED),
    Route("GET", "/v2.0/quotas/project", quotas.show_own, AUTHENTICATED),
    Route("GET", _QUOTA, quotas.show, AUTHENTICATED),
    Route("GET", _QUOTA + "/default", quotas.show_default, AUTHENTICATED),
    Route("GET", _QUOTA + "/details", quotas.show_details, AUTHENTICATED),
    Route("GET", _QUOTA + "/details.json", quotas.show_details, AUTHENTICATED),
    Route("PUT", _QUOTA, quotas.update, "update_quota", body=s.QuotaBody),
    Route("DELETE", _QUOTA, quotas.delete, "delete_quota", 204),
    # agents, zones, availability, extensions
    Route("GET", "/v2.0/agents", agents.index, AUTHENTICATED),
    Route("GET", "/v2.0/agents/{id}", agents.show, AUTHENTICATED),
    Route("PUT", "/v2.0/agents/{id}", agents.update, "update_agent", body=s.AgentBody),
    Route("DELETE", "/v2.0/agents/{id}", agents.delete, "delete_agent", 204),
    Route("GET", _DHCP_NETWORKS, schedulers.networks_of_agent, "get_dhcp-networks"),
    Route("POST", _DHCP_NETWORKS, schedulers.add_network, "create_dhcp-network", 201, body=s.AgentNetworkBody),
    Route("DELETE", _DHCP_NETWORKS + "/{network_id}", schedulers.remove_network, "delete_dhcp-network", 204),
    Route("GET", "/v2.0/networks/{id}/dhcp-agents", schedulers.agents_of_network, "get_dhcp-agents"),
    Route("GET", _L3_ROUTERS, schedulers.routers_of_agent, "get_l3-routers"),
    Route("POST", _L3_ROUTERS, schedulers.add_router, "create_l3-router", 201, body=s.AgentRouterBody),
    Route("DELETE", _L3_ROUTERS + "/{router_id}", schedulers.remove_router, "delete_l3-router", 204),
    Route("GET", _ROUTER + "/l3-agents", schedulers.agents_of_router, "get_l3-agents"),
    Route("GET", "/v2.0/availability_zones", availability.zones, "get_availability_zone"),
    Route("GET", "/v2.0/network-ip-availabilities", availability.index, "get_network_ip_availability"),
    Route("GET", "/v2.0/network-ip-availabilities/{id}", availability.show, "get_network_ip_availability"),
    Route("GET", "/v2.0/service-providers", availability.providers, "get_service_provider"),
    Route("GET", "/v2.0/extensions", extensions.index, AUTHENTICATED),
    Route("GET", "/v2.0/extensions/{alias}", extensions.show, AUTHENTICATED),
    # tags of every collection that has them
    Route("GET", _TAGS, tag_handlers.index, AUTHENTICATED),
    Route("PUT", _TAGS, tag_handlers.replace, AUTHENTICATED, body=s.TagsBody),
    Route("POST", _TAGS, tag_handlers.add_many, AUTHENTICATED, body=s.TagsBody),
    Route("DELETE", _TAGS, tag_handlers.clear, AUTHENTICATED, 204),
    Route("GET", _TAGS + "/{tag}", tag_handlers.has, AUTHENTICATED, 204),
    Route("PUT", _TAGS + "/{tag}", tag_handlers.add, AUTHENTICATED, 201),
    Route("DELETE", _TAGS + "/{tag}", tag_handlers.remove, AUTHENTICATED, 204),
)
