"""Servers: reading, changing and deleting them. Creating is in `create`, what is done to them in `lifecycle`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET, Struct

from pileus.cluster.liveness import Moment, moment
from pileus.compute import devices, names, nodes, states, views
from pileus.compute.schemas import Rebuild, ServerChange
from pileus.compute.tables import node, server, server_tag
from pileus.compute.versions import in_path
from pileus.compute.views import Shown, host_id
from pileus.network import faces, ports
from pileus.web.call import Call
from pileus.web.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.network.ports import PortInfo
    from pileus.node.contract import GuestReport
    from pileus.web.versions import Version

__all__ = ["get", "guests_on", "host_id", "show", "update", "view", "visible"]

_GET = sa.select(server).where(server.c.id == sa.bindparam("i"), server.c.deleted.is_(False))
_HOLD = _GET.with_for_update()
_ANY = sa.select(server).where(server.c.id == sa.bindparam("i"))
_ANY_HOLD = _ANY.with_for_update()
_TAGS = sa.select(server_tag.c.name).where(server_tag.c.server_id == sa.bindparam("i")).order_by(server_tag.c.name)
_NODES = sa.select(node.c.name, node.c.seen, node.c.disabled, node.c.forced_down)


_UNSHOWN = frozenset({
    "key_data", "hints", "security_groups", "nic_tags", "own_ports", "old_flavor", "rescue_image", "password_data",
})
"""Columns that no view reads."""


def columns(version: Version, admin: bool) -> list[sa.Column[Any]]:
    """What a view needs: the large columns only where they are shown."""
    without = set(_UNSHOWN)
    if not admin or version < (2, 3):
        without |= {"user_data", "image"}
    if version < (2, 47):
        without.add("flavor")
    return [column for column in server.c if column.name not in without]


@functools.lru_cache(maxsize=128)
def _shown_by_id(version: Version) -> sa.Select[Any]:
    """A server's row with what its view needs; most have no volumes, and need not be asked for them."""
    wanted = (*columns(version, True), devices.ANY.label("has_devices"))
    return sa.select(*wanted).where(server.c.id == sa.bindparam("i"), server.c.deleted.is_(False))


# -- for other modules and rooms


def get(call: Call, server_id: str, rule: str) -> Any:
    """The row of a server that the caller may use so. Raises NotFound for what he may not see, else Forbidden."""
    return visible(call, call.tx.first(_GET, {"i": server_id}), server_id, rule)


def hold(call: Call, server_id: str, rule: str) -> Any:
    """The same, and nobody else changes the row before this transaction ends."""
    return visible(call, call.tx.first(_HOLD, {"i": server_id}), server_id, rule)


def held(tx: Tx, server_id: str) -> Any | None:
    """The row, deleted or not, for whoever acts in the cloud's own name; None when there is none."""
    return tx.first(_ANY_HOLD, {"i": server_id})


def any_row(tx: Tx, server_id: str) -> Any | None:
    """The row, deleted or not, to be read only."""
    return tx.first(_ANY, {"i": server_id})


def visible(call: Call, row: Any | None, server_id: str, rule: str) -> Any:
    """The row, if the caller may know that it exists. Raises NotFound, then Forbidden by the rule."""
    context = call.context
    if row is None or (row.project_id != context.project_id and not call.allows(
        "os_compute_api:servers:show", project_id=row.project_id
    )):
        raise NotFound(f"Instance {server_id} could not be found.")
    call.enforce(rule, project_id=row.project_id, user_id=row.user_id)
    return row


def change(tx: Tx, server_id: str, now: float, **values: Any) -> None:
    """Write columns of a server."""
    tx.execute(server.update().where(server.c.id == server_id), {"updated": now, **values})


def ports_of(call: Call, row: Any) -> list[PortInfo]:
    """The server's ports, in the order in which they were made."""
    return ports.of_servers(call.tx, [row.id]).get(row.id, []) if not row.deleted else []


def of_project(call: Call, since: float, ids: Sequence[str] | None = None) -> Sequence[Any]:
    """The rows of the servers of the caller's project, those deleted after `since` too; of `ids` only, where given.

    Raises Forbidden."""
    project_id = call.context.project_id
    call.enforce("os_compute_api:servers:detail", project_id=project_id)
    c = server.c
    mine = [c.project_id == project_id, sa.or_(c.deleted.is_(False), c.deleted_at > since)]
    if ids is not None:
        mine.append(c.id.in_(ids))
    return call.tx.all(sa.select(server).where(*mine).order_by(c.id))


def existing(tx: Tx, ids: Sequence[str], since: float) -> set[str]:
    """Which of these are ids of servers that are there, or were deleted after `since`."""
    c = server.c
    there = sa.or_(c.deleted.is_(False), c.deleted_at > since)
    return set(tx.scalars(sa.select(c.id).where(c.id.in_(ids), there)))


class GuestWanted(Struct, frozen=True):
    """A guest as it should be on its node."""

    id: str
    name: str
    vm_state: str
    task_state: str | None
    power_state: int


def guests_on(tx: Tx, node_name: str) -> list[GuestWanted]:
    """Every guest that should be on a node."""
    columns = (server.c.id, server.c.name, server.c.vm_state, server.c.task_state, server.c.power_state)
    here = sa.select(*columns).where(server.c.host == node_name, server.c.deleted.is_(False))
    rows = tx.all(here.order_by(server.c.seq))
    return [GuestWanted(r.id, r.name, r.vm_state, r.task_state, r.power_state) for r in rows]


