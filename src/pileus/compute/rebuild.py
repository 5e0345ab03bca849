"""rebuild: a server begins again from an image, on its node, with its ports."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from pileus.compute import boot_images, create, names, orders, servers, spec, states
from pileus.compute.schemas import Rebuild
from pileus.compute.versions import in_path
from pileus.compute.views import links
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest


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
    row = servers.held(call.tx, row.id)
    assert row is not None
    described = orders.described(call.tx, call.cloud, row)
    orders.send(call.tx, call.cloud, row, "rebuild", request_id=call.request_id, spec=described)
    here = links(call.url, row.id, in_path(call))[0]["href"]
    return Reply({"server": _view(call, row, value)}, headers={"Location": here})


def _image(call: Call, row: Any, image_id: str) -> dict[str, Any]:
    """The columns of the image that the server is to have. Raises BadRequest."""
    image = boot_images.boot_image(call, image_id)
    spec.check_fit(spec.flavor_of(row), image)
    known = spec.facts_of(row)
    if known is None or not known.volume:
        return {"image_id": image.id, "image": msgspec.to_builtins(image)}
    if (call.version or (2, 1)) >= (2, 93):
        raise BadRequest(
            f"Instance {row.id} boots from a volume, which cannot be overwritten with an image here: make another server "
            "from the image. Up to version 2.92 a rebuild leaves the volume as it is."
        )
    if image.id != known.id:
        raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
    return {}  # its volume stays as it is


def _changes(call: Call, value: Rebuild) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if value.name is not UNSET:
        values["name"] = names.check_name(value.name)
    if value.metadata is not UNSET:
        create.check_metadata_quota(call, value.metadata)
        values["metadata"] = value.metadata
    if value.description is not UNSET:
        values["description"] = value.description
    if value.hostname is not UNSET:
        values["hostname"] = names.check_hostname(value.hostname, (call.version or (2, 1)) >= (2, 94))
    if value.disk_config is not UNSET:
        values["disk_config"] = value.disk_config
    if value.access_ip_v4 is not UNSET:
        values["access_ip_v4"] = names.address(value.access_ip_v4, 4, "accessIPv4")
    if value.access_ip_v6 is not UNSET:
        values["access_ip_v6"] = names.address(value.access_ip_v6, 6, "accessIPv6")
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
