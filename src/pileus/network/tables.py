"""Tables of the network service."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pileus.db.tables import Id, Json, Name, Time, table

_Address = sa.String(64)
_Key = sa.String(32)
_Text = sa.String(255)


def _standard() -> tuple[sa.Column[Any], ...]:
    """What every resource has. `revision` is its revision_number."""
    return (
        sa.Column("id", Id, primary_key=True),
        sa.Column("project_id", Id, nullable=False, index=True),  # "" for ports that the service owns itself
        sa.Column("description", _Text, nullable=False, default=""),
        sa.Column("created", Time, nullable=False),
        sa.Column("updated", Time, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False, default=0),
    )


network = table(
    "network_network",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False),  # with every project; kept equal to the rbac entry for "*"
    sa.Column("external", sa.Boolean, nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("network_type", sa.String(16), nullable=False),
    sa.Column("physical_network", sa.String(64)),
    sa.Column("segmentation_id", sa.Integer),
    sa.Column("segment", sa.String(128), unique=True),  # "vxlan::7": one network a segment; None: local
    sa.Column("mtu", sa.Integer, nullable=False),
    sa.Column("port_security_enabled", sa.Boolean, nullable=False),
    sa.Column("dns_domain", _Text, nullable=False),
    sa.Column("zone_hints", Json, nullable=False),
    sa.Column("node", Name, nullable=False, default=""),  # where its DHCP is served; "": nowhere yet
    sa.Column("detached", sa.Boolean, nullable=False, server_default=sa.false()),  # taken off its node by hand
    sa.Index("ix_network_network_node", "node"),
)

address_scope = table(
    "network_address_scope",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False),
)

subnet_pool = table(
    "network_subnet_pool",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("prefixes", Json, nullable=False),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("default_quota", sa.Integer),
    sa.Column("min_prefixlen", sa.Integer, nullable=False),
    sa.Column("max_prefixlen", sa.Integer, nullable=False),
    sa.Column("default_prefixlen", sa.Integer, nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("address_scope_id", Id, sa.ForeignKey("network_address_scope.id")),
)

subnet = table(
    "network_subnet",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("network_id", Id, sa.ForeignKey("network_network.id"), nullable=False, index=True),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("cidr", _Address, nullable=False),
    sa.Column("gateway_ip", _Address),
    sa.Column("pools", Json, nullable=False),  # [[first, last], …]
    sa.Column("enable_dhcp", sa.Boolean, nullable=False),
    sa.Column("dns_nameservers", Json, nullable=False),
    sa.Column("host_routes", Json, nullable=False),  # [[destination, nexthop], …]
    sa.Column("ipv6_ra_mode", sa.String(16)),
    sa.Column("ipv6_address_mode", sa.String(16)),
    sa.Column("subnetpool_id", Id, sa.ForeignKey("network_subnet_pool.id"), index=True),
    sa.Column("service_types", Json, nullable=False),
)

port = table(
    "network_port",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("network_id", Id, sa.ForeignKey("network_network.id"), nullable=False),
    sa.Column("mac", sa.String(17), nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("device_id", Name, nullable=False),
    sa.Column("device_owner", Name, nullable=False),
    sa.Column("port_security_enabled", sa.Boolean, nullable=False),
    sa.Column("allowed_pairs", Json, nullable=False),  # [[address or CIDR, mac], …]
    sa.Column("dhcp_options", Json, nullable=False),  # [[name, value, ip version], …]
    sa.Column("host", Name, nullable=False),  # the node it is bound to; "": none
    sa.Column("moving_to", Name),  # the node that wires it too, while its guest moves there
    sa.Column("vnic_type", sa.String(32), nullable=False),
    sa.Column("profile", Json, nullable=False),
    sa.Column("dns_name", _Text, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False, default=0),  # network revision of its last wiring change
    sa.UniqueConstraint("network_id", "mac"),
    sa.Index("ix_network_port_device", "device_id"),
    sa.Index("ix_network_port_host", "host", "network_id"),
    sa.Index("ix_network_port_moving", "moving_to", "network_id"),
    sa.Index("ix_network_port_network_host", "network_id", "host"),
    sa.Index("ix_network_port_network_owner", "network_id", "device_owner"),
    sa.Index("ix_network_port_project_owner", "project_id", "device_owner"),
)

allocation = table(
    "network_allocation",
    sa.Column("subnet_id", Id, sa.ForeignKey("network_subnet.id"), primary_key=True),
    sa.Column("ip_key", _Key, primary_key=True),  # 32 hexadecimal digits: sorts as the address does
    sa.Column("ip", _Address, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),  # in the port's list
    sa.Column("port_id", Id, sa.ForeignKey("network_port.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Index("ix_network_allocation_ip", "ip"),
)

security_group = table(
    "network_security_group",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("stateful", sa.Boolean, nullable=False),
    sa.Column("default_of", Id, unique=True),  # the project whose default group this is
)

security_group_rule = table(
    "network_security_group_rule",
    *_standard(),
    sa.Column("security_group_id", Id, sa.ForeignKey("network_security_group.id", ondelete="CASCADE"), nullable=False),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("ethertype", sa.String(4), nullable=False),
    sa.Column("protocol", sa.String(40)),
    sa.Column("port_range_min", sa.Integer),
    sa.Column("port_range_max", sa.Integer),
    sa.Column(
        "remote_group_id", Id, sa.ForeignKey("network_security_group.id", ondelete="CASCADE"), index=True
    ),
    sa.Column("remote_ip_prefix", _Address),
    sa.Column("identity", sa.String(191), nullable=False),  # what makes two rules the same
    sa.UniqueConstraint("security_group_id", "identity"),
)

port_group = table(
    "network_port_group",
    sa.Column("port_id", Id, sa.ForeignKey("network_port.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", Id, sa.ForeignKey("network_security_group.id"), primary_key=True),
    sa.Index("ix_network_port_group_group", "group_id"),
)

router = table(
    "network_router",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("gateway_network_id", Id, sa.ForeignKey("network_network.id"), index=True),
    sa.Column("gateway_port_id", Id, sa.ForeignKey("network_port.id")),
    sa.Column("enable_snat", sa.Boolean, nullable=False),
    sa.Column("routes", Json, nullable=False),  # [[destination, nexthop], …]
    sa.Column("zone_hints", Json, nullable=False),
    sa.Column("node", Name, nullable=False, default=""),  # where it lives; "": nowhere yet
    sa.Column("change", sa.BigInteger, nullable=False, default=0),
    sa.Column("detached", sa.Boolean, nullable=False, server_default=sa.false()),  # taken off its node by hand
    sa.Index("ix_network_router_node", "node"),
)

floating_ip = table(
    "network_floating_ip",
    *_standard(),
    sa.Column("floating_network_id", Id, sa.ForeignKey("network_network.id"), nullable=False, index=True),
    sa.Column("floating_ip_address", _Address, nullable=False),
    sa.Column("floating_port_id", Id, sa.ForeignKey("network_port.id"), nullable=False),
    sa.Column("port_id", Id, sa.ForeignKey("network_port.id")),
    sa.Column("fixed_ip_address", _Address),
    sa.Column("router_id", Id, sa.ForeignKey("network_router.id"), index=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("dns_name", _Text, nullable=False),
    sa.Column("dns_domain", _Text, nullable=False),
    sa.Column("change", sa.BigInteger, nullable=False, default=0),
    sa.UniqueConstraint("port_id", "fixed_ip_address"),
)

trunk = table(
    "network_trunk",
    *_standard(),
    sa.Column("name", Name, nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("port_id", Id, sa.ForeignKey("network_port.id"), nullable=False, unique=True),  # the parent
)

subport = table(
    "network_subport",
    sa.Column("port_id", Id, sa.ForeignKey("network_port.id"), primary_key=True),
    sa.Column("trunk_id", Id, sa.ForeignKey("network_trunk.id", ondelete="CASCADE"), nullable=False),
    sa.Column("segmentation_type", sa.String(16), nullable=False),
    sa.Column("segmentation_id", sa.Integer, nullable=False),
    sa.UniqueConstraint("trunk_id", "segmentation_type", "segmentation_id"),
)

rbac = table(
    "network_rbac",
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("object_type", sa.String(32), nullable=False),
    sa.Column("object_id", Id, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("target_project", Id, nullable=False),  # "*": every project
    sa.UniqueConstraint("object_id", "action", "target_project"),
    sa.Index("ix_network_rbac_target", "target_project", "action"),
)

tag = table(
    "network_tag",
    sa.Column("resource_id", Id, primary_key=True),
    sa.Column("name", Name, primary_key=True),
)

quota = table(
    "network_quota",
    sa.Column("project_id", Id, primary_key=True),
    sa.Column("resource", sa.String(32), primary_key=True),
    sa.Column("limit", sa.Integer, nullable=False),
)

agent = table(
    "network_agent",
    sa.Column("id", Id, primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("node", Name, nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False),
    sa.Column("description", _Text, nullable=False, default=""),
    sa.Column("created", Time, nullable=False),
    sa.Column("started", Time, nullable=False),
    sa.Column("heartbeat", Time, nullable=False),
    sa.Column("lease", Time, nullable=False, server_default=sa.text("0")),  # that the node keeps to; 0: none
    sa.Column("physical_networks", Json),  # that the node has; NULL: any
    sa.UniqueConstraint("kind", "node"),
)

fault = table(
    "network_fault",
    sa.Column("resource_id", Id, primary_key=True),  # a network, port or router
    sa.Column("node", Name, nullable=False, index=True),
    sa.Column("message", sa.Text, nullable=False),
)
