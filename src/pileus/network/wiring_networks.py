"""The networks that a node carries: who is on them, at which node, and which nodes share them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.cluster import nodes
from pileus.network import fixed_ips
from pileus.network.addresses import without_host_bits
from pileus.network.tables import port
from pileus.node.contract import HostEntry, NetworkState, SubnetState

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

Allocations = Mapping[str, Sequence[Row[Any]]]

SERVICE = "network:%"
ROUTER_OWNERS = ("network:router_interface", "network:router_gateway")
_DHCP = "network:dhcp"
# What is seldom there is decoded only where it is: networks may have thousands of ports.
_NONE = "[]"
_SEEN = (
    *(port.c[name] for name in ("id", "network_id", "mac", "device_owner", "host", "moving_to", "dns_name")),
    sa.type_coerce(port.c.allowed_pairs, sa.Text).label("pairs"),
    sa.type_coerce(port.c.dhcp_options, sa.Text).label("options"),
)


class Seen(msgspec.Struct):
    """What was read of networks at one revision of the network service: many nodes ask at the same time."""

    revision: int
    members: dict[str, list[Row[Any]]] = {}
    held: dict[str, list[Row[Any]]] = {}
    hosts: dict[str, list[tuple[str, HostEntry, HostEntry]]] = {}  # node; as it sees the port, and as others do
    groups: dict[str, tuple[str, ...]] = {}  # members' addresses


def seen(tx: Tx, cloud: Cloud, network_ids: Collection[str], revision: int) -> Seen:
    """The ports of these networks, and their addresses. Of those that nothing was changed since another node asked,
    nothing is read: a change of a network that many nodes carry is read once, not once for each."""
    memory = cloud.memory.setdefault("network", {})
    found: Seen | None = memory.get("seen")
    if found is None or found.revision != revision:
        found = Seen(revision)
        if revision >= 0:  # below: a transaction's own, which may be rolled back
            memory["seen"] = found
    missing = [identity for identity in network_ids if identity not in found.members]
    if missing:
        read = members(tx, missing, cloud.settings.hypervisor == "fake")
        found.held.update(fixed_ips.of(tx, [row.id for rows in read.values() for row in rows]))
        found.members.update({identity: read.get(identity, []) for identity in missing})
    return found


def members(tx: Tx, network_ids: Collection[str], fake: bool) -> dict[str, list[Row[Any]]]:
    """All ports of the networks, but those of floating IPs, whose MAC is never seen. Of fake nodes only what serves:
    nothing is forwarded to their guests."""
    statement = sa.select(*_SEEN).where(
        port.c.network_id.in_(network_ids), port.c.device_owner != "network:floatingip"
    )
    if fake:
        statement = statement.where(port.c.device_owner.like(SERVICE))
    found: dict[str, list[Row[Any]]] = {}
    for row in tx.all(statement.order_by(port.c.id)):
        found.setdefault(row.network_id, []).append(row)
    return found


class Underlay:
    """Where the other nodes are. Read only when a network is carried by one."""

    def __init__(self, tx: Tx, node: str) -> None:
        self.node = node
        self._tx = tx
        self._addresses: dict[str, str] | None = None

    def address(self, name: str | None) -> str | None:
        """The underlay address of another node; None for this one, or one that has none."""
        return self.of(name) if name and name != self.node else None

    def of(self, name: str) -> str | None:
        """The underlay address of a node; None for one that has none."""
        if not name:
            return None
        if self._addresses is None:
            self._addresses = nodes.addresses(self._tx)
        return self._addresses.get(name) or None


def carriers(here: Sequence[Row[Any]]) -> Iterator[str]:
    """The nodes that carry a network with these ports: of its guests and routers, and of DHCP once somebody has
    a port."""
    guests = any(not row.device_owner.startswith("network:") for row in here)
    for row in here:
        service = row.device_owner.startswith("network:")
        if not service or row.device_owner in ROUTER_OWNERS or (guests and row.device_owner == _DHCP):
            yield row.host
            if row.moving_to:
                yield row.moving_to


def network(
    cloud: Cloud, row: Row[Any], underlay: Underlay, subnets: Sequence[Row[Any]], known: Seen
) -> NetworkState:
    """One network as the node shall have it."""
    here, held = known.members.get(row.id, []), known.held
    tunnelled = row.network_type == "vxlan"
    server = next((p for p in here if p.device_owner == _DHCP), None)
    served = {a.subnet_id: a.ip for a in held.get(server.id, ())} if server is not None else {}
    local = server is not None and row.node == underlay.node and bool(served)
    if row.id not in known.hosts:
        known.hosts[row.id] = _hosts(here, held, underlay if tunnelled else None)
    hosts = [own if node == underlay.node else other for node, own, other in known.hosts[row.id]]
    own_id = server.id if local and server is not None else ""
    vteps = {underlay.address(name) for name in carriers(here)} if tunnelled else set()
    return NetworkState(
        id=row.id, kind=row.network_type, mtu=row.mtu, physical_network=row.physical_network,
        segment=row.segmentation_id, dns_domain=(row.dns_domain or cloud.settings.dns_domain).rstrip("."),
        subnets=tuple(_subnet(s, served.get(s.id)) for s in subnets),
        hosts=tuple(host for host in hosts if host.port_id != own_id),
        dhcp_port=next((host for host in hosts if host.port_id == own_id), None),
        vteps=tuple(sorted(vtep for vtep in vteps if vtep)),
    )


def _hosts(
    here: Sequence[Row[Any]], held: Allocations, underlay: Underlay | None
) -> list[tuple[str, HostEntry, HostEntry]]:
    shared = _shared(here) if underlay is not None else {}
    found = []
    for row in here:
        addresses = held.get(row.id, ())
        own = other = _host(row, addresses, None)
        vtep = underlay.of(row.host) if underlay is not None else None
        # What others may answer for too must be asked for on the wire.
        if vtep and not (shared and any(shared.get(a.ip, {row.id}) - {row.id} for a in addresses)):
            other = msgspec.structs.replace(own, vtep=vtep)
        found.append((row.host, own, other))
    return found


def _shared(here: Sequence[Row[Any]]) -> dict[str, set[str]]:
    """Addresses that ports may use besides their own, with these ports."""
    found: dict[str, set[str]] = {}
    for row in here:
        for ip, _ in _decoded(row.pairs):
            found.setdefault(ip.partition("/")[0], set()).add(row.id)
    return found


def _decoded(text: str) -> list[Any]:
    return [] if text == _NONE else msgspec.json.decode(text, type=list[Any])


def _subnet(row: Row[Any], dhcp_ip: str | None) -> SubnetState:
    return SubnetState(
        id=row.id, cidr=row.cidr, ip_version=row.ip_version, gateway_ip=row.gateway_ip, enable_dhcp=row.enable_dhcp,
        dhcp_ip=dhcp_ip, dns_nameservers=tuple(row.dns_nameservers),
        host_routes=tuple((without_host_bits(d), n) for d, n in row.host_routes),
        ipv6_address_mode=row.ipv6_address_mode,
        ipv6_ra_mode=row.ipv6_ra_mode,
    )


def _host(row: Row[Any], addresses: Sequence[Row[Any]], vtep: str | None) -> HostEntry:
    ips = tuple(a.ip for a in addresses)
    name = row.dns_name.split(".")[0] or ("host-" + ips[0].replace(".", "-").replace(":", "-") if ips else "")
    options = tuple((name, value, version) for name, value, version in _decoded(row.options) if value is not None)
    return HostEntry(port_id=row.id, mac=row.mac, ips=ips, hostname=name, dhcp_options=options, vtep=vtep)
