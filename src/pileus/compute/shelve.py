"""shelve, shelveOffload, unshelve: a server as an image that uses no node, until it is wanted again."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import (
    block_devices,
    instance_actions,
    lifecycle,
    orders,
    scheduler,
    servers,
    snapshots,
    spec,
    states,
    wishes,
    zones,
)
from pileus.compute.actors import Actor
from pileus.compute.schemas import ImageFacts, Unshelve
from pileus.image import images
from pileus.network import ports
from pileus.web.call import Call
from pileus.web.errors import Conflict, NotFound


def shelve(call: Call, row: Any, value: Any) -> None:
    """shelve: 202. Shut down, stored as an image, and taken off its node at once."""
    states.require(call.context, row, "shelve")
    orders.check_up(call, row)
    if spec.is_on_volume(row):
        return _shelve_on_volume(call, row)
    image_id = snapshots.make(call, row, f"{row.name}-shelved", {}, call.context)
    orders.begin(
        call, row, "shelve", "compute_shelve_instance", "shelving", shelved_image_id=image_id,
        old_vm_state=row.vm_state,
    )
    if row.vm_state != states.STOPPED:
        lifecycle.power_off(call.tx, call.cloud, row, call.request_id)
    return orders.send(call.tx, call.cloud, row, "snapshot", request_id=call.request_id, image_id=image_id)


def _shelve_on_volume(call: Call, row: Any) -> None:
    """All that has to be kept is on the volume: shut down, and off the node."""
    orders.begin(call, row, "shelve", "compute_shelve_instance", "shelving_offloading", old_vm_state=row.vm_state)
    if row.vm_state != states.STOPPED:
        lifecycle.power_off(call.tx, call.cloud, row, call.request_id)
    orders.send(call.tx, call.cloud, row, "destroy", request_id=call.request_id)


def offload(call: Call, row: Any, value: Any) -> None:
    """shelveOffload: 202."""
    states.require(call.context, row, "shelveOffload")
    take_off(call, row)


def take_off(by: Actor, row: Any) -> None:
    """Have the node of a shelved server forget it: its image is all that is left. Raises Conflict if that node is
    down."""
    orders.begin(by, row, "shelveOffload", "compute_shelve_offload_instance", "shelving_offloading")
    orders.send(by.tx, by.cloud, row, "destroy", request_id=by.request_id)


def unshelve(call: Call, row: Any, value: Unshelve | None) -> None:
    """unshelve: 202. Scheduled anew, and built from the image that it was stored as, or on the volume it boots from."""
    states.require(call.context, row, "unshelve")
    if row.vm_state == states.SHELVED:
        orders.begin(call, row, "unshelve", "compute_unshelve_instance", "powering-on")
        described = orders.described(call.tx, call.cloud, row)
        return orders.send(call.tx, call.cloud, row, "power_on", request_id=call.request_id, spec=described)
    zone, host = _where(call, row, value)
    image = None if spec.is_on_volume(row) else _image(call, row)
    if why := block_devices.out_of_reach(call.tx, moment(call.cloud), *block_devices.of(call.tx, row.id)):
        raise Conflict(f"Service is unavailable at this time: {why}")
    wish = wishes.of_server(call.tx, row, "unshelve", zone=zone, host=host)
    owner = scheduler.Owner(consumer=row.id, project_id=row.project_id, user_id=row.user_id)
    try:
        chosen = scheduler.place(call.tx, call.cloud, wish, owner)
    except scheduler.NoValidHost as reason:
        scheduler.keep(call.tx, call.cloud, row.id, reason)
        instance_actions.begin(call, row.id, "unshelve", "unshelve_instance")
        instance_actions.finish(call.tx, row.id, call.request_id, call.now, f"No valid host was found. {reason}")
        return None
    # From here on the disk's base is the shelved image: a node that is told another would read garbage through it.
    servers.change(
        call.tx, row.id, call.now, host=chosen.name, zone=chosen.zone, pinned_zone=zone,
        **({"image": msgspec.to_builtins(image)} if image is not None else {}),
    )
    ports.move(call.tx, call.cloud, row.id, chosen.name)
    placed = servers.held(call.tx, row.id)
    assert placed is not None
    orders.begin(call, placed, "unshelve", "compute_unshelve_instance", "spawning")
    if block_devices.prepare(call.tx, call.cloud, placed, call.request_id):
        return servers.change(call.tx, row.id, call.now, task_state=block_devices.MAPPING)
    described = orders.described(call.tx, call.cloud, placed)
    return orders.send(call.tx, call.cloud, placed, "build", request_id=call.request_id, spec=described)


def _where(call: Call, row: Any, value: Unshelve | None) -> tuple[str | None, str | None]:
    """Zone and host that the server shall come back to."""
    zone, host = row.pinned_zone, None
    if value is None:
        return zone, None
    if value.availability_zone is not UNSET:
        zone = zones.parse(call, value.availability_zone)[0] if value.availability_zone else None
    if value.host is not UNSET:
        call.enforce("os_compute_api:os-shelve:unshelve_to_host", project_id=row.project_id)
        host = zones.known_host(call, value.host)
    return zone, host


def _image(call: Call, row: Any) -> ImageFacts:
    info = images.info(call.tx, row.shelved_image_id) if row.shelved_image_id else None
    if info is None:
        raise NotFound(f"Instance {row.id} cannot be unshelved: its image {row.shelved_image_id} is gone.")
    if info.status != "active":
        raise Conflict(f"Instance {row.id} cannot be unshelved: its image {info.id} is {info.status}.")
    facts = spec.image_facts(info)
    return msgspec.structs.replace(facts, min_disk=0)
