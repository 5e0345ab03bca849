"""createImage of a server that boots from a volume: snapshots of its volumes, and an image that says which."""

from __future__ import annotations

from typing import Any

import msgspec

from pileus.compute import devices, instance_actions, spec
from pileus.image import images
from pileus.volume import snapshots as volume_snapshots
from pileus.volume.faults import OverLimit
from pileus.web.call import Call
from pileus.web.errors import Forbidden


def create(call: Call, row: Any, name: str, properties: dict[str, str]) -> str:
    """The image's id. Raises what a user shall see of a volume that cannot be snapshotted now."""
    from pileus.compute import snapshots

    instance_actions.begin(call, row.id, "createImage", "compute_snapshot_instance", row.host)
    mapping = [_mapped(call, device, name) for device in devices.of_server(call.tx, row.id) if device.volume_id]
    facts = spec.facts_of(row)
    own = {
        "bdm_v2": "True", "root_device_name": "/dev/vda", "block_device_mapping": msgspec.json.encode(mapping).decode(),
    }
    image_id = images.create_without_content(
        call.tx, call.cloud, call.context, name=name, properties={**snapshots.said_of(row), **properties, **own},
        min_disk=facts.min_disk if facts else 0, min_ram=facts.min_ram if facts else 0,
    )
    instance_actions.finish(call.tx, row.id, call.request_id, call.now)
    return image_id


def _mapped(call: Call, device: Any, name: str) -> dict[str, Any]:
    try:
        made = volume_snapshots.make(call, device.volume_id, name=f"snapshot for {name}"[:255], force=True)
    except OverLimit as problem:
        raise Forbidden(problem.message) from None
    return {
        "source_type": "snapshot", "destination_type": "volume", "snapshot_id": made.id, "volume_size": made.size_gib,
        "device_name": device.device, "boot_index": device.boot_index, "tag": device.tag,
        "delete_on_termination": device.delete_on_termination, "guest_format": None, "no_device": None,
        "disk_bus": None, "device_type": None, "image_id": None, "volume_id": None, "volume_type": None,
    }
