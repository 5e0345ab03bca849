"""Request bodies of the network service. Unknown attributes are refused, as Neutron does.

A field that is UNSET was not sent; `null` is a value of its own in many places (a subnet without gateway).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from pileus.web.schemas import Body, Flag

Text = Annotated[str, Meta(max_length=255)]
LongId = Annotated[str, Meta(max_length=255)]
Short = Annotated[str, Meta(max_length=64)]
Number = Annotated[int, Meta(ge=-(2**31), lt=2**31)] | Annotated[str, Meta(pattern=r"^-?[0-9]{1,9}$")]
MaybeFlag = Flag | UnsetType
MaybeText = Text | UnsetType
RaMode = Literal["slaac", "dhcpv6-stateful", "dhcpv6-stateless"]


def number(value: int | str) -> int:
    """The meaning of a `Number`."""
    return int(value)


def envelope(name: str, plural: str, kind: Any) -> Any:
    """The body of a POST: `{name: {…}}`, or `{plural: [{…}, …]}` for many at once."""
    many = Annotated[list[kind], Meta(min_length=1, max_length=2000)]
    fields: list[Any] = [(name, kind | UnsetType, UNSET), (plural, many | UnsetType, UNSET)]
    return msgspec.defstruct(f"{kind.__name__}Body", fields, bases=(Body,), kw_only=True, forbid_unknown_fields=True)


def single(name: str, kind: Any) -> Any:
    """The body of a PUT: `{name: {…}}`."""
    return msgspec.defstruct(
        f"{kind.__name__}Body", [(name, kind)], bases=(Body,), kw_only=True, forbid_unknown_fields=True
    )


class Owned(Body, kw_only=True):
    """A new resource; an administrator may name another project than the token's."""

    project_id: Short | UnsetType = UNSET
    tenant_id: Short | UnsetType = UNSET
    description: Text | None = ""


# -- networks


class NetworkNew(Owned, kw_only=True):
    name: Text = ""
    admin_state_up: Flag = True
    shared: MaybeFlag = UNSET
    external: MaybeFlag = field(default=UNSET, name="router:external")
    network_type: Short | UnsetType | None = field(default=UNSET, name="provider:network_type")
    physical_network: Short | UnsetType | None = field(default=UNSET, name="provider:physical_network")
    segmentation_id: Number | UnsetType | None = field(default=UNSET, name="provider:segmentation_id")
    mtu: Number | UnsetType = UNSET
    port_security_enabled: Flag = True
    dns_domain: Text = ""
    availability_zone_hints: list[Text] = []
    is_default: MaybeFlag = UNSET


class NetworkChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    admin_state_up: MaybeFlag = UNSET
    shared: MaybeFlag = UNSET
    external: MaybeFlag = field(default=UNSET, name="router:external")
    network_type: Short | UnsetType | None = field(default=UNSET, name="provider:network_type")
    physical_network: Short | UnsetType | None = field(default=UNSET, name="provider:physical_network")
    segmentation_id: Number | UnsetType | None = field(default=UNSET, name="provider:segmentation_id")
    mtu: Number | UnsetType = UNSET
    port_security_enabled: MaybeFlag = UNSET
    dns_domain: MaybeText = UNSET
    is_default: MaybeFlag = UNSET


# -- subnets


class Pool(Body, kw_only=True):
    start: Short
    end: Short


class HostRoute(Body, kw_only=True):
    destination: Short
    nexthop: Short


class SubnetNew(Owned, kw_only=True):
    network_id: LongId
    name: Text = ""
    ip_version: Number | UnsetType = UNSET
    cidr: Short | None = None
    gateway_ip: Short | UnsetType | None = UNSET
    allocation_pools: list[Pool] | None = None
    enable_dhcp: Flag = True
    dns_nameservers: Annotated[list[Short], Meta(max_length=20)] | None = None
    host_routes: Annotated[list[HostRoute], Meta(max_length=100)] | None = None
    ipv6_ra_mode: RaMode | None = None
    ipv6_address_mode: RaMode | None = None
    subnetpool_id: LongId | None = None
    use_default_subnetpool: Flag = False
    prefixlen: Number | None = None
    service_types: Annotated[list[Text], Meta(max_length=20)] = []


class SubnetChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    gateway_ip: Short | UnsetType | None = UNSET
    allocation_pools: list[Pool] | UnsetType = UNSET
    enable_dhcp: MaybeFlag = UNSET
    dns_nameservers: Annotated[list[Short], Meta(max_length=20)] | UnsetType | None = UNSET
    host_routes: Annotated[list[HostRoute], Meta(max_length=100)] | UnsetType | None = UNSET
    service_types: Annotated[list[Text], Meta(max_length=20)] | UnsetType = UNSET


# -- subnet pools and address scopes


