"""What volumes, snapshots and attachments look like on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pileus.volume import backends, volume_types, volumes
from pileus.web.call import Call
from pileus.web.views import Field, View
from pileus.world import iso_micro


def moment(seconds: float | None) -> str | None:
    """A time as Cinder writes it: `2026-11-28T18:00:00.000000`."""
    return None if seconds is None else iso_micro(seconds)


def links(call: Call, plural: str, resource_id: str) -> list[dict[str, str]]:
    """The links to one resource."""
    project = call.context.project_id
    return [
        {"rel": "self", "href": f"{call.url}/v3/{project}/{plural}/{resource_id}"},
        {"rel": "bookmark", "href": f"{call.url}/{project}/{plural}/{resource_id}"},
    ]


# -- volumes


class _Shown:
    """A volume's row with what is looked up for all rows together."""

    __slots__ = ("attached", "call", "row", "service", "type_name")

    def __init__(
        self, call: Call, row: Any, attached: list[dict[str, Any]], type_name: str | None, service: str | None
    ) -> None:
        self.call, self.row, self.attached, self.type_name, self.service = call, row, attached, type_name, service


def _of(name: str) -> Callable[[_Shown], Any]:
    def get(shown: _Shown) -> Any:
        return getattr(shown.row, name)

    return get


def _always(value: Any) -> Callable[[_Shown], Any]:
    return lambda _: value


def _metadata(shown: _Shown) -> dict[str, str]:
    read_only = shown.row.read_only
    found: dict[str, str] = shown.row.metadata
    return found if read_only is None else {**found, "readonly": str(read_only)}


_PLAIN: tuple[Field, ...] = (
    Field("id", _of("id")),
    Field("name", _of("name")),
    Field("description", _of("description")),
    Field("status", _of("status")),
    Field("size", _of("size")),
    Field("availability_zone", _of("zone")),
    Field("created_at", lambda s: moment(s.row.created)),
    Field("updated_at", lambda s: moment(s.row.updated)),
    Field("attachments", lambda s: s.attached),
    Field("snapshot_id", _of("snapshot_id")),
    Field("source_volid", _of("source_id")),
    Field("metadata", _metadata),
    Field("links", lambda s: links(s.call, "volumes", s.row.id)),
    Field("user_id", _of("user_id")),
    Field("bootable", lambda s: "true" if s.row.bootable else "false"),
    Field("encrypted", _of("encrypted")),
    Field("replication_status", _always(None)),
    Field("consistencygroup_id", _always(None)),
    Field("multiattach", _of("multiattach")),
    Field("migration_status", _of("migration_status")),
    Field("volume_type", lambda s: s.type_name),
    Field("group_id", _of("group_id"), since=(3, 13)),
    Field("service_uuid", lambda s: s.service, since=(3, 48)),
    Field("shared_targets", _always(False), since=(3, 48)),
    Field("volume_type_id", _of("type_id"), since=(3, 63)),
    Field("consumes_quota", _always(True), since=(3, 65)),
)
_FOR_ADMINS: tuple[Field, ...] = (
    Field("provider_id", _always(None), since=(3, 21)),
    Field("cluster_name", _always(None), since=(3, 61)),
)
_EXTENDED = (Field("os-vol-tenant-attr:tenant_id", _of("project_id")),)
_HOST = (
    Field("os-vol-host-attr:host", lambda s: backends.host(s.row.node, s.row.backend)),
    Field("os-vol-mig-status-attr:migstat", _of("migration_status")),
    Field("os-vol-mig-status-attr:name_id", _always(None)),
)
_SHORT_OF = {False: View(*_PLAIN), True: View(*_PLAIN, *_FOR_ADMINS)}
_WHOLE = {False: View(*_PLAIN, *_EXTENDED), True: View(*_PLAIN, *_FOR_ADMINS, *_EXTENDED, *_HOST)}


def volumes_of(call: Call, rows: Iterable[Any], *, extended: bool = True) -> list[dict[str, Any]]:
    """Volumes as GET shows them (`extended`), or as POST and PUT do; what belongs to rows is looked up for all."""
    rows = list(rows)
    admin = call.context.is_admin
    fields = (_WHOLE if extended else _SHORT_OF)[admin].at(call.version)
    attached = volumes.attachments_of(call.tx, [row.id for row in rows])
    named = volume_types.names(call.tx, {row.type_id for row in rows if row.type_id})
    version = call.version or (3, 0)
    services = backends.ids(call.tx, {row.node for row in rows if row.node}) if version >= (3, 48) else {}
    with_key = version >= (3, 64)
    found = []
    for row in rows:
        shown = _Shown(call, row, _attached(attached.get(row.id, ()), admin), named.get(row.type_id),
                       services.get(row.node))
        view = {name: get(shown) for name, get in fields}
        if extended and row.image_metadata:
            view["volume_image_metadata"] = row.image_metadata
        if with_key and row.encrypted:
            view["encryption_key_id"] = row.encryption_key_id
        found.append(view)
    return found


def volume(call: Call, row: Any, *, extended: bool = True) -> dict[str, Any]:
    """One volume."""
    return {"volume": volumes_of(call, [row], extended=extended)[0]}


def _attached(rows: Iterable[Any], admin: bool) -> list[dict[str, Any]]:
    return [
        {
            "id": row.volume_id, "attachment_id": row.id, "volume_id": row.volume_id, "server_id": row.server_id,
            "host_name": row.host if admin else None, "device": row.device, "attached_at": moment(row.attached),
        }
        for row in rows if row.status in ("attached", "detaching")
    ]


# -- snapshots

_SNAPSHOT: tuple[Field | str, ...] = (
    "id", "name", "description", "volume_id", "status", "size", "metadata",
    Field("created_at", lambda row: moment(row.created)),
    Field("updated_at", lambda row: moment(row.updated)),
    Field("group_snapshot_id", "group_snapshot_id", since=(3, 14)),
    Field("user_id", "user_id", since=(3, 41)),
    Field("consumes_quota", lambda row: True, since=(3, 65)),
)
_SNAPSHOT_DETAIL: tuple[Field | str, ...] = (
    Field("os-extended-snapshot-attributes:progress", "progress"),
    Field("os-extended-snapshot-attributes:project_id", "project_id"),
)
SNAPSHOT_SHORT = View(*(f for f in _SNAPSHOT if not (isinstance(f, Field) and f.name == "group_snapshot_id")))
"""As POST, PUT and the list without details show it."""
SNAPSHOT = View(*_SNAPSHOT, *_SNAPSHOT_DETAIL)
"""As GET and the list with details show it."""


# -- attachments


def attachment(row: Any, connection: Mapping[str, Any] | None) -> dict[str, Any]:
    """One attachment; `connection` is how its host reaches the volume."""
    return {
        "id": row.id, "status": row.status, "instance": row.server_id, "volume_id": row.volume_id,
        "attached_at": moment(row.attached), "detached_at": moment(row.detached), "attach_mode": row.mode,
        "connection_info": dict(connection or {}),
    }


def attachment_short(row: Any) -> dict[str, Any]:
    """One attachment in the list without details."""
    return {"id": row.id, "status": row.status, "instance": row.server_id, "volume_id": row.volume_id}
