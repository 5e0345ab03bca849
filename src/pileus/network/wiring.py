"""What each node shall carry, and what it says it carries. The contract is `pileus.node.contract`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.db.locks import read_revision
from pileus.network import agents, moving, port_rows, ports, subports, touch, wiring_groups, wiring_networks
from pileus.network.addresses import without_host_bits
from pileus.network.networks import subnets_of
from pileus.network.ports import PortInfo
from pileus.network.tables import agent, allocation, fault, floating_ip, network, port, router, trunk
from pileus.network.wiring_networks import ROUTER_OWNERS as _ROUTER_OWNERS
from pileus.network.wiring_networks import SERVICE as _SERVICE
from pileus.node.contract import (
    LEASE,
    Branch,
    FloatingState,
    NetworkReport,
    NodeNetwork,
    PortState,
    RouterPort,
    RouterState,
)

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

Allocations = dict[str, list[Row[Any]]]
Subnets = dict[str, Row[Any]]

_GUESTS = sa.select(port).where(
    port.c.host == sa.bindparam("n"), port.c.device_owner.not_like(_SERVICE)
).order_by(port.c.id)
# Those that are on their way here, wired before their guests come.
_ARRIVING = sa.select(port).where(
    port.c.moving_to == sa.bindparam("n"), port.c.device_owner.not_like(_SERVICE)
).order_by(port.c.id)
_ROUTERS = sa.select(router).where(router.c.node == sa.bindparam("n")).order_by(router.c.id)
_ROUTER_PORTS = sa.select(port).where(
    port.c.host == sa.bindparam("n"), port.c.device_owner.in_(_ROUTER_OWNERS)
).order_by(port.c.id)
_user = port.alias("guest")
# Networks whose DHCP is served here and that somebody has a port on, whether its guest is there already or not: a
# network alone, of which nobody could ask, costs a node no namespace and no process.
_SERVED = sa.select(network.c.id).where(
    network.c.node == sa.bindparam("n"),
    sa.exists().where(_user.c.network_id == network.c.id, _user.c.device_owner.not_like(_SERVICE)),
)
# Whether what the node says can change anything here although it says the same as last time.
_WAITING = sa.select(sa.or_(
    sa.exists().where(port.c.host == sa.bindparam("n"), port.c.status != "ACTIVE"),
    sa.exists().where(router.c.node == sa.bindparam("n"), router.c.status == "ERROR"),
    sa.exists().where(
        floating_ip.c.router_id == router.c.id, router.c.node == sa.bindparam("n"), floating_ip.c.status != "ACTIVE"
    ),
    sa.exists().where(fault.c.node == sa.bindparam("n")),
    sa.exists().where(trunk.c.port_id == port.c.id, port.c.host == sa.bindparam("n")),
))
# Others that may serve what this node serves now, if it is silent for long.
_OTHERS = sa.select(agent.c.id).where(agent.c.kind.in_(("dhcp", "l3")), agent.c.node != sa.bindparam("n")).limit(1)
_FLOATING = sa.select(floating_ip).join(router, router.c.id == floating_ip.c.router_id).where(
    router.c.node == sa.bindparam("n"), floating_ip.c.port_id.is_not(None)
).order_by(floating_ip.c.id)


# -- what a node shall carry


def node_state(tx: Tx, cloud: Cloud, node: str) -> NodeNetwork:
    """Everything that the node shall carry now: its guests' ports, their networks, and the DHCP and routers
    placed on it. Of a fake node only what it serves: its guests are wired by being built."""
    fake = cloud.settings.hypervisor == "fake"
    revision = read_revision(tx, touch.COUNTER)
    guests = [] if fake else [*tx.all(_GUESTS, {"n": node}), *tx.all(_ARRIVING, {"n": node})]
    routers = tx.all(_ROUTERS, {"n": node})
    router_ports = tx.all(_ROUTER_PORTS, {"n": node})
    wanted = {p.network_id for p in (*guests, *router_ports)} | set(tx.scalars(_SERVED, {"n": node}))
    carried = tx.all(sa.select(network).where(network.c.id.in_(wanted)).order_by(network.c.id))
    down = {row.id for row in carried if not row.admin_state_up}
    subnets = subnets_of(tx, wanted)
    by_id = {row.id: row for rows in subnets.values() for row in rows}
    seen = wiring_networks.seen(tx, cloud, wanted, revision)
    held = seen.held
    underlay = wiring_networks.Underlay(tx, node)
    trunks = _Trunks(tx, node, {row.id: row.mtu for row in carried})
    return NodeNetwork(
        revision=revision,
        networks=tuple(
            wiring_networks.network(cloud, row, underlay, subnets.get(row.id, []), seen) for row in carried
        ),
        ports=tuple(
            trunks.on(_port(row, held.get(row.id, []), groups, down)) for row, groups in _with_groups(tx, guests)
        ),
        security_groups=wiring_groups.states(tx, [row.id for row in guests], seen.groups),
        routers=_routers(tx, node, routers, router_ports, held, by_id),
        lease=LEASE if tx.first(_OTHERS, {"n": node}) is not None else 0.0,
        report_wanted=bool(tx.scalar(_WAITING, {"n": node})),
    )


class _Trunks:
    """The trunks at a node: what they add to the states of ports."""

    def __init__(self, tx: Tx, node: str, mtus: dict[str, int]) -> None:
        rows = subports.branches(tx, node)
        self._parents = {row.parent_id for row in rows}
        self._branches = {
            row.port_id: Branch(
                parent_id=row.parent_id, network_id=row.network_id, mtu=mtus[row.network_id], vlan=row.segmentation_id
            )
            for row in rows if row.port_id is not None and row.network_id in mtus
        }

    def on(self, state: PortState) -> PortState:
        """The state of a port, as a trunk's parent or a subport."""
        if state.id in self._branches:
            return msgspec.structs.replace(state, branch=self._branches[state.id], server_id=None)
        return msgspec.structs.replace(state, trunk=True) if state.id in self._parents else state


