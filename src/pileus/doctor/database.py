"""What the database says of itself: servers, tasks, allocations, ports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import tables as compute
from pileus.doctor.findings import Finding
from pileus.network import tables as network
from pileus.placement import tables as placement
from pileus.work.tables import task

if TYPE_CHECKING:
    from pileus.db.engine import Tx

TRANSIENT = ("building", "resized")
"""vm_states that are not an end; `resized` is one that waits for the user, and is fine."""


def servers(tx: Tx) -> list[Any]:
    """Rows of the servers that are not deleted."""
    return list(tx.all(sa.select(compute.server).where(compute.server.c.deleted.is_(False))))


def unsettled(tx: Tx) -> list[Finding]:
    """What is still being done: it is not wrong yet, and a judgement has to wait for it."""
    found = [
        Finding("unsettled", f"server {row.id}", f"{row.vm_state}, task_state {row.task_state}")
        for row in servers(tx)
        if row.task_state is not None or row.vm_state == "building"
    ]
    for row in tx.all(sa.select(task).where(task.c.state.in_(("pending", "running")))):
        found.append(Finding("unsettled", f"task {row.kind} of {row.resource}", f"{row.state}, attempt {row.attempt}"))
    return found


def allocations(tx: Tx) -> Iterator[Finding]:
    """Each placed server holds what its flavor says, nobody else holds anything, and the sums are right."""
    held: dict[str, dict[str, int]] = {}
    sums: dict[tuple[str, str], int] = {}
    for row in tx.all(sa.select(placement.allocation)):
        held.setdefault(row.consumer_id, {})[row.resource_class] = row.used
        key = (row.provider_id, row.resource_class)
        sums[key] = sums.get(key, 0) + row.used
    migrating = set(tx.scalars(sa.select(compute.migration.c.uuid)))
    placed = {row.id: row for row in servers(tx) if row.host}
    for consumer in held.keys() - placed.keys() - migrating:
        yield Finding("allocations", f"consumer {consumer}", "holds resources and is no placed server")
    for server in placed.keys() - held.keys():
        yield Finding("allocations", f"server {server}", f"is on {placed[server].host} and holds nothing")
    for server in placed.keys() & held.keys():
        row = placed[server]
        if row.old_flavor is None and (held[server].get("VCPU"), held[server].get("MEMORY_MB")) != (row.vcpus, row.ram):
            yield Finding("allocations", f"server {server}", f"holds {held[server]}, its flavor says "
                          f"{row.vcpus} VCPU and {row.ram} MB")
    for row in tx.all(sa.select(placement.inventory)):
        used = sums.get((row.provider_id, row.resource_class), 0)
        if used != row.used:
            yield Finding("allocations", f"provider {row.provider_id} {row.resource_class}",
                          f"counts {row.used} used, its allocations sum to {used}")


def ports(tx: Tx) -> Iterator[Finding]:
    """Each compute port belongs to a living server and is bound to its host; each address has its port."""
    alive = {row.id: row for row in servers(tx)}
    table = network.port
    for row in tx.all(sa.select(table).where(table.c.device_owner.like("compute:%"))):
        server = alive.get(row.device_id)
        if server is None:
            yield Finding("ports", f"port {row.id}", f"belongs to server {row.device_id}, which is not there")
        elif server.host and row.host != server.host:
            yield Finding("ports", f"port {row.id}", f"is bound to '{row.host}', its server is on {server.host}")
    own = {port for server in alive.values() for port in server.own_ports}
    there = set(tx.scalars(sa.select(table.c.id)))
    for port in own - there:
        yield Finding("ports", f"port {port}", "is a server's own, and is not there")
    lost = sa.select(network.allocation.c.ip).where(~network.allocation.c.port_id.in_(sa.select(table.c.id)))
    for address in tx.scalars(lost):
        yield Finding("ports", f"address {address}", "is taken by a port that is not there")