class SubnetPoolNew(Owned, kw_only=True):
    name: Text
    prefixes: Annotated[list[Short], Meta(min_length=1, max_length=500)]
    default_quota: Number | None = None
    min_prefixlen: Number | None = None
    max_prefixlen: Number | None = None
    default_prefixlen: Number | None = None
    shared: MaybeFlag = UNSET
    is_default: MaybeFlag = UNSET
    address_scope_id: LongId | None = None


class SubnetPoolChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    prefixes: Annotated[list[Short], Meta(min_length=1, max_length=500)] | UnsetType = UNSET
    default_quota: Number | UnsetType | None = UNSET
    min_prefixlen: Number | UnsetType = UNSET
    max_prefixlen: Number | UnsetType = UNSET
    default_prefixlen: Number | UnsetType = UNSET
    is_default: MaybeFlag = UNSET
    address_scope_id: LongId | UnsetType | None = UNSET


class AddressScopeNew(Owned, kw_only=True):
    name: Text
    ip_version: Number
    shared: MaybeFlag = UNSET


class AddressScopeChange(Body, kw_only=True):
    name: MaybeText = UNSET
    shared: MaybeFlag = UNSET


# -- ports


class FixedIpAsk(Body, kw_only=True):
    subnet_id: LongId | None = None
    ip_address: Short | None = None


class AddressPair(Body, kw_only=True):
    ip_address: Short
    mac_address: Short | None = None


class DhcpOption(Body, kw_only=True):
    opt_name: Annotated[str, Meta(min_length=1, max_length=64)]
    opt_value: Text | None = None
    ip_version: Number = 4


FixedIps = Annotated[list[FixedIpAsk], Meta(max_length=64)]
Pairs = Annotated[list[AddressPair], Meta(max_length=64)]
DhcpOptions = Annotated[list[DhcpOption], Meta(max_length=64)]
Groups = Annotated[list[LongId], Meta(max_length=100)]
VnicType = Literal["normal"]


class PortNew(Owned, kw_only=True):
    network_id: LongId
    name: Text = ""
    admin_state_up: Flag = True
    mac_address: Short | UnsetType | None = UNSET
    fixed_ips: FixedIps | UnsetType | None = UNSET
    security_groups: Groups | UnsetType | None = UNSET
    allowed_address_pairs: Pairs | UnsetType | None = UNSET
    port_security_enabled: MaybeFlag = UNSET
    extra_dhcp_opts: DhcpOptions | None = None
    device_id: Text = ""
    device_owner: MaybeText = UNSET
    dns_name: Text | None = ""
    host_id: Text | UnsetType | None = field(default=UNSET, name="binding:host_id")
    vnic_type: VnicType | UnsetType = field(default=UNSET, name="binding:vnic_type")
    profile: dict[str, Any] | UnsetType | None = field(default=UNSET, name="binding:profile")
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(max_length=50)] = []


class PortChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    admin_state_up: MaybeFlag = UNSET
    mac_address: Short | UnsetType = UNSET
    fixed_ips: FixedIps | UnsetType | None = UNSET
    security_groups: Groups | UnsetType | None = UNSET
    allowed_address_pairs: Pairs | UnsetType | None = UNSET
    port_security_enabled: MaybeFlag = UNSET
    extra_dhcp_opts: DhcpOptions | UnsetType | None = UNSET
    device_id: MaybeText = UNSET
    device_owner: MaybeText = UNSET
    dns_name: Text | UnsetType | None = UNSET
    host_id: Text | UnsetType | None = field(default=UNSET, name="binding:host_id")
    vnic_type: VnicType | UnsetType = field(default=UNSET, name="binding:vnic_type")
    profile: dict[str, Any] | UnsetType | None = field(default=UNSET, name="binding:profile")


# -- routers and floating IPs


class Gateway(Body, kw_only=True):
    network_id: LongId | None = None
    enable_snat: MaybeFlag = UNSET
    external_fixed_ips: FixedIps | None = None


class RouterNew(Owned, kw_only=True):
    name: Text = ""
    admin_state_up: Flag = True
    external_gateway_info: Gateway | None = None
    ha: Flag | UnsetType | None = UNSET
    distributed: Flag | UnsetType | None = UNSET
    availability_zone_hints: list[Text] = []


class RouterChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    admin_state_up: MaybeFlag = UNSET
    external_gateway_info: Gateway | UnsetType | None = UNSET
    routes: Annotated[list[HostRoute], Meta(max_length=100)] | UnsetType | None = UNSET
    ha: Flag | UnsetType | None = UNSET
    distributed: Flag | UnsetType | None = UNSET


class InterfaceBody(Body, kw_only=True):
    subnet_id: LongId | None = None
    port_id: LongId | None = None


class ExtraRoutes(Body, kw_only=True):
    routes: Annotated[list[HostRoute], Meta(max_length=100)]