def _with_groups(tx: Tx, guests: Sequence[Row[Any]]) -> list[tuple[Row[Any], list[str]]]:
    groups = port_rows.groups_of(tx, [row.id for row in guests])
    return [(row, groups.get(row.id, [])) for row in guests]


def _port(row: Row[Any], addresses: Sequence[Row[Any]], groups: Sequence[str], down: set[str]) -> PortState:
    """A guest's port; one of a network that is administratively down carries nothing either."""
    return PortState(
        id=row.id, network_id=row.network_id, mac=row.mac, ips=tuple(a.ip for a in addresses),
        admin_state_up=row.admin_state_up and row.network_id not in down, port_security=row.port_security_enabled,
        allowed_pairs=tuple((mac, without_host_bits(ip)) for ip, mac in row.allowed_pairs),
        security_groups=tuple(groups),
        server_id=row.device_id or None,
    )


def _routers(
    tx: Tx, node: str, routers: Sequence[Row[Any]], router_ports: Sequence[Row[Any]], held: Allocations,
    subnets: Subnets,
) -> tuple[RouterState, ...]:
    if not routers:
        return ()
    floating: dict[str, list[FloatingState]] = {}
    for row in tx.all(_FLOATING, {"n": node}):
        floating.setdefault(row.router_id, []).append(FloatingState(
            id=row.id, floating_ip=row.floating_ip_address, fixed_ip=row.fixed_ip_address, port_id=row.port_id,
        ))
    own: dict[str, list[Row[Any]]] = {}
    for row in router_ports:
        own.setdefault(row.device_id, []).append(row)
    return tuple(
        _router(row, own.get(row.id, []), held, subnets, floating.get(row.id, [])) for row in routers
    )


def _router(
    row: Row[Any], own: Sequence[Row[Any]], held: Allocations, subnets: Subnets, floating: Iterable[FloatingState]
) -> RouterState:
    def leg(p: Row[Any]) -> RouterPort:
        return RouterPort(
            port_id=p.id, network_id=p.network_id, mac=p.mac,
            addresses=tuple(_with_prefix(a, subnets) for a in held.get(p.id, [])),
        )

    gateway = next((p for p in own if p.id == row.gateway_port_id), None)
    outside = [subnets[a.subnet_id].gateway_ip for a in held.get(gateway.id, [])] if gateway is not None else []
    return RouterState(
        id=row.id, admin_state_up=row.admin_state_up, gateway=leg(gateway) if gateway is not None else None,
        gateway_nexthops=tuple(ip for ip in outside if ip), enable_snat=row.enable_snat,
        interfaces=tuple(leg(p) for p in own if p is not gateway),
        routes=tuple((d, n) for d, n in row.routes), floating_ips=tuple(floating),
    )


def _with_prefix(address: Row[Any], subnets: Subnets) -> str:
    return f"{address.ip}/{ipaddress.ip_network(subnets[address.subnet_id].cidr).prefixlen}"


# -- what a node says


def heartbeat(tx: Tx, cloud: Cloud, node: str) -> None:
    """The node lives: its agents are alive."""
    agents.heartbeats(tx, cloud, [node])


def heartbeats(tx: Tx, cloud: Cloud, nodes: Sequence[str]) -> None:
    """These nodes live. In a fixed number of statements, however many they are."""
    if nodes:
        agents.heartbeats(tx, cloud, nodes)


def node_moved(tx: Tx, cloud: Cloud, node: str) -> None:
    """A node's underlay address is another one now: all that carry a network with it hear, and it itself."""
    found = tx.scalars(sa.select(port.c.network_id).distinct().where(port.c.host == node))
    arriving = tx.scalars(sa.select(port.c.network_id).distinct().where(port.c.moving_to == node))
    touch.networks(tx, cloud, {*found, *arriving}, node)


def node_left(tx: Tx, cloud: Cloud, node: str) -> None:
    """A node was removed from the cloud: its agents go, and what it served is served elsewhere from now on.

    Whoever removes a node says that it does not run any more: it is not waited for."""
    agents.forget(tx, node)
    node_moved(tx, cloud, node)
    moving.place(tx, cloud)


