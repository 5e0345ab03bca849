"""Segments: which VXLAN identifier, VLAN or physical network carries a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from msgspec import UNSET

from pileus.cluster import nodes
from pileus.network.faults import conflict, invalid
from pileus.network.schemas import NetworkNew, number
from pileus.network.tables import agent, network
from pileus.web.errors import Unavailable

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

TYPES = ("flat", "vxlan", "vlan", "local")
_OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN puts before a frame, on an underlay of IPv4 or IPv6."""

_TRIES = 16

_USED = sa.select(network.c.segmentation_id).where(
    network.c.network_type == "vxlan", network.c.segmentation_id.in_(sa.bindparam("ids", expanding=True))
)
_COUNT = sa.select(sa.func.count()).where(
    network.c.network_type == "vxlan", network.c.segmentation_id.between(sa.bindparam("lo"), sa.bindparam("hi"))
)


class Segment(NamedTuple):
    network_type: str
    physical_network: str | None = None
    segmentation_id: int | None = None

    @property
    def name(self) -> str | None:
        """What no two networks share; None for local ones, which are not on any wire."""
        if self.network_type == "local":
            return None
        return f"{self.network_type}:{self.physical_network or ''}:{self.segmentation_id or ''}"


def choose(tx: Tx, cloud: Cloud, new: NetworkNew) -> Segment:
    """The segment asked for, or a free VXLAN identifier. Raises BadRequest, Conflict, Unavailable."""
    kind = new.network_type if new.network_type is not UNSET else None
    physical = new.physical_network if new.physical_network is not UNSET else None
    asked = new.segmentation_id if new.segmentation_id is not UNSET else None
    segment_id = number(asked) if asked is not None else None
    if kind is None:
        if physical or segment_id is not None:
            raise invalid("provider:network_type must be given with other provider attributes.")
        return Segment("vxlan", None, _free_vni(tx, cloud))
    segment = _check(tx, cloud, Segment(kind, physical or None, segment_id))
    if segment.network_type == "vxlan" and segment.segmentation_id is None:
        return Segment("vxlan", None, _free_vni(tx, cloud))
    taken = sa.select(network.c.id).where(network.c.segment == segment.name)
    if segment.name is not None and tx.first(taken) is not None:
        raise _in_use(segment)
    return segment


def _in_use(segment: Segment) -> Exception:
    if segment.network_type == "flat":
        return conflict(
            "FlatNetworkInUse",
            "Unable to create the flat network. "
            f"Physical network {segment.physical_network} is in use.",
        )
    if segment.network_type == "vlan":
        return conflict(
            "VlanIdInUse",
            f"Unable to create the network. The VLAN {segment.segmentation_id} on physical network "
            f"{segment.physical_network} is in use.",
        )
    return conflict(
        "TunnelIdInUse", f"Unable to create the network. The tunnel ID {segment.segmentation_id} is in use."
    )


def _check(tx: Tx, cloud: Cloud, segment: Segment) -> Segment:
    kind, physical, segment_id = segment
    if kind not in TYPES:
        raise invalid(f"Unknown provider:network_type {kind}; there are {', '.join(TYPES)}.")
    if kind in ("flat", "vlan"):
        known = physical_networks(tx, cloud)
        if physical not in known:
            raise invalid(
                f"physical network '{physical or ''}' is unknown for {kind} provider network; the nodes' setting "
                f"physical_networks has {', '.join(known) or 'none'}."
            )
    elif physical:
        raise invalid(f"provider:physical_network cannot be specified for a {kind} network.")
    if kind in ("flat", "local") and segment_id is not None:
        raise invalid(f"provider:segmentation_id cannot be specified for a {kind} network.")
    if kind == "vlan" and (segment_id is None or not 1 <= segment_id <= 4094):
        raise invalid("provider:segmentation_id of a VLAN network must be between 1 and 4094.")
    if kind == "vxlan" and segment_id is not None and not 1 <= segment_id < 2**24:
        raise invalid("provider:segmentation_id of a VXLAN network must be between 1 and 16777215.")
    return segment


def _free_vni(tx: Tx, cloud: Cloud) -> int:
    """Random, so that two controllers seldom meet; exact when nearly all are in use."""
    low, high = cloud.settings.vni_range
    size = high - low + 1
    seed = UUID(cloud.world.uuid()).int
    tries = {low + (seed >> (16 * n % 96)) % size for n in range(_TRIES)}
    taken = set(tx.scalars(_USED, {"ids": sorted(tries)}))
    for vni in tries:
        if vni not in taken:
            return vni

    def full(a: int, b: int) -> bool:
        return bool(tx.scalar(_COUNT, {"lo": a, "hi": b}) > b - a)

    if full(low, high):
        raise Unavailable("Unable to create the network. No tenant network is available for allocation.",
                          type="NoNetworkAvailable")
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if full(low, middle) else (low, middle)
    return low


def physical_networks(tx: Tx, cloud: Cloud) -> list[str]:
    """Those that this controller's settings name, and those that any node has."""
    found = set(cloud.settings.physical_networks)
    for said in tx.scalars(sa.select(agent.c.physical_networks).where(agent.c.physical_networks.is_not(None))):
        found.update(said)
    return sorted(found)


def largest_mtu(tx: Tx, cloud: Cloud, kind: str) -> int:
    """The MTU that the underlay leaves to a network of this type."""
    if kind != "vxlan":
        return cloud.settings.mtu
    six = any(":" in address for address in nodes.addresses(tx).values())
    return cloud.settings.mtu - _OVERHEAD[6 if six else 4]
