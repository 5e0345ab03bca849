"""The network service's policy rules: the defaults, by the names that Neutron's users know."""

_ADMIN = "rule:admin_only"
_READER = "rule:admin_only or (role:reader and project_id:%(project_id)s)"
_MEMBER = "rule:admin_only or (role:member and project_id:%(project_id)s)"
_NET_OWNER = "rule:admin_only or (role:member and rule:network_owner)"
_MEMBER_OR_NET = f"{_MEMBER} or (role:member and rule:network_owner)"

_NOUNS = (
    "subnet", "subnetpool", "address_scope", "router", "floatingip", "security_group", "security_group_rule",
    "rbac_policy", "trunk",
)


def _crud(noun: str) -> dict[str, str]:
    return {
        f"get_{noun}": _READER, f"create_{noun}": _MEMBER, f"update_{noun}": _MEMBER, f"delete_{noun}": _MEMBER,
    }


def _attributes(action: str, rule: str, *names: str) -> dict[str, str]:
    return {f"{action}:{name}": rule for name in names}


_NETWORK_ADMIN = (
    "shared", "router:external", "is_default", "provider:network_type", "provider:physical_network",
    "provider:segmentation_id",
)
_BINDING = ("binding:host_id", "binding:profile", "binding:vif_type", "binding:vif_details")

RULES: dict[str, str] = {
    "context_is_admin": "role:admin",
    "admin_only": "rule:context_is_admin",
    "network_owner": "project_id:%(network:project_id)s",
    "network_device": "'True':%(network_device)s",
    **_crud("network"),
    **_attributes("create_network", _ADMIN, *_NETWORK_ADMIN),
    **_attributes("update_network", _ADMIN, *_NETWORK_ADMIN),
    **_attributes("get_network", _ADMIN, "provider:network_type", "provider:physical_network",
                  "provider:segmentation_id"),
    **{k: v for noun in _NOUNS for k, v in _crud(noun).items()},
    "create_subnet": _MEMBER_OR_NET,
    "create_subnet:service_types": _ADMIN,
    "update_subnet": _MEMBER_OR_NET,
    "update_subnet:service_types": _ADMIN,
    "delete_subnet": _MEMBER_OR_NET,
    **_attributes("create_subnetpool", _ADMIN, "shared", "is_default"),
    **_attributes("update_subnetpool", _ADMIN, "is_default"),
    **_attributes("create_address_scope", _ADMIN, "shared"),
    **_attributes("update_address_scope", _ADMIN, "shared"),
    "get_port": f"{_READER} or (role:reader and rule:network_owner)",
    "create_port": _MEMBER,
    "create_port:device_owner": "not rule:network_device or " + _NET_OWNER,
    **_attributes("create_port", _NET_OWNER, "mac_address", "port_security_enabled", "allowed_address_pairs"),
    "create_port:fixed_ips:ip_address": _NET_OWNER,
    **_attributes("create_port", _ADMIN, "binding:host_id", "binding:profile"),
    "update_port": _MEMBER_OR_NET,
    "update_port:device_owner": "not rule:network_device or " + _NET_OWNER,
    "update_port:mac_address": _ADMIN,
    **_attributes("update_port", _NET_OWNER, "port_security_enabled", "allowed_address_pairs"),
    "update_port:fixed_ips:ip_address": _NET_OWNER,
    **_attributes("update_port", _ADMIN, "binding:host_id", "binding:profile"),
    "delete_port": _MEMBER_OR_NET,
    **_attributes("get_port", _ADMIN, *_BINDING),
    **_attributes("create_router", _ADMIN, "ha", "distributed", "external_gateway_info:enable_snat",
                  "external_gateway_info:external_fixed_ips"),
    **_attributes("update_router", _ADMIN, "ha", "distributed", "external_gateway_info:enable_snat",
                  "external_gateway_info:external_fixed_ips"),
    **_attributes("get_router", _ADMIN, "ha", "distributed"),
    "add_router_interface": _MEMBER,
    "remove_router_interface": _MEMBER,
    "add_extraroutes": _MEMBER,
    "remove_extraroutes": _MEMBER,
    "get_subports": _READER,
    "add_subports": _MEMBER,
    "remove_subports": _MEMBER,
    "create_floatingip:floating_ip_address": _ADMIN,
    "create_rbac_policy:target_tenant": "rule:admin_only or not rule:wildcard",
    "update_rbac_policy:target_tenant": "rule:admin_only or not rule:wildcard",
    "wildcard": "'*':%(target_project)s",
    "get_quota": _READER,
    "update_quota": _ADMIN,
    "delete_quota": _ADMIN,
    "get_agent": _ADMIN,
    "update_agent": _ADMIN,
    "delete_agent": _ADMIN,
    **dict.fromkeys((
        "get_dhcp-networks", "create_dhcp-network", "delete_dhcp-network", "get_dhcp-agents",
        "get_l3-routers", "create_l3-router", "delete_l3-router", "get_l3-agents",
    ), _ADMIN),
    "get_availability_zone": "rule:admin_only or role:reader",
    "get_network_ip_availability": _ADMIN,
    "get_service_provider": "rule:admin_only or role:reader",
    "get_extension": "rule:admin_only or role:reader",
    "get_tags": _READER,
    "update_tags": _MEMBER,
    "delete_tags": _MEMBER,
}
