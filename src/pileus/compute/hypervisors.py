"""Hypervisors: what each node has, and what of it is used."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.cluster.liveness import moment
from pileus.compute import nodes
from pileus.compute.schemas_rest import HypervisorOne, HypervisorQuery, Paged, is_uuid
from pileus.compute.tables import node, server
from pileus.compute.views_rest import more, page_size
from pileus.db.tables import LongText
from pileus.node.contract import HypervisorFacts
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import as_bool
from pileus.web.views import Field, View


class _Usage(msgspec.Struct):
    """What the servers of one node take together. Memory in MiB, disk in GiB."""

    servers: int = 0
    vcpus: int = 0
    ram: int = 0
    disk: int = 0
    busy: int = 0  # servers with a task under way
    names: list[dict[str, str]] = []


class _Hypervisor(msgspec.Struct):
    """A node as the views want it."""

    row: Any
    facts: HypervisorFacts
    up: bool
    usage: _Usage
    reserved: int  # MiB


def _cpu_info(item: _Hypervisor) -> dict[str, Any]:
    facts = item.facts
    return {"arch": facts.architecture, "model": facts.cpu_model, "features": list(facts.cpu_features)}


def _service(key: str) -> Any:
    return lambda item: {
        "id": getattr(item.row, key), "host": item.row.name, "disabled_reason": item.row.disabled_reason,
    }


_BRIEF = (
    Field("id", lambda item: item.row.seq, until=(2, 52)), Field("id", lambda item: item.row.id, since=(2, 53)),
    Field("hypervisor_hostname", lambda item: item.row.name),
    Field("state", lambda item: "up" if item.up else "down"),
    Field("status", lambda item: "disabled" if item.row.disabled else "enabled"),
)
_OLD = (2, 87)
_SUMS = (
    Field("vcpus", lambda item: item.facts.vcpus, until=_OLD),
    Field("memory_mb", lambda item: item.facts.memory_mib, until=_OLD),
    Field("local_gb", lambda item: item.facts.disk_gib, until=_OLD),
    Field("vcpus_used", lambda item: item.usage.vcpus, until=_OLD),
    Field("memory_mb_used", lambda item: item.usage.ram + item.reserved, until=_OLD),
    Field("local_gb_used", lambda item: item.usage.disk, until=_OLD),
    Field("free_ram_mb", lambda item: item.facts.memory_mib - item.usage.ram - item.reserved, until=_OLD),
    Field("free_disk_gb", lambda item: item.facts.disk_gib - item.usage.disk, until=_OLD),
    Field("current_workload", lambda item: item.usage.busy, until=_OLD),
    Field("running_vms", lambda item: item.usage.servers, until=_OLD),
    Field("disk_available_least", lambda item: item.facts.disk_gib - item.usage.disk, until=_OLD),
)
_INDEX = View(*_BRIEF)
_DETAIL = View(
    *_BRIEF, *_SUMS,
    Field("hypervisor_type", lambda item: item.facts.hypervisor_type),
    Field("hypervisor_version", lambda item: item.facts.hypervisor_version),
    Field("host_ip", lambda item: item.facts.host_ip or None),
    Field("service", _service("seq"), until=(2, 52)), Field("service", _service("id"), since=(2, 53)),
    Field("cpu_info", lambda item: msgspec.json.encode(_cpu_info(item)).decode(), until=(2, 27)),
    Field("cpu_info", _cpu_info, since=(2, 28), until=_OLD),
    Field("uptime", lambda item: None, since=(2, 88)),  # asked of the node by `hypervisor_uptime`
)

# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors: 200."""
    return _list(call, _INDEX)