def node_drained(tx: Tx, cloud: Cloud) -> None:
    """A node shall be emptied, or no longer: its networks and routers move now, not only with the next look."""
    moving.place(tx, cloud)


def report(tx: Tx, cloud: Cloud, node: str, said: NetworkReport) -> None:
    """A node has carried out the state of a revision, but for the errors that it names.

    Guest ports become ACTIVE when named, ports of routers and DHCP, routers and floating IPs when what they
    last changed by is in that revision."""
    agents.said(tx, cloud, node, said)
    tx.execute(fault.delete().where(fault.c.node == node))
    broken = set(said.errors)
    told = _placed(tx, node, broken)
    if told:
        tx.execute(fault.delete().where(fault.c.resource_id.in_(told)))
        tx.execute(fault.insert(), [
            {"resource_id": identity, "node": node, "message": said.errors[identity]} for identity in sorted(told)
        ])
    here = tx.scalars(sa.select(port.c.id).where(
        port.c.host == node, port.c.id.in_(said.ports_up), port.c.status != "ACTIVE"
    ))
    ports.mark_up(tx, cloud, [identity for identity in here if identity not in broken])
    subports.reported(tx, cloud, node, broken)
    _serve(tx, node, said.revision, broken)
    _route(tx, node, said.revision, broken)


def _placed(tx: Tx, node: str, ids: set[str]) -> set[str]:
    """Those of the ports, routers and networks that the node has something to do with: of others it tells nothing."""
    if not ids:
        return set()
    here = sa.or_(port.c.host == node, port.c.moving_to == node)
    return {
        *tx.scalars(sa.select(port.c.id).where(port.c.id.in_(ids), here)),
        *tx.scalars(sa.select(port.c.network_id).distinct().where(port.c.network_id.in_(ids), here)),
        *tx.scalars(sa.select(router.c.id).where(router.c.id.in_(ids), router.c.node == node)),
        *tx.scalars(sa.select(network.c.id).where(network.c.id.in_(ids), network.c.node == node)),
    }


def _serve(tx: Tx, node: str, revision: int, broken: set[str]) -> None:
    """Ports of routers and DHCP that the node was told of."""
    mine = sa.and_(port.c.host == node, port.c.device_owner.like(_SERVICE))
    routed = _user.select().with_only_columns(_user.c.network_id).where(
        _user.c.host == node, _user.c.device_owner.in_(_ROUTER_OWNERS)
    )
    used = sa.or_(
        port.c.device_owner.in_(_ROUTER_OWNERS), port.c.network_id.in_(_SERVED), port.c.network_id.in_(routed)
    )
    waiting = tx.all(sa.select(port.c.id, port.c.network_id, port.c.device_id).where(
        mine, used, port.c.status != "ACTIVE", port.c.change <= revision
    ), {"n": node})
    well = [p.id for p in waiting if not broken & {p.id, p.network_id, p.device_id}]
    if well:
        tx.execute(port.update().where(port.c.id.in_(well)).values(status="ACTIVE"))
    if broken:
        failed = sa.or_(*(c.in_(broken) for c in (port.c.id, port.c.network_id, port.c.device_id)))
        tx.execute(port.update().where(port.c.host == node, failed, port.c.status == "ACTIVE").values(status="DOWN"))


def _route(tx: Tx, node: str, revision: int, broken: set[str]) -> None:
    mine = router.c.node == node
    tx.execute(router.update().where(mine, router.c.status == "ERROR", router.c.id.not_in(broken)).values(
        status="ACTIVE"
    ))
    up = sa.select(router.c.id).where(mine, router.c.admin_state_up.is_(True), router.c.id.not_in(broken))
    tx.execute(floating_ip.update().where(
        floating_ip.c.router_id.in_(up), floating_ip.c.status != "ACTIVE", floating_ip.c.change <= revision,
        floating_ip.c.id.not_in(broken),
    ).values(status="ACTIVE"))
    if broken:
        tx.execute(router.update().where(mine, router.c.id.in_(broken)).values(status="ERROR"))
        tx.execute(floating_ip.update().where(
            sa.or_(floating_ip.c.router_id.in_(broken), floating_ip.c.id.in_(broken)),
            floating_ip.c.router_id.in_(sa.select(router.c.id).where(mine)),
        ).values(status="ERROR"))


# -- metadata


def port_for_address(tx: Tx, network_or_router_id: str, address: str) -> PortInfo | None:
    """The guest's port that has this address, on the network or on one behind the router; None: no such."""
    try:
        ip = str(ipaddress.ip_address(address.split("%")[0]))
    except ValueError:
        return None
    behind = sa.select(port.c.network_id).where(
        port.c.device_id == network_or_router_id, port.c.device_owner == "network:router_interface"
    )
    found = tx.scalar(
        sa.select(port.c.id).join(allocation, allocation.c.port_id == port.c.id)
        .where(
            allocation.c.ip == ip, port.c.device_owner.not_like(_SERVICE),
            sa.or_(port.c.network_id == network_or_router_id, port.c.network_id.in_(behind)),
        )
        .order_by(port.c.id).limit(1)
    )
    return ports.get(tx, found) if found else None
