"""The ledger of the scheduler in words: why a server came to its node or to none, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import decisions
from pileus.compute.decisions import Decision, Record
from pileus.compute.tables import server
from pileus.world import iso_z

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_BY_ID = sa.select(server).where(server.c.id == sa.bindparam("wanted"))
_BY_NAME = sa.select(server).where(server.c.name == sa.bindparam("wanted"), server.c.deleted.is_(False)).order_by(
    server.c.seq.desc()
).limit(100)
_BY_NODE = "`openstack compute service list` and `pileus node list` show how nodes are"
_METADATA = "`openstack aggregate show` tells what its metadata says"

_ADVICE = {
    "memory": "delete or move servers, add a node, take a smaller flavor, or raise ram_allocation_ratio",
    "processors": "delete or move servers, add a node, take a smaller flavor, or raise cpu_allocation_ratio",
    "disk": "delete or move servers, add a node, take a smaller flavor, or raise disk_allocation_ratio",
    "ComputeFilter": f"start the agents of nodes that are down, enable those that are disabled; {_BY_NODE}",
    "AvailabilityZoneFilter": "ask for another availability zone or for none; or put nodes into an aggregate of it",
    "ImagePropertiesFilter": "see the image's properties (hw_architecture, img_hv_type, hw_vm_mode): no node is such",
    "ComputeCapabilitiesFilter": "see the flavor's extra specs `capabilities:…`",
    "AggregateInstanceExtraSpecsFilter": f"put nodes into an aggregate as the flavor wants it; {_METADATA}",
    "AggregateImagePropertiesIsolation": f"take nodes out of the aggregate, or use other images; {_METADATA}",
    "AggregateMultiTenancyIsolation": f"add the project to filter_tenant_id, or take nodes out; {_METADATA}",
    "AggregateTypeAffinityFilter": f"add the flavor to instance_type, or take nodes out; {_METADATA}",
    "IsolatedAggregates": f"require the trait in the flavor, or take nodes out of the aggregate; {_METADATA}",
    "NumInstancesFilter": "raise max_instances_per_host, or add a node",
    "IoOpsFilter": "try again when the other servers are done, or raise max_io_ops_per_host",
    "SameHostFilter": "the hint same_host names servers whose nodes will not do",
    "DifferentHostFilter": "there are not enough nodes apart from the servers of the hint different_host",
    "SimpleCIDRAffinityFilter": "no node has its address there: see `openstack hypervisor list --long`",
    "JsonFilter": "no node fulfils the hint query",
    "PhysicalNetworks": "give nodes the physical network, or use another network",
    "ServerGroupAffinityFilter": "the members' node has no room: make it there, or use another server group",
    "ServerGroupAntiAffinityFilter": "add nodes, raise max_server_per_host, or use soft-anti-affinity",
    "AvoidedHosts": "add a node: the others have failed it, or are the one that it leaves",
    "MovesFilter": "use nodes that can take over guests (QEMU with its disks on the node)",
    "UnfitHosts": "migrate it while it is off, or to a node with such a processor and hypervisor",
    "trait": "see the traits that flavor and image require or forbid: `openstack resource provider trait list`",
}


def find(tx: Tx, wanted: str) -> list[Any]:
    """The rows of servers of this id or name, the newest first; by its id a deleted one too."""
    return list(tx.all(_BY_ID, {"wanted": wanted}) or tx.all(_BY_NAME, {"wanted": wanted}))


def lines(tx: Tx, row: Any) -> Iterator[str]:
    """What is remembered of one server, the newest decision first."""
    where = f"on {row.host}" if row.host else "on no node"
    yield f"Server {row.name} ({row.id}): {row.vm_state}, {where}"
    remembered = decisions.of(tx, row.id)
    if not remembered:
        yield "Nothing is remembered: it was placed before decisions were kept, or by nobody."
    for one in remembered:
        yield ""
        yield from _decision(one)


def _decision(one: Decision) -> Iterator[str]:
    record = one.record
    result = f"chose {one.host}" if one.host else "found no node"
    yield f"{iso_z(one.created)}  {record.action or 'move'}: {result}"
    if record.wanted:
        yield f"  wanted: {record.wanted}"
    if record.looked_at:
        which = "all nodes" if record.complete else "nodes that have room, the best first"
        yield f"  looked at: {record.looked_at} ({which}), of which {record.fitting} would do"
    if record.note:
        yield f"  {record.note}"
    for refused in record.refused:
        yield f"  {refused.count} {refused.summary} ({refused.by})"
        for node, why in refused.examples:
            yield f"      {node}: {why}"
        more = refused.count - len(refused.examples)
        if more:
            yield f"      and {more} more"
    yield from _weights(record)
    if one.host is None:
        yield from _advice(record)


def _weights(record: Record) -> Iterator[str]:
    if not record.weighed:
        return
    best = "all that would do" if len(record.weighed) == record.fitting else f"the best {len(record.weighed)}"
    yield f"  {best}, by weight:"
    for one in record.weighed:
        parts = ", ".join(f"{name} {part:+.2f}" for name, part in one.parts.items()) or "no weigher tells it apart"
        yield f"      {one.node}: {one.weight:.2f} ({parts})"


def _advice(record: Record) -> Iterator[str]:
    found = dict.fromkeys(_advised(record))
    if found:
        yield "  what to do:"
    for text in found:
        yield f"      - {text}"


def _advised(record: Record) -> Iterator[str]:
    for refused in record.refused:
        if refused.by != "placement":
            text = _ADVICE.get(refused.by)
        else:
            text = next((text for word, text in _ADVICE.items() if f" {word} " in f" {refused.summary} "), None)
        if text is not None:
            yield text
