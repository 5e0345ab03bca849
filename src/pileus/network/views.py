"""What network resources look like on the wire."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Row

from pileus.world import iso_z

Shown = dict[str, Any]

_second = functools.lru_cache(maxsize=4096)(iso_z)  # what is made together has the same times


def _standard(row: Row[Any], tags: list[str] | None) -> Shown:
    shown: Shown = {
        "id": row.id, "project_id": row.project_id, "tenant_id": row.project_id, "description": row.description,
        "created_at": _second(int(row.created)), "updated_at": _second(int(row.updated)),
        "revision_number": row.revision,
    }
    if tags is not None:
        shown["tags"] = tags
    return shown


def network(
    row: Row[Any], subnets: list[str], tags: list[str], full: bool, *, shared: bool, external: bool, zone: str,
    scopes: tuple[str | None, str | None],
) -> Shown:
    """One network; `full`: with what only administrators see; `scopes`: its IPv4 and IPv6 address scope."""
    shown = {
        **_standard(row, tags), "name": row.name, "status": row.status, "admin_state_up": row.admin_state_up,
        "shared": shared, "router:external": external, "subnets": subnets, "mtu": row.mtu,
        "port_security_enabled": row.port_security_enabled, "dns_domain": row.dns_domain,
        "availability_zone_hints": row.zone_hints, "availability_zones": [zone] if row.node else [],
        "ipv4_address_scope": scopes[0], "ipv6_address_scope": scopes[1],
    }
    if external:
        shown["is_default"] = row.is_default
    if full:
        shown["provider:network_type"] = row.network_type
        shown["provider:physical_network"] = row.physical_network
        shown["provider:segmentation_id"] = row.segmentation_id
    return shown


def routes(pairs: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """[[destination, nexthop], …] as objects."""
    return [{"destination": destination, "nexthop": nexthop} for destination, nexthop in pairs]


def subnet(row: Row[Any], tags: list[str]) -> Shown:
    """One subnet."""
    return {
        **_standard(row, tags), "name": row.name, "network_id": row.network_id, "ip_version": row.ip_version,
        "cidr": row.cidr, "gateway_ip": row.gateway_ip, "enable_dhcp": row.enable_dhcp,
        "allocation_pools": [{"start": first, "end": last} for first, last in row.pools],
        "dns_nameservers": row.dns_nameservers, "host_routes": routes(row.host_routes),
        "ipv6_ra_mode": row.ipv6_ra_mode, "ipv6_address_mode": row.ipv6_address_mode,
        "subnetpool_id": row.subnetpool_id, "service_types": row.service_types,
    }


def subnet_pool(row: Row[Any], tags: list[str]) -> Shown:
    """One subnet pool. Prefix lengths are numbers, as Neutron has them since subnet pools exist."""
    return {
        **_standard(row, tags), "name": row.name, "prefixes": row.prefixes, "ip_version": row.ip_version,
        "default_quota": row.default_quota, "min_prefixlen": row.min_prefixlen, "max_prefixlen": row.max_prefixlen,
        "default_prefixlen": row.default_prefixlen, "shared": row.shared, "is_default": row.is_default,
        "address_scope_id": row.address_scope_id,
    }


def address_scope(row: Row[Any]) -> Shown:
    """One address scope."""
    return {
        "id": row.id, "project_id": row.project_id, "tenant_id": row.project_id, "name": row.name,
        "ip_version": row.ip_version, "shared": row.shared,
    }


def fixed_ip(row: Row[Any]) -> dict[str, str]:
    """An allocation as part of a port."""
    return {"subnet_id": row.subnet_id, "ip_address": row.ip}


def dns_assignment(name: str, addresses: Sequence[Row[Any]], domain: str) -> list[dict[str, str]]:
    """The names under which a port's addresses are known in its network."""
    found = []
    for address in addresses:
        hostname = name or "host-" + address.ip.replace(".", "-").replace(":", "-")
        found.append({"ip_address": address.ip, "hostname": hostname, "fqdn": f"{hostname}.{domain}."})
    return found