def uses_image(tx: Tx, node_name: str, image_id: str) -> bool:
    """Whether a server placed on the node is made of the image, or of the one that it was rescued or shelved with."""
    c = server.c
    mine = sa.select(c.id).where(
        c.host == node_name, c.deleted.is_(False), sa.or_(c.image_id == image_id, c.shelved_image_id == image_id)
    )
    return tx.first(mine.limit(1)) is not None


def host_statuses(tx: Tx, now: Moment) -> dict[str, str]:
    """`host_status` of every node: UP, DOWN, or MAINTENANCE when disabled; UNKNOWN is one not heard of."""
    found = {}
    for row in tx.all(_NODES):
        late = now - row.seen >= nodes.DEAD_AFTER
        status = "DOWN" if row.forced_down else "UNKNOWN" if late else "MAINTENANCE" if row.disabled else "UP"
        found[row.name] = status
    return found


def power_changed(tx: Tx, cloud: Cloud, report: GuestReport) -> bool:
    """A guest changed by itself. True: tell it again later."""
    from pileus.compute import power

    return power.changed(tx, cloud, report)


# -- views


def shown(call: Call, rows: list[Any]) -> list[Shown]:
    """Rows with all that their views need, in a fixed number of statements."""
    tx, version = call.tx, call.version or (2, 1)
    unasked = bool(rows) and not hasattr(rows[0], "has_devices")
    ids = [row.id for row in rows if not row.deleted and (unasked or row.has_devices)]
    placed = [row.id for row in rows if not row.deleted and row.host is not None]
    by_server = faces.of_servers(tx, placed) if placed else {}
    tags = tags_of(tx, [row.id for row in rows]) if version >= (2, 26) else {}
    status: dict[str, str] | None = None
    if version >= (2, 16) and call.allows("os_compute_api:servers:show:host_status", project_id=None):
        status = host_statuses(tx, moment(call.cloud))
    disks = devices.of_servers(tx, ids)
    specs, path_version = version >= (2, 47), in_path(call)
    return [
        Shown(
            row, by_server.get(row.id, []), call.url, tags=tags.get(row.id, []), specs=specs, extended=True,
            version=path_version, volumes=[one for one in disks.get(row.id, ()) if one.volume_id],
            host_status=None if status is None else status.get(row.host, "UNKNOWN") if row.host else "",
        )
        for row in rows
    ]


def tags_of(tx: Tx, ids: Iterable[str]) -> dict[str, list[str]]:
    """Tags by server id."""
    found: dict[str, list[str]] = {}
    query = sa.select(server_tag).where(server_tag.c.server_id.in_(list(ids))).order_by(server_tag.c.name)
    for row in tx.all(query):
        found.setdefault(row.server_id, []).append(row.name)
    return found


def is_admin_view(call: Call, project_id: str | None) -> bool:
    """Whether the caller sees where servers run."""
    return call.allows("os_compute_api:os-extended-server-attributes", project_id=project_id)


def view(call: Call, row: Any, *, rebuilt: bool = False, shown_whole: bool = True) -> dict[str, Any]:
    """One server as GET shows it; `shown_whole` False: as PUT and rebuild do, which is less before 2.75."""
    full = shown_whole or (call.version or (2, 1)) >= (2, 75)
    item = shown(call, [row])[0]
    item.extended = full
    return views.render(call, item, full=full, admin=is_admin_view(call, row.project_id), user_data=not rebuilt)


# -- handlers


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}: 200."""
    server_id = call.params["server_id"]
    row = call.tx.first(_shown_by_id(call.version or (2, 1)), {"i": server_id})
    return {"server": view(call, visible(call, row, server_id, "os_compute_api:servers:show"))}


def update(call: Call) -> dict[str, Any]:
    """PUT /servers/{server_id}: 200."""
    row = hold(call, call.params["server_id"], "os_compute_api:servers:update")
    asked: ServerChange = call.body.server
    values = changes(call, asked)
    if values:
        change(call.tx, row.id, call.now, **values)
        row = call.tx.first(_GET, {"i": row.id})
    return {"server": view(call, row, shown_whole=False)}


def changes(call: Call, asked: ServerChange | Rebuild) -> dict[str, Any]:
    """The columns of what a caller calls a server, and says of it, that he asks to change. Raises BadRequest."""
    values: dict[str, Any] = {}
    if asked.name is not UNSET:
        values["name"] = names.check_name(asked.name)
    if asked.description is not UNSET:
        values["description"] = asked.description
    if asked.hostname is not UNSET:
        values["hostname"] = names.check_hostname(asked.hostname, (call.version or (2, 1)) >= (2, 94))
    if asked.disk_config is not UNSET:
        values["disk_config"] = asked.disk_config
    if asked.access_ip_v4 is not UNSET:
        values["access_ip_v4"] = names.address(asked.access_ip_v4, 4, "accessIPv4")
    if asked.access_ip_v6 is not UNSET:
        values["access_ip_v6"] = names.address(asked.access_ip_v6, 6, "accessIPv6")
    return values


def check_action(call: Call, server_id: str, rule: str, action: str, word: str = "") -> Any:
    """A server to act on: seen, allowed, held, and in a state that the action fits.

    Raises NotFound, Forbidden, Conflict."""
    row = hold(call, server_id, rule)
    states.require(call.context, row, action, word)
    return row
