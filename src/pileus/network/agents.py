"""Agents: what each node does for the network, and when it was last heard of."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.cluster import nodes as members
from pileus.cluster.liveness import moment
from pileus.network import placing
from pileus.network.faults import not_found
from pileus.network.placing import DHCP, L3
from pileus.network.tables import agent, fault
from pileus.node.contract import NetworkReport
from pileus.web.call import Call
from pileus.web.errors import Conflict
from pileus.web.schemas import as_bool
from pileus.world import iso_z

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

BRIDGE = "bridge"
KINDS = {
    DHCP: ("DHCP agent", "pileus-dhcp", "dhcp_agent"),
    L3: ("L3 agent", "pileus-l3", "l3_agent"),
    BRIDGE: ("Linux bridge agent", "pileus-bridge", "N/A"),
}
"""What a node can do: type, binary and topic as Neutron's users know them. Every node bridges its own guests' ports;
the rest is for those with the role `network`."""

_c = agent.c
_MINE = sa.and_(_c.kind.in_(list(KINDS)), _c.node.in_(sa.bindparam("names", expanding=True)))
_BEATS = agent.update().where(_MINE).values(heartbeat=sa.bindparam("now"))
_KNOWN = sa.select(_c.node).where(_c.kind == BRIDGE, _c.node.in_(sa.bindparam("names", expanding=True)))


def heartbeats(tx: Tx, cloud: Cloud, names: Sequence[str]) -> None:
    """These nodes live. In two statements, but for nodes that were never heard of: their agents are made."""
    now = cloud.world.now()
    known = set(tx.scalars(_KNOWN, {"names": list(names)}))
    tx.execute(_BEATS, {"names": list(names), "now": now})
    new = [name for name in names if name not in known]
    if new:
        _make(tx, cloud, new, now)
        from pileus.network.moving import place

        place(tx, cloud)


def _make(tx: Tx, cloud: Cloud, names: Sequence[str], now: float) -> None:
    """The agents of nodes that were never heard of; a node's first heartbeat and its first facts come together."""
    roles = {row.name: row.roles for row in members.listing(tx)}
    for name in names:
        with contextlib.suppress(sa.exc.IntegrityError), tx.savepoint():  # the other was first, and has committed
            tx.execute(agent.insert(), [_new(cloud, kind, name, now) for kind in _kinds(roles.get(name))])


def said(tx: Tx, cloud: Cloud, name: str, report: NetworkReport) -> None:
    """A node lives, and has told what it reaches and what lease it keeps to."""
    heartbeats(tx, cloud, [name])
    physical = None if report.physical_networks is None else list(report.physical_networks)
    tx.execute(agent.update().where(_MINE).values(lease=report.lease, physical_networks=physical), {"names": [name]})


def _kinds(roles: Collection[str] | None) -> list[str]:
    """The agents of a node with these roles. None: it has never joined, as with `pileus up`, and has every role."""
    return list(KINDS) if roles is None or "network" in roles else [BRIDGE]


def _new(cloud: Cloud, kind: str, name: str, now: float) -> dict[str, Any]:
    return {
        "id": cloud.world.uuid(), "kind": kind, "node": name, "admin_state_up": True, "description": "",
        "created": now, "started": now, "heartbeat": now, "lease": 0.0, "physical_networks": None,
    }


def follow_roles(tx: Tx, cloud: Cloud) -> None:
    """Nodes that joined again with other roles get the agents of these."""
    joined = members.listing(tx)
    if not joined:
        return
    have: dict[str, dict[str, Row[Any]]] = {}
    for row in tx.all(sa.select(agent)):
        have.setdefault(row.node, {})[row.kind] = row
    for member in joined:
        mine, wanted = have.get(member.name, {}), _kinds(member.roles)
        if BRIDGE not in mine:
            continue  # never heard of
        for kind in mine.keys() - set(wanted):
            tx.execute(agent.delete().where(_c.id == mine[kind].id))
        for kind in [kind for kind in wanted if kind not in mine]:
            same = mine[BRIDGE]
            tx.execute(agent.insert(), {
                **_new(cloud, kind, member.name, same.heartbeat), "lease": same.lease,
                "physical_networks": same.physical_networks,
            })


def listing(tx: Tx) -> list[Any]:
    """All rows, by node and kind."""
    return list(tx.all(sa.select(agent).order_by(agent.c.node, agent.c.kind)))


def forget(tx: Tx, name: str) -> None:
    """A node is no part of the cloud any more: what is served there moves with the next look."""
    tx.execute(agent.delete().where(_c.node == name))
    tx.execute(fault.delete().where(fault.c.node == name))


