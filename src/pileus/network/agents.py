"""Agents: what each node does for the network, and when it was last heard of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import placing, touch
from pileus.network.faults import not_found
from pileus.network.tables import agent, fault, network, port, router
from pileus.web.call import Call
from pileus.web.errors import Conflict
from pileus.web.schemas import as_bool
from pileus.world import iso_z

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

KINDS = {
    "dhcp": ("DHCP agent", "pileus-dhcp", "dhcp_agent"),
    "l3": ("L3 agent", "pileus-l3", "l3_agent"),
    "bridge": ("Linux bridge agent", "pileus-bridge", "N/A"),
}

_c = agent.c
_BEAT = agent.update().where(_c.node == sa.bindparam("n")).values(heartbeat=sa.bindparam("now"))


def heartbeat(tx: Tx, cloud: Cloud, node: str) -> None:
    """A node lives. The first time, its agents are made, and what had no node yet is placed."""
    now = cloud.world.now()
    if tx.execute(_BEAT, {"n": node, "now": now}).rowcount:
        return
    tx.execute(agent.insert(), [
        {
            "id": cloud.world.uuid(), "kind": kind, "node": node, "admin_state_up": True, "description": "",
            "created": now, "started": now, "heartbeat": now,
        }
        for kind in KINDS
    ])
    place(tx, cloud)


def place(tx: Tx, cloud: Cloud) -> None:
    """Give a node to the networks with DHCP and the routers that have none."""
    dhcp, l3 = placing.choose(tx, cloud, "dhcp"), placing.choose(tx, cloud, "l3")
    unserved = sa.select(port.c.network_id).where(port.c.device_owner == "network:dhcp", port.c.host == "")
    networks = tx.scalars(unserved) if dhcp else []
    routers = tx.scalars(sa.select(router.c.id).where(router.c.node == "")) if l3 else []
    if not networks and not routers:
        return
    count = touch.nodes(tx, cloud, (dhcp, l3))
    tx.execute(network.update().where(network.c.id.in_(networks)).values(node=dhcp))
    tx.execute(port.update().where(
        port.c.network_id.in_(networks), port.c.device_owner == "network:dhcp"
    ).values(host=dhcp, change=count))
    tx.execute(router.update().where(router.c.id.in_(routers)).values(node=l3, change=count))
    tx.execute(port.update().where(
        port.c.device_id.in_(routers), port.c.device_owner.like("network:router%")
    ).values(host=l3, change=count))


# -- handlers


def _shown(call: Call, row: Row[Any], faults: dict[str, str]) -> dict[str, Any]:
    kind, binary, topic = KINDS[row.kind]
    return {
        "id": row.id, "agent_type": kind, "binary": binary, "topic": topic, "host": row.node,
        "admin_state_up": row.admin_state_up, "alive": row.heartbeat > call.now - placing.SILENCE,
        "availability_zone": None if row.kind == "bridge" else call.cloud.settings.availability_zone,
        "created_at": iso_z(row.created), "started_at": iso_z(row.started), "heartbeat_timestamp": iso_z(row.heartbeat),
        "description": row.description, "configurations": {"faults": faults}, "resource_versions": {},
        "resources_synced": None,
    }


def _faults(call: Call) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for row in call.tx.all(sa.select(fault).order_by(fault.c.resource_id)):
        found.setdefault(row.node, {})[row.resource_id] = row.message
    return found


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/agents: 200. Filters: agent_type, binary, host, id, alive, admin_state_up, topic.

    Who may not see agents sees none, as Neutron has it."""
    if not call.allows("get_agent"):
        return {"agents": []}
    faults = _faults(call)
    rows = call.tx.all(sa.select(agent).order_by(_c.node, _c.kind))
    shown = [_shown(call, row, faults.get(row.node, {})) for row in rows]
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
    return {"agent": _shown(call, row, _faults(call).get(row.node, {}))}


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/agents/{id}: 200. An agent that is administratively down gets nothing new."""
    row = _find(call)
    sent = call.body.agent
    values: dict[str, Any] = {}
    if sent.admin_state_up is not UNSET:
        values["admin_state_up"] = as_bool(sent.admin_state_up)
    if sent.description is not UNSET:
        values["description"] = sent.description or ""
    if values:
        call.tx.execute(agent.update().where(_c.id == row.id).values(values))
    return show(call)


def delete(call: Call) -> None:
    """DELETE /v2.0/agents/{id}: 204, for a node that is gone. Raises Conflict while it lives."""
    row = _find(call)
    if row.heartbeat > call.now - placing.SILENCE:
        raise Conflict(f"Agent {row.id} on {row.node} is alive; stop its node first.", type="AgentAlive")
    call.tx.execute(agent.delete().where(_c.id == row.id))