def detail(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/detail: 200."""
    return _list(call, _DETAIL)


def _list(call: Call, view: View) -> dict[str, Any]:
    query = HypervisorQuery()
    if isinstance(call.query, Paged):
        query = call.query if isinstance(call.query, HypervisorQuery) else _paged(call.query)
    rows, pages = _rows(call, query)
    found = _with_usage(call, rows, as_bool(query.with_servers), view is _DETAIL)
    reply = {"hypervisors": _with_servers(view.render_all(found, call.version), found, call, query.with_servers)}
    if pages:
        reply |= more(call, "hypervisors", len(rows), page_size(query.limit), _key(call, rows[-1]) if rows else "")
    return reply


def _paged(query: Paged) -> HypervisorQuery:
    return HypervisorQuery(limit=query.limit, marker=query.marker)


def _rows(call: Call, query: HypervisorQuery) -> tuple[list[Any], bool]:
    """The rows asked for, and whether they are a page of more."""
    if query.pattern is not None:
        if query.limit is not None or query.marker is not None:
            raise BadRequest("Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not "
                             "supported.")
        return _matching(call, query.pattern), False
    statement = sa.select(node).order_by(node.c.seq).limit(page_size(query.limit))
    if query.marker is not None:
        try:
            statement = statement.where(node.c.seq > _one(call, query.marker).seq)
        except NotFound:
            raise BadRequest(f"marker [{query.marker}] not found") from None
    return list(call.tx.all(statement)), call.version is not None and call.version >= (2, 33)


def _matching(call: Call, text: str) -> list[Any]:
    escaped = text.replace("/", "//").replace("%", "/%").replace("_", "/_")
    rows = call.tx.all(
        sa.select(node).where(node.c.name.like(f"%{escaped}%", escape="/")).order_by(node.c.seq)
    )
    if not rows:
        raise NotFound(f"No hypervisor matching '{text}' could be found.")
    return list(rows)


# The flavor as text: a cloud has few, so that each different one is read once, not once per server.
_COLUMNS = (
    server.c.host, server.c.vcpus, server.c.ram, sa.type_coerce(server.c.flavor, LongText).label("flavor"),
    server.c.task_state,
)
_SERVERS = sa.select(*_COLUMNS).where(server.c.deleted.is_(False), server.c.host.is_not(None))
_SERVERS_OF = _SERVERS.where(server.c.host == sa.bindparam("host"))
_NAMES = sa.select(server.c.host, server.c.id, server.c.name).where(
    server.c.host.in_(sa.bindparam("hosts", expanding=True)), server.c.deleted.is_(False)
).order_by(server.c.seq)


def _with_usage(call: Call, rows: list[Any], names: bool = False, sums: bool = True) -> list[_Hypervisor]:
    """The nodes, with what is used of each (`sums`) and with their servers (`names`)."""
    used = _usage(call, rows) if sums else defaultdict[str, _Usage](_Usage)
    if names and rows:
        for row in call.tx.all(_NAMES, {"hosts": [row.name for row in rows]}):
            used[row.host].names.append({"uuid": row.id, "name": row.name})
    now = moment(call.cloud)
    return [
        _Hypervisor(row, nodes.facts_of(row), nodes.is_up(row, now), used[row.name],
                    call.cloud.settings.reserved_memory)
        for row in rows
    ]


def _usage(call: Call, rows: list[Any]) -> defaultdict[str, _Usage]:
    """What the servers of one node take, or those of all nodes."""
    used: defaultdict[str, _Usage] = defaultdict(_Usage)
    one = len(rows) == 1
    disks: dict[str, int] = {}
    found: Any = call.tx.all(_SERVERS_OF if one else _SERVERS, {"host": rows[0].name} if one else None)
    for host, vcpus, ram, flavor, task in found:
        usage = used[host]
        usage.servers += 1
        usage.vcpus += vcpus
        usage.ram += ram
        disk = disks.get(flavor)
        if disk is None:
            facts = msgspec.json.decode(flavor)
            disk = disks[flavor] = facts.get("disk", 0) + facts.get("ephemeral", 0)
        usage.disk += disk
        usage.busy += task is not None
    return used


def _with_servers(
    items: list[dict[str, Any]], found: list[_Hypervisor], call: Call, asked: bool | str
) -> list[dict[str, Any]]:
    if as_bool(asked):
        always = call.version is not None and call.version >= (2, 75)
        for item, hypervisor in zip(items, found, strict=True):
            if hypervisor.usage.names or always:
                item["servers"] = hypervisor.usage.names
    return items


def _key(call: Call, row: Any) -> Any:
    return row.id if call.version is not None and call.version >= (2, 53) else row.seq


def _one(call: Call, wanted: str) -> Any:
    row = None
    if call.version is not None and call.version >= (2, 53):
        if not is_uuid(wanted):
            raise BadRequest(f"Invalid uuid {wanted}.")
        row = call.tx.first(sa.select(node).where(node.c.id == wanted))
    elif wanted.isascii() and wanted.isdigit() and len(wanted) <= 18:
        row = call.tx.first(sa.select(node).where(node.c.seq == int(wanted)))
    if row is None:
        raise NotFound(f"Hypervisor with ID '{wanted}' could not be found.")
    return row


def show(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/{hypervisor_id}: 200."""
    asked = call.query.with_servers if isinstance(call.query, HypervisorOne) else False
    found = _with_usage(call, [_one(call, call.params["hypervisor_id"])], as_bool(asked))
    return {
        "hypervisor": _with_servers(_DETAIL.render_all(found, call.version), found, call, asked)[0]
    }


def brief(call: Call) -> dict[str, Any]:
    """One hypervisor as the list shows it. Raises NotFound, BadRequest."""
    found = _with_usage(call, [_one(call, call.params["hypervisor_id"])], sums=False)
    return _INDEX.render_all(found, call.version)[0]


def search(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/{hypervisor_id}/search up to 2.52, where the id is a part of names: 200."""
    return {"hypervisors": _INDEX.render_all(
        _with_usage(call, _matching(call, call.params["hypervisor_id"]), sums=False), call.version
    )}


def servers(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/{hypervisor_id}/servers up to 2.52: 200."""
    found = _with_usage(call, _matching(call, call.params["hypervisor_id"]), names=True, sums=False)
    return {"hypervisors": _with_servers(_INDEX.render_all(found, call.version), found, call, True)}


def statistics(call: Call) -> dict[str, Any]:
    """GET /os-hypervisors/statistics up to 2.87: 200, the sums over all enabled hypervisors."""
    found = _with_usage(call, list(call.tx.all(sa.select(node).where(node.c.disabled.is_(False)))))
    sums = {field.name: sum(field.get(item) for item in found) for field in _SUMS}
    return {"hypervisor_statistics": {"count": len(found), **sums}}
