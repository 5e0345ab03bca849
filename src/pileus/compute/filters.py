"""Filters of server lists, as clauses. Which ones a caller may use depends on who asks, and on the version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from pileus.compute import patterns, states
from pileus.compute.tables import server, server_tag
from pileus.network import ports
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Forbidden
from pileus.world import parse_iso

Clause = sa.ColumnElement[bool]

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE = frozenset({"0", "f", "false", "off", "n", "no"})

_EXACT: dict[str, sa.Column[Any]] = {
    "uuid": server.c.id, "user_id": server.c.user_id, "project_id": server.c.project_id,
    "tenant_id": server.c.project_id, "image": server.c.image_id, "image_ref": server.c.image_id,
    "flavor": server.c.flavor_id, "host": server.c.host, "node": server.c.host,
    "reservation_id": server.c.reservation_id, "key_name": server.c.key_name, "vm_state": server.c.vm_state,
    "task_state": server.c.task_state, "availability_zone": server.c.zone, "locked_by": server.c.locked_by,
    "access_ip_v4": server.c.access_ip_v4, "access_ip_v6": server.c.access_ip_v6,
    "auto_disk_config": server.c.disk_config,
}
_NUMBER: dict[str, sa.Column[Any]] = {
    "launch_index": server.c.launch_index, "power_state": server.c.power_state, "progress": server.c.progress,
}
_TIMES: dict[str, sa.Column[Any]] = {
    "created_at": server.c.created, "launched_at": server.c.launched, "terminated_at": server.c.terminated,
}
_PATTERN: dict[str, sa.Column[Any]] = {
    "name": server.c.name, "display_name": server.c.name, "description": server.c.description,
    "display_description": server.c.description, "hostname": server.c.hostname,
}
_TAGS = ("tags", "tags-any", "not-tags", "not-tags-any")
_JOINED = frozenset({
    "block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices",
})
_PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir"})
_OTHER = frozenset({
    "status", "changes-since", "changes-before", "all_tenants", "deleted", "soft_deleted", "ip", "ip6", "locked",
    "config_drive", "kernel_id", "ramdisk_id", "root_device_name",
})
_KNOWN = _PAGING | _OTHER | set(_EXACT) | set(_NUMBER) | set(_TIMES) | set(_PATTERN) | set(_TAGS) | _JOINED

_OPEN_TO_ALL = frozenset({
    "reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants",
})
_OPEN_SINCE = (
    ((2, 5), frozenset({"ip6"})),
    ((2, 26), frozenset(_TAGS)),
    ((2, 66), frozenset({"changes-before"})),
    ((2, 73), frozenset({"locked"})),
    ((2, 83), frozenset({
        "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state",
        "task_state", "vm_state", "progress", "user_id",
    })),
)


def clauses(call: Call, kind: str) -> list[Clause] | None:
    """What the listed servers must fulfil; None when none can. Raises BadRequest, Forbidden."""
    asked = _asked(call)
    found = _scope(call, asked, kind)
    status = _status(call, asked)
    if status is None:
        return None
    found += status
    found += _changes(asked)
    for name, value in asked.items():
        found += _one(call, name, value)
    return found


def _asked(call: Call) -> dict[str, str]:
    """The filters that this caller may use; a later value of the same name wins, but for `status`."""
    version = call.version or (2, 1)
    everything = call.allows("os_compute_api:servers:allow_all_filters", project_id=call.context.project_id)
    allowed = set(_OPEN_TO_ALL)
    for since, names in _OPEN_SINCE:
        if version >= since:
            allowed |= names
    asked: dict[str, str] = {}
    for name, value in call.query_pairs:
        if name.startswith("_") or name in _JOINED:
            if everything:
                raise BadRequest(f"Invalid filter field: {name}.")
            continue
        if name not in _KNOWN and version >= (2, 75):
            raise BadRequest(f"Invalid input for query parameters: '{name}' is not known.")
        if name in _PAGING or not (name in allowed or (everything and name in _KNOWN and _exists(name, version))):
            continue
        asked[name] = f"{asked[name]},{value}" if name == "status" and name in asked else value
    return asked


def _exists(name: str, version: tuple[int, int]) -> bool:
    first = {"changes-before": (2, 66), "locked": (2, 73)} | dict.fromkeys(_TAGS, (2, 26))
    return version >= first.get(name, (2, 1))


def _scope(call: Call, asked: dict[str, str], kind: str) -> list[Clause]:
    everywhere = _flag(asked.pop("all_tenants", "0") or "1", "all_tenants")
    if everywhere:
        call.enforce(f"os_compute_api:servers:{kind}:get_all_tenants", project_id=call.context.project_id)
        return []
    asked.pop("tenant_id", None)
    asked.pop("project_id", None)
    if call.context.project_id:
        return [server.c.project_id == call.context.project_id]
    return [server.c.user_id == call.context.user_id]


def _flag(text: str, name: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise BadRequest(f"Unable to parse {name}: '{text}' is not a boolean.")
    return text.lower() in _TRUE


def _status(call: Call, asked: dict[str, str]) -> list[Clause] | None:
    """The clause of `status`, and of `deleted`, which depends on it."""
    gone = asked.pop("deleted", None)
    wanted = asked.pop("status", None)
    deleted: Clause | None = server.c.deleted.is_(gone.lower() in _TRUE) if gone is not None else None
    if deleted is None and "changes-since" not in asked and "changes-before" not in asked:
        deleted = server.c.deleted.is_(False)
    if wanted is None:
        return [deleted] if deleted is not None else []
    rows = [row for name in wanted.split(",") for row in states.of_status(name)]
    if not rows:
        if call.version is not None and call.version >= (2, 38):
            raise BadRequest("Invalid status value")
        return None
    if {vm for vm, _ in rows} == {states.DELETED}:
        if not call.context.is_admin:
            raise Forbidden("Only administrators may list deleted instances")
        return [server.c.deleted.is_(True)]
    either = sa.or_(*(_in_state(vm, tasks) for vm, tasks in rows))
    return [either] if deleted is None else [deleted, either]


def _in_state(vm: str, tasks: tuple[str, ...] | None) -> Clause:
    if tasks is not None:
        return sa.and_(server.c.vm_state == vm, server.c.task_state.in_(tasks))
    others = states.shows_by_task(vm)
    plain = server.c.vm_state == vm
    if not others:
        return plain
    return sa.and_(plain, sa.or_(server.c.task_state.is_(None), server.c.task_state.not_in(others)))


def _changes(asked: dict[str, str]) -> list[Clause]:
    since, before = asked.pop("changes-since", None), asked.pop("changes-before", None)
    first, last = _time(since, "changes-since"), _time(before, "changes-before")
    if first is not None and last is not None and last < first:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    found: list[Clause] = []
    if first is not None:
        found.append(server.c.updated >= first)
    if last is not None:
        found.append(server.c.updated < last + 1)  # the API shows whole seconds
    return found


def _time(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        return parse_iso(text.replace(" ", "+"))  # "+" in a query is a blank
    except (ValueError, OverflowError):
        raise BadRequest(f"Invalid input for query parameters {name}. Value: {text}. It is not a date-time.") from None


def _one(call: Call, name: str, value: str) -> list[Clause]:
    if name in _EXACT:
        return [_EXACT[name].is_(None)] if value == "None" else [_EXACT[name] == value]
    if name in _NUMBER:
        if not value.lstrip("-").isdigit() or len(value) > 9:
            raise BadRequest(f"Invalid input for query parameters {name}. Value: {value}. It is not a number.")
        return [_NUMBER[name] == int(value)]
    if name in _TIMES:
        moment = _time(value, name)
        return [] if moment is None else [_TIMES[name] >= int(moment), _TIMES[name] < int(moment) + 1]
    if name in _PATTERN:
        return [_matching(call, _PATTERN[name], value)]
    if name in _TAGS:
        return [_tagged(name, [tag for tag in value.split(",") if tag])]
    return _SPECIAL[name](call, value) if name in _SPECIAL else []


def _matching(call: Call, column: sa.Column[Any], text: str) -> Clause:
    """Regular expressions differ between databases, so that those that are more than a word are tried here."""
    if patterns.is_plain(text):
        return column.icontains(text, autoescape=True)
    test = patterns.compile_bounded(text)
    statement = sa.select(server.c.id, column).where(server.c.deleted.is_(False), column.is_not(None))
    if not call.context.is_admin:
        statement = statement.where(server.c.project_id == call.context.project_id)
    return server.c.id.in_([row[0] for row in call.tx.all(statement) if test.search(str(row._mapping[column]))])


def _tagged(name: str, tags: list[str]) -> Clause:
    each = [
        sa.exists().where(server_tag.c.server_id == server.c.id, server_tag.c.name == tag)
        for tag in dict.fromkeys(tags)
    ]
    if not each:
        return sa.true()
    both = sa.or_(*each) if name.endswith("any") else sa.and_(*each)
    return sa.not_(both) if name.startswith("not") else both


def _by_ip(version: int) -> Callable[[Call, str], list[Clause]]:
    def clause(call: Call, value: str) -> list[Clause]:
        patterns.compile_bounded(value)
        project = None if call.context.is_admin else call.context.project_id
        return [server.c.id.in_(ports.server_ids_by_ip(call.tx, project, value, version))]

    return clause


def _locked(call: Call, value: str) -> list[Clause]:
    return [server.c.locked.is_(_flag(value, "locked"))]


def _config_drive(call: Call, value: str) -> list[Clause]:
    return [server.c.config_drive.is_(value.lower() in _TRUE)]


_SPECIAL = {"ip": _by_ip(4), "ip6": _by_ip(6), "locked": _locked, "config_drive": _config_drive}
