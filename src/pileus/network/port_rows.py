"""Writing a port: its row, MAC, addresses and security groups. No policy, no quota: callers have asked those."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pileus.network import fixed_ips
from pileus.network.faults import conflict, invalid
from pileus.network.fixed_ips import Ask
from pileus.network.tables import floating_ip, port, port_group, router, tag

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
_PREFIX = "fa:16:3e"
_INSERT = port.insert()
_INSERT_GROUP = port_group.insert()


def check_mac(text: str) -> str:
    """A unicast MAC in its usual spelling. Raises BadRequest."""
    mac = text.lower().replace("-", ":")
    if not _MAC.match(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise invalid(f"'{text}' is not a valid MAC address; expected six bytes such as {_PREFIX}:1a:2b:3c.")
    return mac


def insert(
    tx: Tx, cloud: Cloud, network: Row[Any], *, project_id: str, asked: Sequence[Ask] | None = None,
    mac: str | None = None, groups: Iterable[str] = (), name: str = "", description: str = "",
    admin_state_up: bool = True, device_id: str = "", device_owner: str = "", port_security_enabled: bool = True,
    allowed_pairs: Sequence[Sequence[str]] | None = None, dhcp_options: Sequence[Sequence[Any]] = (), host: str = "",
    profile: dict[str, Any] | None = None, dns_name: str = "", change: int = 0, status: str = "DOWN",
) -> str:
    """Make a port; its id. `allowed_pairs` are (address, MAC or ""). Raises BadRequest, Conflict."""
    now = cloud.world.now()
    identity = cloud.world.uuid()
    row = {
        "id": identity, "project_id": project_id, "description": description, "created": now, "updated": now,
        "revision": 1, "name": name, "network_id": network.id, "admin_state_up": admin_state_up, "status": status,
        "device_id": device_id, "device_owner": device_owner, "port_security_enabled": port_security_enabled,
        "allowed_pairs": [], "dhcp_options": list(dhcp_options), "host": host, "vnic_type": "normal",
        "profile": profile or {}, "dns_name": dns_name, "change": change,
    }
    chosen = _insert_with_mac(tx, cloud, row, mac, allowed_pairs or ())
    if asked is None or asked:
        fixed_ips.assign(
            tx, cloud, port_id=identity, mac=chosen, network_id=network.id, device_owner=device_owner, asked=asked
        )
    links = [{"port_id": identity, "group_id": group} for group in dict.fromkeys(groups)]
    if links:
        tx.execute(_INSERT_GROUP, links)
    return identity


def _insert_with_mac(
    tx: Tx, cloud: Cloud, row: dict[str, Any], mac: str | None, pairs: Sequence[Sequence[str]]
) -> str:
    for _ in range(8):
        chosen = mac or random_mac(cloud)
        row["mac"] = chosen
        row["allowed_pairs"] = [[ip, pair_mac or chosen] for ip, pair_mac in pairs]
        try:
            with tx.savepoint():
                tx.execute(_INSERT, row)
        except sa.exc.IntegrityError:
            if mac:
                raise mac_in_use(row["network_id"], mac) from None
            continue
        return chosen
    raise conflict("MacAddressGenerationFailure", f"Unable to generate unique mac on network {row['network_id']}.")


def mac_in_use(network_id: str, mac: str) -> Exception:
    """409 for a MAC that another port of the network has."""
    return conflict("MacAddressInUse", f"Unable to complete operation for network {network_id}. "
                                       f"The mac address {mac} is in use.")


def random_mac(cloud: Cloud) -> str:
    """A MAC of ours."""
    digits = f"{UUID(cloud.world.uuid()).int & 0xFFFFFF:06x}"
    return ":".join((_PREFIX, digits[:2], digits[2:4], digits[4:]))


def set_groups(tx: Tx, port_id: str, groups: Iterable[str]) -> None:
    """Put a port in exactly these security groups."""
    tx.execute(port_group.delete().where(port_group.c.port_id == port_id))
    links = [{"port_id": port_id, "group_id": group} for group in dict.fromkeys(groups)]
    if links:
        tx.execute(_INSERT_GROUP, links)


_GROUPS = (
    sa.select(port_group).where(port_group.c.port_id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(port_group.c.port_id, port_group.c.group_id)
)
_CHUNK = 5000
_HAS_FLOATING = sa.select(floating_ip.c.id).where(floating_ip.c.port_id == sa.bindparam("p")).limit(1)
_DROP = port.delete().where(port.c.id == sa.bindparam("p"))
_DROP_TAGS = tag.delete().where(tag.c.resource_id == sa.bindparam("p"))


def groups_of(tx: Tx, port_ids: Sequence[str]) -> dict[str, list[str]]:
    """The ids of the security groups of ports, by port id."""
    found: dict[str, list[str]] = {}
    for at in range(0, len(port_ids), _CHUNK):
        for row in tx.all(_GROUPS, {"ids": list(port_ids[at : at + _CHUNK])}):
            found.setdefault(row.port_id, []).append(row.group_id)
    return found


def unfloat(tx: Tx, clause: sa.ColumnElement[bool], now: float) -> list[str]:
    """Take floating IPs off their ports; the nodes of their routers."""
    nodes = tx.scalars(
        sa.select(router.c.node).distinct().join(floating_ip, floating_ip.c.router_id == router.c.id).where(clause)
    )
    tx.execute(floating_ip.update().where(clause).values(
        port_id=None, fixed_ip_address=None, router_id=None, status="DOWN", updated=now,
        revision=floating_ip.c.revision + 1,
    ))
    return nodes


def drop(tx: Tx, cloud: Cloud, port_id: str) -> list[str]:
    """Delete a port and what hangs on it; the nodes that must hear besides those of its network."""
    nodes: list[str] = []
    if tx.first(_HAS_FLOATING, {"p": port_id}) is not None:
        nodes = unfloat(tx, floating_ip.c.port_id == port_id, cloud.world.now())
    tx.execute(_DROP_TAGS, {"p": port_id})
    tx.execute(_DROP, {"p": port_id})
    return nodes
