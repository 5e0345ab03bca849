"""Volumes and snapshots that a node keeps, as lists: those that can be brought under management, and those that are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.volume import listing, manage
from pileus.volume.tables import snapshot, volume
from pileus.volume.tables_rest import unmanaged
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.web.call import Call


def index(call: Call) -> dict[str, Any]:
    """GET /os-volume-manage, /manageable_volumes: 200, what a node keeps."""
    return {"manageable-volumes": [_brief(one) for one in _volumes(call)]}


def detail(call: Call) -> dict[str, Any]:
    """GET /os-volume-manage/detail: 200."""
    return {"manageable-volumes": _volumes(call)}


def snapshot_index(call: Call) -> dict[str, Any]:
    """GET /os-snapshot-manage: 200, what a node keeps."""
    return {"manageable-snapshots": [_brief(one) for one in _snapshots(call)]}


def snapshot_detail(call: Call) -> dict[str, Any]:
    """GET /os-snapshot-manage/detail: 200."""
    return {"manageable-snapshots": _snapshots(call)}


def _brief(one: dict[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("reference", "source_reference", "size", "safe_to_manage") if name in one}


def _volumes(call: Call) -> list[dict[str, Any]]:
    node = _listed(call)
    here = call.tx.all(sa.select(volume).where(volume.c.node == node).order_by(volume.c.seq))
    left = call.tx.all(
        sa.select(unmanaged).where(unmanaged.c.node == node, unmanaged.c.kind == "volume").order_by(unmanaged.c.created)
    )
    return _page(call, [_line(one, f"volume-{one.id}", None) for one in left]
                 + [_line(one, f"volume-{one.id}", one.id) for one in here])


def _snapshots(call: Call) -> list[dict[str, Any]]:
    node = _listed(call)
    here = call.tx.all(
        sa.select(snapshot).where(snapshot.c.volume_id == volume.c.id, volume.c.node == node).order_by(snapshot.c.seq)
    )
    left = call.tx.all(
        sa.select(unmanaged).where(unmanaged.c.node == node, unmanaged.c.kind == "snapshot")
        .order_by(unmanaged.c.created)
    )
    lines = [(one, None) for one in left] + [(one, one.id) for one in here]
    return _page(call, [
        {**_line(one, f"snapshot-{one.id}", cinder_id),
         "source_reference": {"source-name": f"volume-{one.volume_id}"}}
        for one, cinder_id in lines
    ])


def _line(one: Any, name: str, cinder_id: str | None) -> dict[str, Any]:
    return {
        "reference": {"source-name": name}, "size": one.size, "safe_to_manage": cinder_id is None,
        "reason_not_safe": None if cinder_id is None else "already managed", "cinder_id": cinder_id,
        "extra_info": None,
    }


def _listed(call: Call) -> str:
    """The node whose volumes are listed. Raises BadRequest."""
    asked = dict(call.query_pairs)
    host = asked.get("host")
    if not host or (asked.get("cluster") and (call.version or (3, 0)) >= (3, 17)):
        raise BadRequest("Invalid input received: name a 'host' alone; there are no clusters of nodes.")
    return str(manage.place_of(call, host).node)


def _page(call: Call, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The page that the query asks for: sorted by size or reference, after the reference that is the marker."""
    asked = dict(call.query_pairs)
    limit, offset = (listing.amount(asked.get(name, default), name) for name, default in
                     (("limit", str(listing.MOST)), ("offset", "0")))
    keys, ways = listing.sort_asked(asked)
    if not set(keys) <= _SORT.keys() or not set(ways) <= {"asc", "desc"} or len(ways) > len(keys):
        raise BadRequest("Invalid input received: sort by size or reference, asc or desc.")
    for at in reversed(range(len(keys))):  # the last one first: equals keep their order
        lines.sort(key=_SORT[keys[at]], reverse=at >= len(ways) or ways[at] == "desc")
    start = offset + _after(lines, asked.get("marker"))
    return lines[start:start + min(limit, listing.MOST)]


_SORT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "size": lambda line: line["size"], "reference": lambda line: line["reference"]["source-name"],
}


def _after(lines: list[dict[str, Any]], marker: str | None) -> int:
    """Where the lines after the one with the marker's reference begin. Raises BadRequest."""
    if marker is None:
        return 0
    try:
        wanted = msgspec.json.decode(marker)
    except msgspec.DecodeError:
        raise BadRequest(f"Invalid input received: marker {marker} is no reference, as JSON.") from None
    found = next((at for at, line in enumerate(lines) if line["reference"] == wanted), None)
    if found is None:
        raise BadRequest(f"Invalid input received: marker not found: {marker}.")
    return found + 1