# -- handlers


class _Facts:
    """What is shown of nodes besides their agents' rows; read once for a list."""

    def __init__(self, call: Call) -> None:
        self.faults: dict[str, dict[str, str]] = {}
        for row in call.tx.all(sa.select(fault).order_by(fault.c.resource_id)):
            self.faults.setdefault(row.node, {})[row.resource_id] = row.message
        self.loads = {kind: placing.loads(call.tx, kind) for kind in (DHCP, L3)}
        self.addresses = members.addresses(call.tx)

    def configurations(self, row: Row[Any]) -> dict[str, Any]:
        """What the agent is set up for, how much it does, and what it could not make, and why."""
        found: dict[str, Any] = {"faults": self.faults.get(row.node, {})}
        load = self.loads.get(row.kind, {}).get(row.node, 0)
        if row.kind == DHCP:
            return {**found, "networks": load, "dhcp_driver": "dnsmasq"}
        if row.kind == L3:
            return {**found, "routers": load, "agent_mode": "legacy"}
        return {
            **found, "tunnel_types": ["vxlan"], "tunneling_ip": self.addresses.get(row.node, ""),
            "physical_networks": row.physical_networks,
        }


def _shown(call: Call, row: Row[Any], facts: _Facts) -> dict[str, Any]:
    kind, binary, topic = KINDS[row.kind]
    return {
        "id": row.id, "agent_type": kind, "binary": binary, "topic": topic, "host": row.node,
        "admin_state_up": row.admin_state_up, "alive": placing.is_alive(row, moment(call.cloud)),
        "availability_zone": None if row.kind == "bridge" else call.cloud.settings.availability_zone,
        "created_at": iso_z(row.created), "started_at": iso_z(row.started), "heartbeat_timestamp": iso_z(row.heartbeat),
        "description": row.description, "configurations": facts.configurations(row), "resource_versions": {},
        "resources_synced": None,
    }


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/agents: 200. Filters: agent_type, binary, host, id, alive, admin_state_up, topic.

    Who may not see agents sees none, as Neutron has it."""
    if not call.allows("get_agent"):
        return {"agents": []}
    facts = _Facts(call)
    rows = call.tx.all(sa.select(agent).order_by(_c.node, _c.kind))
    shown = [_shown(call, row, facts) for row in rows]
    asked: dict[str, set[str]] = {}
    for name, value in call.query_pairs:
        if shown and name in shown[0]:
            asked.setdefault(name, set()).add(value.lower())
    wanted = {v for k, v in call.query_pairs if k == "fields"}
    kept = [s for s in shown if all(str(s[name]).lower() in values for name, values in asked.items())]
    return {"agents": [{k: v for k, v in s.items() if not wanted or k in wanted} for s in kept]}


def _find(call: Call) -> Row[Any]:
    row = call.tx.first(sa.select(agent).where(_c.id == call.params["id"]))
    if row is None or not call.allows("get_agent"):
        raise not_found("AgentNotFound", "Agent", call.params["id"])
    return row


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/agents/{id}: 200. `configurations.faults` says what the node could not make, and why."""
    row = _find(call)
    return {"agent": _shown(call, row, _Facts(call))}


def shown_on(call: Call, kind: str, node: str) -> list[dict[str, Any]]:
    """The agent of this kind on a node, as a list of one or none."""
    rows = call.tx.all(sa.select(agent).where(_c.kind == kind, _c.node == node))
    return [_shown(call, row, _Facts(call)) for row in rows]


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/agents/{id}: 200. From an agent that is administratively down all moves to others."""
    row = _find(call)
    sent = call.body.agent
    values: dict[str, Any] = {}
    if sent.admin_state_up is not UNSET:
        values["admin_state_up"] = as_bool(sent.admin_state_up)
    if sent.description is not UNSET:
        values["description"] = sent.description or ""
    if values:
        call.tx.execute(agent.update().where(_c.id == row.id).values(values))
    if values.get("admin_state_up") is False:
        from pileus.network.moving import place

        place(call.tx, call.cloud)
    return show(call)


def delete(call: Call) -> None:
    """DELETE /v2.0/agents/{id}: 204, for a node that is gone. Raises Conflict while it lives."""
    row = _find(call)
    if placing.is_alive(row, moment(call.cloud)):
        raise Conflict(f"Agent {row.id} on {row.node} is alive; stop its node first.", type="AgentAlive")
    call.tx.execute(agent.delete().where(_c.id == row.id))