class FloatingIpNew(Owned, kw_only=True):
    floating_network_id: LongId
    port_id: LongId | None = None
    fixed_ip_address: Short | None = None
    floating_ip_address: Short | UnsetType | None = UNSET
    subnet_id: LongId | None = None
    dns_name: Text | None = ""
    dns_domain: Text | None = ""


class FloatingIpChange(Body, kw_only=True):
    port_id: LongId | UnsetType | None = UNSET
    fixed_ip_address: Short | UnsetType | None = UNSET
    description: Text | UnsetType | None = UNSET


# -- trunks


class Subport(Body, kw_only=True):
    port_id: LongId
    segmentation_type: Short | None = None
    segmentation_id: Number | None = None


Subports = Annotated[list[Subport], Meta(max_length=4094)]


class TrunkNew(Owned, kw_only=True):
    port_id: LongId
    name: Text = ""
    admin_state_up: Flag = True
    sub_ports: Subports = []


class TrunkChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    admin_state_up: MaybeFlag = UNSET


class SubportsBody(Body, kw_only=True):
    sub_ports: Subports


# -- security groups


class SecurityGroupNew(Owned, kw_only=True):
    name: Text = ""
    stateful: Flag = True


class SecurityGroupChange(Body, kw_only=True):
    name: MaybeText = UNSET
    description: Text | UnsetType | None = UNSET
    stateful: MaybeFlag = UNSET


class RuleNew(Owned, kw_only=True):
    security_group_id: LongId
    direction: Literal["ingress", "egress"]
    ethertype: Short | None = None
    protocol: int | Short | None = None
    port_range_min: Number | None = None
    port_range_max: Number | None = None
    remote_group_id: LongId | None = None
    remote_ip_prefix: Short | None = None
    remote_address_group_id: None = None


# -- the rest


class QuotaChange(Body, kw_only=True):
    check_limit: Flag = False
    network: Number | UnsetType = UNSET
    subnet: Number | UnsetType = UNSET
    subnetpool: Number | UnsetType = UNSET
    port: Number | UnsetType = UNSET
    router: Number | UnsetType = UNSET
    floatingip: Number | UnsetType = UNSET
    security_group: Number | UnsetType = UNSET
    security_group_rule: Number | UnsetType = UNSET
    rbac_policy: Number | UnsetType = UNSET
    trunk: Number | UnsetType = UNSET


class AgentChange(Body, kw_only=True):
    admin_state_up: MaybeFlag = UNSET
    description: Text | UnsetType | None = UNSET


class AgentNetworkBody(Body, kw_only=True):
    network_id: LongId


class AgentRouterBody(Body, kw_only=True):
    router_id: LongId


class RbacNew(Owned, kw_only=True):
    object_type: Literal["network"]
    object_id: LongId
    action: Literal["access_as_shared", "access_as_external"]
    target_tenant: Short | UnsetType = UNSET
    target_project: Short | UnsetType = UNSET
    description: None = None  # rbac policies have none


class RbacChange(Body, kw_only=True):
    target_tenant: Short | UnsetType = UNSET
    target_project: Short | UnsetType = UNSET


class TagsBody(Body, kw_only=True):
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=255)]], Meta(max_length=50)]


NetworksBody = envelope("network", "networks", NetworkNew)
NetworkBody = single("network", NetworkChange)
SubnetsBody = envelope("subnet", "subnets", SubnetNew)
SubnetBody = single("subnet", SubnetChange)
SubnetPoolsBody = envelope("subnetpool", "subnetpools", SubnetPoolNew)
SubnetPoolBody = single("subnetpool", SubnetPoolChange)
AddressScopesBody = envelope("address_scope", "address_scopes", AddressScopeNew)
AddressScopeBody = single("address_scope", AddressScopeChange)
PortsBody = envelope("port", "ports", PortNew)
PortBody = single("port", PortChange)
RoutersBody = envelope("router", "routers", RouterNew)
RouterBody = single("router", RouterChange)
ExtraRoutesBody = single("router", ExtraRoutes)
FloatingIpsBody = envelope("floatingip", "floatingips", FloatingIpNew)
FloatingIpBody = single("floatingip", FloatingIpChange)
TrunksBody = envelope("trunk", "trunks", TrunkNew)
TrunkBody = single("trunk", TrunkChange)
SecurityGroupsBody = envelope("security_group", "security_groups", SecurityGroupNew)
SecurityGroupBody = single("security_group", SecurityGroupChange)
RulesBody = envelope("security_group_rule", "security_group_rules", RuleNew)
QuotaBody = single("quota", QuotaChange)
AgentBody = single("agent", AgentChange)
RbacsBody = envelope("rbac_policy", "rbac_policies", RbacNew)
RbacBody = single("rbac_policy", RbacChange)
