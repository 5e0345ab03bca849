"""rescue and unrescue: a server boots from another image, its own disk or volume attached beside it."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pileus.compute import boot_images, create, names, orders, servers, spec, states
from pileus.compute.schemas import Rescue
from pileus.web.call import Call
from pileus.web.errors import BadRequest


def rescue(call: Call, row: Any, value: Rescue | None) -> dict[str, str]:
    """rescue: 200, with the administrator's password for the rescue system."""
    states.require(call.context, row, "rescue")
    if spec.is_on_volume(row) and (call.version or (2, 1)) < (2, 87):
        raise BadRequest(f"Instance {row.id} cannot be rescued: Cannot rescue a volume-backed instance")
    # What is on the volume that a server boots from was an image once, and may still be one.
    known = row.image_id or (row.image or {}).get("id")
    wanted = value.image if value is not None and value.image is not UNSET else known
    if not wanted:
        raise BadRequest(f"Instance {row.id} has no image to rescue with; name one in rescue_image_ref.")
    image = boot_images.boot_image(call, names.last_part(wanted))
    orders.begin(
        call, row, "rescue", "compute_rescue_instance", "rescuing", rescue_image=msgspec.to_builtins(image),
        old_vm_state=row.vm_state,
    )
    changed = servers.held(call.tx, row.id)
    assert changed is not None
    orders.send(
        call.tx, call.cloud, row, "rescue", request_id=call.request_id,
        spec=orders.described(call.tx, call.cloud, changed),
    )
    return {"adminPass": create.new_password(UNSET if value is None else value.password)}


def unrescue(call: Call, row: Any, value: Any) -> None:
    """unrescue: 202."""
    states.require(call.context, row, "unrescue")
    orders.begin(call, row, "unrescue", "compute_unrescue_instance", "unrescuing")
    described = orders.described(call.tx, call.cloud, row, rescue_image=None)
    orders.send(call.tx, call.cloud, row, "unrescue", request_id=call.request_id, spec=described)
