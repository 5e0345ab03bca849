"""What the database says of itself: servers, tasks, allocations, images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.compute import tables as compute
from pileus.doctor.findings import Finding
from pileus.image import tables as image
from pileus.node.contract import ServerTask
from pileus.placement import tables as placement
from pileus.work.tables import task

if TYPE_CHECKING:
    from pileus.db.engine import Tx

OPEN = ("pending", "running")
LATE = 30.0
"""Seconds past its deadline after which an open task is wrong: the job that ends it runs every 5 s."""
_HOSTLESS = ("building", "error", "shelved_offloaded")
_MOVING = ("saving", "uploading", "importing")


def servers(tx: Tx) -> list[Any]:
    """Rows of the servers that are not deleted."""
    return list(tx.all(sa.select(compute.server).where(compute.server.c.deleted.is_(False))))


def open_tasks(tx: Tx) -> list[Any]:
    """Rows of the tasks that have not ended."""
    return list(tx.all(sa.select(task).where(task.c.state.in_(OPEN))))


def unsettled(tx: Tx, without: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """What is still being done: it is not wrong yet, and a judgement has to wait for it.

    What the nodes `without` are to do waits until they are back, and is not waited for."""
    for row in servers(tx):
        if row.task_state is not None or row.vm_state == "building":
            yield Finding("unsettled", f"server {row.id}", f"{row.vm_state}, task_state {row.task_state}")
    for row in _awaited(tx, without):
        yield Finding("unsettled", f"task {row.kind} of {row.resource}", f"{row.state}, attempt {row.attempt}")
    for row in tx.all(sa.select(image.image).where(image.image.c.status.in_(_MOVING), image.image.c.transfer != "")):
        yield Finding("unsettled", f"image {row.id}", f"{row.status}, its bytes come in")


def _awaited(tx: Tx, without: frozenset[str]) -> list[Any]:
    return [row for row in open_tasks(tx) if row.node not in without]


def tasks(tx: Tx, without: frozenset[str] = frozenset()) -> Iterator[Finding]:
    """No task is open long past its deadline, but for those of the nodes `without`."""
    now = time.time()
    for row in _awaited(tx, without):
        if row.deadline is not None and row.deadline + LATE < now:
            yield Finding("tasks", f"task {row.kind} of {row.resource}",
                          f"is open {now - row.deadline:.0f} s past its deadline; does the cloud run?")


def states(tx: Tx) -> Iterator[Finding]:
    """Each server is on a node unless it needs none, and what goes on with it has a task."""
    busy = {row.resource for row in open_tasks(tx)}
    # While a live migration is cut off, it is its nodes that are asked (compute.standing).
    asked = sa.select(compute.migration.c.uuid, compute.migration.c.server_id)
    busy |= {f"server:{row.server_id}" for row in tx.all(asked) if f"migration:{row.uuid}" in busy}
    # One that waits for a volume has the tasks of that.
    disks = sa.select(compute.block_device.c.server_id, compute.block_device.c.volume_id)
    waiting = tx.all(disks.where(compute.block_device.c.state.in_(("making", "giving", "plugging"))))
    busy |= {f"server:{row.server_id}" for row in waiting if f"volume:{row.volume_id}" in busy}
    for row in servers(tx):
        if row.host is None and row.vm_state not in _HOSTLESS:
            yield Finding("servers", f"server {row.id}", f"is {row.vm_state} on no node")
        if row.task_state is not None and f"server:{row.id}" not in busy:
            yield Finding("servers", f"server {row.id}", f"has task_state {row.task_state}, and no task is left")


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


def kept_at_sources(tx: Tx) -> set[tuple[str, str]]:
    """Server and node of every guest that its former node keeps, off, until a move is confirmed, or that another node
    is still to remove."""
    columns = compute.migration.c
    kept = sa.select(columns.server_id, columns.source).where(
        columns.status.in_(("finished", "confirming", "reverting", "post-migrating"))
    )
    leaving = sa.select(columns.server_id, columns.to_clean).where(columns.to_clean.is_not(None))
    return {(row.server_id, row.source) for row in tx.all(kept)} | {
        (row.server_id, row.to_clean) for row in tx.all(leaving)
    }


def images(tx: Tx, files: dict[str, int], staged: frozenset[str], controller: str = "") -> Iterator[Finding]:
    """Images and the files of this controller's store agree, and who waits for a snapshot waits for a task."""
    rows = {row.id: row for row in tx.all(sa.select(image.image))}
    held: dict[str, set[str]] = {}
    for copy in tx.all(sa.select(image.image_copy).where(image.image_copy.c.kind == "image")):
        held.setdefault(copy.image_id, set()).add(copy.controller)
    for name in files.keys() - rows.keys():
        if controller not in held.get(name, ()):  # else it is about to be removed
            yield Finding("images", f"file {name}", "belongs to no image")
    for name in staged - rows.keys():
        yield Finding("images", f"staged file {name}", "belongs to no image")
    for image_id, row in rows.items():
        shall = row.status in ("active", "deactivated") and row.os_hash_value is not None
        elsewhere = image_id in held and controller not in held[image_id]
        if shall and not elsewhere and files.get(image_id) != row.size:
            yield Finding("images", f"image {image_id}", f"has {row.size} bytes, its file {files.get(image_id)}")
        if row.status in _MOVING[:1] and not row.transfer:
            yield Finding("images", f"image {image_id}", f"is {row.status}, and nobody sends its bytes")
    coming = {
        msgspec.json.decode(row.arguments, type=ServerTask).image_id
        for row in open_tasks(tx) if row.kind == "server.snapshot"
    }
    of_servers = sa.select(image.image_property.c.image_id).where(
        image.image_property.c.name == "image_location", image.image_property.c.value == "snapshot"
    )
    for image_id in set(tx.scalars(of_servers)) - coming:
        if image_id in rows and rows[image_id].status == "queued":
            yield Finding("images", f"image {image_id}", "waits for a snapshot that nobody makes")


def cache(tx: Tx, nodes: tuple[str, ...], with_files: set[str], cached: dict[str, int]) -> Iterator[Finding]:
    """What a guest's disk stands on is in the cache, whole. `with_files`: the servers that have a guest here."""
    for row in servers(tx):
        has_guest = row.host in nodes and row.id in with_files and row.vm_state != "building"
        if row.image and not row.image.get("volume") and has_guest:
            name, size = row.image["sha512"], row.image["size"]
            if cached.get(name) != size:
                yield Finding("cache", f"server {row.id}", f"stands on image {row.image['id']} of {size} bytes, of "
                              f"which the cache has {cached.get(name, 0)}")
