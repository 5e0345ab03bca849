"""What a server looks like on the wire, in every version."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pileus.compute import states
from pileus.web.call import Call
from pileus.web.versions import Version
from pileus.web.views import Field, View
from pileus.world import iso_micro, iso_z

if TYPE_CHECKING:
    from pileus.network.faces import Face
    from pileus.network.ports import PortInfo


@functools.lru_cache(maxsize=4096)
def host_id(host: str | None, project_id: str) -> str:
    """A host's name hidden from users: the same for one project's servers on one host, and only for those."""
    return hashlib.sha224((project_id + host).encode()).hexdigest() if host else ""


def instance_name(seq: int) -> str:
    """The name that administrators see for the guest."""
    return f"instance-{seq:08x}"


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def addresses_of(ports: Sequence[PortInfo | Face], extended: bool) -> dict[str, list[dict[str, Any]]]:
    """`{network name: [address, …]}`, fixed ones first, each followed by its floating ones."""
    found: dict[str, list[dict[str, Any]]] = {}
    for port in ports:
        items = found.setdefault(port.network_name, [])
        for _, fixed in port.fixed_ips:
            items.append(_item(fixed, "fixed", port.mac, extended))
            items += [_item(out, "floating", port.mac, extended) for own, out in port.floating_ips if own == fixed]
    return found


def _item(address: str, kind: str, mac: str, extended: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"version": _version(address), "addr": address}
    if extended:
        item["OS-EXT-IPS:type"] = kind
        item["OS-EXT-IPS-MAC:mac_addr"] = mac
    return item


class Shown:
    """A server's row with all that its view needs; the fields' getters read it."""

    __slots__ = (
        "extended", "groups", "host_status", "ports", "row", "specs", "status", "tags", "url", "version", "volumes",
    )

    def __init__(
        self, row: Any, ports: Sequence[PortInfo | Face], url: str, *, tags: list[str], specs: bool, extended: bool,
        host_status: str | None, version: str = "v2.1", volumes: Sequence[Any] = (),
    ) -> None:
        self.row, self.ports, self.url, self.tags = row, ports, url, tags
        self.version = version  # as paths have it
        self.volumes = volumes  # rows of its block devices that are volumes
        self.specs = specs  # the caller may see extra specs
        self.extended = extended  # addresses carry their type and MAC
        self.host_status = host_status
        self.status = states.DELETED.upper() if row.deleted else states.status(row.vm_state, row.task_state)


def links(url: str, server_id: str, version: str = "v2.1") -> list[dict[str, str]]:
    """Where a server is, with and without the version."""
    return [
        {"rel": "self", "href": f"{url}/{version}/servers/{server_id}"},
        {"rel": "bookmark", "href": f"{url}/servers/{server_id}"},
    ]


def _bookmark(shown: Shown, kind: str, ident: str) -> dict[str, Any]:
    return {"id": ident, "links": [{"rel": "bookmark", "href": f"{shown.url}/{kind}/{ident}"}]}


def _image(shown: Shown) -> Any:
    return _bookmark(shown, "images", shown.row.image_id) if shown.row.image_id else ""


def _flavor(shown: Shown) -> dict[str, Any]:
    facts = shown.row.flavor
    view = {
        "vcpus": facts["vcpus"], "ram": facts["ram"], "disk": facts["disk"], "ephemeral": facts["ephemeral"],
        "swap": facts["swap"], "original_name": facts["name"],
    }
    if shown.specs:
        view["extra_specs"] = facts["extra_specs"]
    return view


def _addresses(shown: Shown) -> dict[str, Any]:
    if shown.row.vm_state == states.BUILDING:
        return {}
    return addresses_of(shown.ports, shown.extended)


def _moment(seconds: float | None) -> str | None:
    return iso_micro(seconds) if seconds is not None else None


def _image_fact(name: str) -> Any:
    return lambda s: (s.row.image or {}).get(name) or ""


def _volumes(shown: Shown) -> list[dict[str, Any]]:
    return [{"id": one.volume_id, "delete_on_termination": one.delete_on_termination} for one in shown.volumes]


_CORE = View(
    Field("id", "row.id"),
    Field("name", "row.name"),
    Field("status"),
    Field("tenant_id", "row.project_id"),
    Field("user_id", "row.user_id"),
    Field("metadata", "row.metadata"),
    Field("hostId", lambda s: host_id(s.row.host, s.row.project_id)),
    Field("image", _image),
    Field("flavor", lambda s: _bookmark(s, "flavors", s.row.flavor_id), until=(2, 46)),
    Field("flavor", _flavor, since=(2, 47)),
    Field("created", lambda s: iso_z(s.row.created)),
    Field("updated", lambda s: iso_z(s.row.updated)),
    Field("addresses", _addresses),
    Field("accessIPv4", "row.access_ip_v4"),
    Field("accessIPv6", "row.access_ip_v6"),
    Field("links", lambda s: links(s.url, s.row.id, s.version)),
    Field("OS-DCF:diskConfig", "row.disk_config"),
    Field("locked", "row.locked", since=(2, 9)),
    Field("description", "row.description", since=(2, 19)),
    Field("tags", since=(2, 26)),
    Field("trusted_image_certificates", lambda s: None, since=(2, 63)),
    Field("locked_reason", "row.locked_reason", since=(2, 73)),
    Field("OS-EXT-SRV-ATTR:hostname", "row.hostname", since=(2, 90)),
)

_GROUPS = View(Field("server_groups", lambda s: [s.row.group_id] if s.row.group_id else [], since=(2, 71)))

_FULL = View(
    Field("OS-EXT-AZ:availability_zone", lambda s: s.row.zone or ""),
    Field("config_drive", lambda s: "True" if s.row.config_drive else ""),
    Field("key_name", "row.key_name"),
    Field("OS-SRV-USG:launched_at", lambda s: _moment(s.row.launched)),
    Field("OS-SRV-USG:terminated_at", lambda s: _moment(s.row.terminated)),
    Field("OS-EXT-STS:task_state", "row.task_state"),
    Field("OS-EXT-STS:vm_state", "row.vm_state"),
    Field("OS-EXT-STS:power_state", "row.power_state"),
    Field("os-extended-volumes:volumes_attached", lambda s: [{"id": d.volume_id} for d in s.volumes], until=(2, 2)),
    Field("os-extended-volumes:volumes_attached", _volumes, since=(2, 3)),
    Field("pinned_availability_zone", "row.pinned_zone", since=(2, 96)),
)

_ADMIN = View(
    Field("OS-EXT-SRV-ATTR:host", "row.host"),
    Field("OS-EXT-SRV-ATTR:instance_name", lambda s: instance_name(s.row.seq)),
    Field("OS-EXT-SRV-ATTR:hypervisor_hostname", "row.host"),
    Field("OS-EXT-SRV-ATTR:hostname", "row.hostname", since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:reservation_id", "row.reservation_id", since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:launch_index", "row.launch_index", since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:kernel_id", _image_fact("kernel_id"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:ramdisk_id", _image_fact("ramdisk_id"), since=(2, 3)),
    Field("OS-EXT-SRV-ATTR:root_device_name", lambda s: "/dev/vda", since=(2, 3)),
)

_USER_DATA = View(Field("OS-EXT-SRV-ATTR:user_data", "row.user_data", since=(2, 3)))


@functools.cache
def _fields(
    version: Version | None, full: bool, admin: bool, groups: bool, user_data: bool
) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Name and getter of every field of such a view, looked up once."""
    parts = [_CORE, *([_GROUPS] if groups else []), *([_FULL] if full else [])]
    if full and admin:
        parts += [_ADMIN, *([_USER_DATA] if user_data else [])]
    return tuple(field for part in parts for field in part.at(version))


def render(
    call: Call, shown: Shown, *, full: bool = True, admin: bool = False, groups: bool = True, user_data: bool = True
) -> dict[str, Any]:
    """One server. `full` is what GET shows; PUT and rebuild show less before 2.75."""
    version = call.version
    view = {name: get(shown) for name, get in _fields(version, full, admin, groups, user_data)}
    if full:
        names = dict.fromkeys(name for port in shown.ports for name in port.security_group_names)
        if names:
            view["security_groups"] = [{"name": name} for name in names]
        if shown.host_status is not None and version is not None and version >= (2, 16):
            view["host_status"] = shown.host_status
    if shown.status in states.FAULT_STATUSES and shown.row.fault:
        view["fault"] = _fault(call, shown.row.fault)
    if shown.status in states.PROGRESS_STATUSES:
        view["progress"] = shown.row.progress
    return view


def _fault(call: Call, fault: dict[str, Any]) -> dict[str, Any]:
    """Details of our own failures are for administrators."""
    view = {"code": fault["code"], "created": iso_z(fault["created"]), "message": fault["message"]}
    if fault.get("details") and (call.context.is_admin or fault["code"] != 500):
        view["details"] = fault["details"]
    return view
