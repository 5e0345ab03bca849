"""rebuild: a server begins again from an image, on its node, with its ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from pileus.cluster.liveness import moment
from pileus.compute import (
    block_devices,
    boot_images,
    create,
    devices,
    ends,
    lifecycle,
    names,
    orders,
    servers,
    spec,
    states,
)
from pileus.compute.schemas import ImageFacts, Rebuild
from pileus.compute.versions import in_path
from pileus.compute.views import links
from pileus.image import images
from pileus.volume import reimage
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Conflict, Problem

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.compute.ends import End
    from pileus.db.engine import Tx

_REIMAGES = (2, 93)
"""From this version on the root volume of a server is overwritten with the image; before, it stays as it is."""


def rebuild(call: Call, row: Any, value: Rebuild) -> Reply:
    """rebuild: 202, with the server and its administrator's password."""
    states.require(call.context, row, "rebuild")
    if value.trusted_certificates is not UNSET and value.trusted_certificates:
        raise BadRequest("trusted_image_certificates cannot be honoured here: image signatures are not verified.")
    if value.personality is not UNSET and value.personality:
        raise BadRequest("personality is not taken: files are not injected; use user_data.")
    values = _image(call, row, names.last_part(value.image)) | _changes(call, value)
    orders.begin(
        call, row, "rebuild", "compute_rebuild_instance", "rebuilding", **values, progress=0,
        old_vm_state=row.vm_state, password_data=None, fault=None,
    )
    before, row = row, servers.held(call.tx, row.id)
    assert row is not None
    if not spec.is_on_volume(row) or (call.version or (2, 1)) < _REIMAGES:
        described = orders.described(call.tx, call.cloud, row)
        orders.send(call.tx, call.cloud, row, "rebuild", request_id=call.request_id, spec=described)
    elif before.vm_state == states.STOPPED:
        _reimage(call.tx, call.cloud, row, call.request_id)
    else:
        lifecycle.power_off(call.tx, call.cloud, row, call.request_id)  # then `stopped`
    here = links(call.url, row.id, in_path(call))[0]["href"]
    return Reply({"server": _view(call, row, value)}, headers={"Location": here})


def _image(call: Call, row: Any, image_id: str) -> dict[str, Any]:
    """The columns of the image that the server is to have. Raises BadRequest."""
    image = boot_images.boot_image(call, image_id)
    spec.check_fit(spec.flavor_of(row), image)
    known = spec.facts_of(row)
    if known is None or not known.volume:
        return {"image_id": image.id, "image": msgspec.to_builtins(image)}
    if (call.version or (2, 1)) >= _REIMAGES:
        _check_root(call, row, image)
        return {"image": msgspec.to_builtins(boot_images.on_volume(image))}
    if image.id != known.id:
        raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
    return {}  # its volume stays as it is


def _check_root(call: Call, row: Any, image: ImageFacts) -> None:
    """Raises BadRequest where the image does not fit on the volume, Conflict where that is out of reach."""
    root = _root(call.tx, row)
    least = max(image.min_disk << 30, image.virtual_size)
    if least > root.size << 30:
        raise BadRequest(
            "Volume is smaller than the minimum size specified in image metadata. Volume size is "
            f"{root.size << 30} bytes, minimum size is {least} bytes."
        )
    if len(devices.of_volume(call.tx, root.volume_id)) > 1:
        raise BadRequest(f"Volume {root.volume_id} is attached to other instances too: it is not overwritten.")
    if reason := block_devices.out_of_reach(call.tx, moment(call.cloud), root.volume_id):
        raise Conflict(f"Service is unavailable at this time: {reason}")


def _root(tx: Tx, row: Any) -> Any:
    found = next((one for one in devices.of_server(tx, row.id) if one.boot_index == 0), None)
    if found is None or found.state != devices.ATTACHED:
        raise Conflict(f"Instance {row.id} does not have the volume that it boots from now.")
    return found


def stopped(end: End) -> None:
    """The guest does not run any more: its volume can be overwritten."""
    if end.error:
        return end.fail(states.ERROR)
    end.write(power_state=end.power)
    return _reimage(end.tx, end.cloud, end.row, end.task.request_id)


def _reimage(tx: Tx, cloud: Cloud, row: Any, request_id: str) -> None:
    """Have the image written over the root volume; it goes on in `block_devices.reimaged`."""
    image = spec.facts_of(row)
    info = images.info(tx, image.id) if image is not None else None
    try:
        root = _root(tx, row)
        if info is None:
            raise Conflict(f"Image {image.id if image else ''} is gone.")
        reimage.begin(tx, cloud, root.volume_id, info, request_id)
    except Problem as problem:
        return ends.without_task(tx, cloud, row, request_id, problem.message).fail(states.ERROR)
    return devices.change(tx, cloud, root, state=devices.MAKING, request_id=request_id)


def _changes(call: Call, value: Rebuild) -> dict[str, Any]:
    values = servers.changes(call, value)
    if value.metadata is not UNSET:
        create.check_metadata_quota(call, value.metadata)
        values["metadata"] = value.metadata
    if value.user_data is not UNSET:
        values["user_data"] = names.check_user_data(value.user_data)
    if value.key_name is not UNSET:
        key = create.key_of(call, value.key_name)
        values |= {"key_name": key.name if key else None, "key_data": key.public_key if key else None}
    return values


def _view(call: Call, row: Any, value: Rebuild) -> dict[str, Any]:
    version = call.version or (2, 1)
    view = servers.view(call, row, rebuilt=True, shown_whole=False)
    view["adminPass"] = create.new_password(value.password)
    if version >= (2, 54):
        view["key_name"] = row.key_name
    if version >= (2, 57):
        view["user_data"] = row.user_data
    return view