def port(
    row: Row[Any], addresses: Sequence[Row[Any]], groups: list[str], tags: list[str], domain: str, full: bool,
    failed: bool = False, trunk: tuple[str, Sequence[Row[Any]]] | None = None,
) -> Shown:
    """One port; `full`: with its binding, which `failed` where its node cannot have the port's network; `trunk`: the
    id and the subports of the trunk whose parent it is."""
    shown = {
        **_standard(row, tags), "name": row.name, "network_id": row.network_id, "mac_address": row.mac,
        "status": row.status, "admin_state_up": row.admin_state_up, "device_id": row.device_id,
        "device_owner": row.device_owner, "fixed_ips": [fixed_ip(a) for a in addresses],
        "security_groups": groups, "port_security_enabled": row.port_security_enabled,
        "allowed_address_pairs": [{"ip_address": ip, "mac_address": mac} for ip, mac in row.allowed_pairs],
        "extra_dhcp_opts": [
            {"opt_name": name, "opt_value": value, "ip_version": version} for name, value, version in row.dhcp_options
        ],
        "dns_name": row.dns_name, "dns_assignment": dns_assignment(row.dns_name, addresses, domain),
        "binding:vnic_type": row.vnic_type,
    }
    if trunk is not None:
        shown["trunk_details"] = trunk_details(*trunk)
    if full:
        shown["binding:host_id"] = row.host
        shown["binding:profile"] = {**row.profile, "migrating_to": row.moving_to} if row.moving_to else row.profile
        shown["binding:vif_type"] = ("binding_failed" if failed else "bridge") if row.host else "unbound"
        bound = row.host and not failed
        shown["binding:vif_details"] = {"port_filter": True, "connectivity": "l2"} if bound else {}
    return shown


def subport(row: Row[Any]) -> Shown:
    """A subport as part of its trunk."""
    return {
        "port_id": row.port_id, "segmentation_type": row.segmentation_type, "segmentation_id": row.segmentation_id,
    }


def trunk_details(trunk_id: str, subports: Sequence[Row[Any]]) -> Shown:
    """What the parent port of a trunk shows of it."""
    return {"trunk_id": trunk_id, "sub_ports": [{**subport(row), "mac_address": row.mac} for row in subports]}


def trunk(row: Row[Any], subports: Sequence[Row[Any]], tags: list[str]) -> Shown:
    """One trunk."""
    return {
        **_standard(row, tags), "name": row.name, "status": row.status, "admin_state_up": row.admin_state_up,
        "port_id": row.port_id, "sub_ports": [subport(found) for found in subports],
    }


def gateway(row: Row[Any], addresses: Sequence[Row[Any]]) -> Shown | None:
    """A router's external_gateway_info."""
    if row.gateway_network_id is None:
        return None
    return {
        "network_id": row.gateway_network_id, "enable_snat": row.enable_snat,
        "external_fixed_ips": [fixed_ip(a) for a in addresses],
    }


def router(row: Row[Any], addresses: Sequence[Row[Any]], tags: list[str], full: bool, zone: str) -> Shown:
    """One router; `full`: with what only administrators see."""
    shown = {
        **_standard(row, tags), "name": row.name, "status": row.status, "admin_state_up": row.admin_state_up,
        "external_gateway_info": gateway(row, addresses), "routes": routes(row.routes),
        "availability_zone_hints": row.zone_hints, "availability_zones": [zone] if row.node else [],
        "flavor_id": None,
    }
    if full:
        shown["ha"] = shown["distributed"] = False
    return shown


def floating_ip(row: Row[Any], tags: list[str], details: Shown | None) -> Shown:
    """One floating IP; `details` are its port's."""
    return {
        **_standard(row, tags), "floating_ip_address": row.floating_ip_address,
        "floating_network_id": row.floating_network_id, "port_id": row.port_id,
        "fixed_ip_address": row.fixed_ip_address, "router_id": row.router_id, "status": row.status,
        "dns_name": row.dns_name, "dns_domain": row.dns_domain, "port_details": details,
    }


def security_group(row: Row[Any], rules: list[Shown], tags: list[str]) -> Shown:
    """One security group with its rules."""
    return {
        **_standard(row, tags), "name": row.name, "stateful": row.stateful, "shared": False,
        "security_group_rules": rules,
    }


@functools.lru_cache(maxsize=4096)
def normalized(prefix: str | None) -> str | None:
    """A CIDR without host bits, always with its prefix length."""
    return None if prefix is None else str(ipaddress.ip_network(prefix, strict=False))


def rule(row: Row[Any]) -> Shown:
    """One rule."""
    return {
        **_standard(row, None), "security_group_id": row.security_group_id, "direction": row.direction,
        "ethertype": row.ethertype, "protocol": row.protocol, "port_range_min": row.port_range_min,
        "port_range_max": row.port_range_max, "remote_group_id": row.remote_group_id,
        "remote_ip_prefix": row.remote_ip_prefix, "normalized_cidr": normalized(row.remote_ip_prefix),
        "remote_address_group_id": None,
    }


def rbac_policy(row: Row[Any]) -> Shown:
    """One RBAC policy."""
    return {
        "id": row.id, "project_id": row.project_id, "tenant_id": row.project_id, "object_type": row.object_type,
        "object_id": row.object_id, "action": row.action, "target_tenant": row.target_project,
    }
