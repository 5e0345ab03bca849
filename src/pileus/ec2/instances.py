"""Instances: seeing them, and what is done to them. RunInstances is in `run_instances`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pileus.compute import lifecycle, servers
from pileus.compute.schemas import Reboot
from pileus.ec2 import filters, ids, instance_views, states, tags
from pileus.ec2.faults import refused
from pileus.ec2.instance_views import Instance
from pileus.ec2.schemas import DescribeInstanceAttribute, DescribeInstances, Instances
from pileus.network import ports
from pileus.web.call import Call
from pileus.web.errors import Conflict, NotFound

_RULE = "os_compute_api:servers:"


def of_caller(call: Call, named: Sequence[str] | None = None, since: float | None = None) -> list[Instance]:
    """The instances of the caller's project, of these UUIDs only where given; terminated ones for an hour.

    `since`: another time from which on terminated ones are seen."""
    rows = servers.of_project(call, call.now - tags.REMEMBERED if since is None else since, named)
    live = ports.of_servers(call.tx, [row.id for row in rows if not row.deleted])
    marked = tags.of(call, [row.id for row in rows])
    return [Instance(row, live.get(row.id, []), marked.get(row.id, {})) for row in rows]


def describe(call: Call, params: DescribeInstances) -> dict[str, Any]:
    """DescribeInstances: by reservation."""
    named = [ids.read(ids.INSTANCE, text) for text in params.instance_id] if params.instance_id else None
    by_id = {instance.id: instance for instance in of_caller(call, named)}
    wanted = ids.chosen(ids.INSTANCE, params.instance_id, by_id)
    rows = filters.select(wanted, params.filter, instance_views.KNOWN, lambda one: one.tags)
    shown, token = filters.page(rows, lambda one: one.id, params, bool(params.instance_id))
    return {"reservationSet": instance_views.reservations(shown), "nextToken": token}


def find(call: Call, text: str, rule: str) -> Any:
    """The row of an instance of the caller's project that is not terminated. Raises BadRequest, Forbidden."""
    return _row(call, text, lambda identity: servers.get(call, identity, rule))


def _row(call: Call, text: str, get: Callable[[str], Any]) -> Any:
    try:
        row = get(ids.read(ids.INSTANCE, text))
    except NotFound:
        raise ids.missing(ids.INSTANCE, text) from None
    if row.project_id != call.context.project_id:  # an administrator's key is for its project too
        raise ids.missing(ids.INSTANCE, text)
    return row


def attribute(call: Call, params: DescribeInstanceAttribute) -> dict[str, Any]:
    """DescribeInstanceAttribute: instanceType, userData, groupSet."""
    row = find(call, params.instance_id, _RULE + "show")
    shown: dict[str, Any] = {"instanceId": params.instance_id}
    if params.attribute == "instanceType":
        shown["instanceType"] = {"value": row.flavor["name"]}
    elif params.attribute == "userData":
        shown["userData"] = {"value": "".join(row.user_data.split()) if row.user_data else None}
    elif params.attribute == "groupSet":
        shown["groupSet"] = instance_views.groups(servers.ports_of(call, row))
    else:
        raise refused("InvalidParameterValue", f"Value ({params.attribute[:80]}) for parameter attribute is invalid; "
                                               "there are instanceType, userData and groupSet.")
    return shown


# -- what is done to them

_SETTLED = {"start": ("running", "pending"), "stop": ("stopped", "stopping"),
            "delete": ("terminated", "shutting-down")}
"""States in which there is nothing to do: a repetition is no error."""


def start(call: Call, params: Instances) -> dict[str, Any]:
    """StartInstances."""
    return _all(call, params, "start", lambda row: lifecycle.start(call, row, None))


def stop(call: Call, params: Instances) -> dict[str, Any]:
    """StopInstances."""
    return _all(call, params, "stop", lambda row: lifecycle.stop(call, row, None))


def terminate(call: Call, params: Instances) -> dict[str, Any]:
    """TerminateInstances."""
    return _all(call, params, "delete", lambda row: lifecycle.force_delete(call, row, None))


def reboot(call: Call, params: Instances) -> dict[str, Any]:
    """RebootInstances: the guest is asked, and reset where it does not follow."""
    _all(call, params, "reboot", lambda row: lifecycle.reboot(call, row, Reboot(type="SOFT")))
    return {"return": True}


class _Change(msgspec.Struct, frozen=True):
    id: str
    before: str
    after: str


def _all(call: Call, params: Instances, action: str, do: Callable[[Any], object]) -> dict[str, Any]:
    """Do it to every instance, or to none."""
    wanted = dict.fromkeys(params.instance_id)
    changes = {text: _one(call, text, action, do) for text in sorted(wanted)}  # sorted: so that no two calls deadlock
    return {"instancesSet": [
        {"instanceId": c.id, "currentState": states.view(c.after), "previousState": states.view(c.before)}
        for c in (changes[text] for text in wanted)
    ]}


def _one(call: Call, text: str, action: str, do: Callable[[Any], object]) -> _Change:
    gone = _terminated(call, ids.read(ids.INSTANCE, text))
    if gone and action == "delete":
        return _Change(text, "terminated", "terminated")
    if gone:
        raise _wrong_state(f"The instance '{text}' is terminated")
    row = _row(call, text, lambda identity: servers.hold(call, identity, _RULE + action))
    before = states.name(row)
    # A failed server counts as terminated, but is there still.
    if before not in _SETTLED.get(action, ()) or (action == "delete" and before == "terminated"):
        try:
            do(row)
        except Conflict as problem:
            raise _wrong_state(problem.message) from None
    after = servers.any_row(call.tx, row.id)
    return _Change(text, before, states.name(after) if after is not None else "terminated")


def _terminated(call: Call, identity: str) -> bool:
    found = servers.of_project(call, call.now - tags.REMEMBERED, [identity])
    return bool(found) and found[0].deleted


def _wrong_state(message: str) -> Exception:
    return refused("IncorrectInstanceState", message)
