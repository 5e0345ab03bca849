"""Tags: a project's own notes on its resources, and on images that it only sees. Other rooms do not know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from pileus.compute import servers
from pileus.ec2 import filters, ids
from pileus.ec2.faults import refused
from pileus.ec2.filters import Known
from pileus.ec2.ids import Kind
from pileus.ec2.schemas import CreateTags, DeleteTags, DescribeTags, TagSpecification
from pileus.ec2.tables import tag
from pileus.image import listing
from pileus.network import belongings, networks
from pileus.web.call import Call

REMEMBERED = 3600.0
"""Seconds for which a terminated instance is still shown, and has its tags."""

_MOST = 50
_CHUNK = 5000


class _Taggable(msgspec.Struct, frozen=True):
    kind: Kind
    rule: str  # that the caller must pass in his project to write tags
    there: Callable[[Call, list[str]], Iterable[str]]  # which of these he sees


def _networks(call: Call, named: list[str]) -> list[str]:
    return [found.id for found in networks.usable(call.tx, call.context)]


def _subnets(call: Call, named: list[str]) -> list[str]:
    return [subnet.id for found in networks.usable(call.tx, call.context) for subnet in found.subnets]


_TAGGABLE = {
    "instance": _Taggable(
        ids.INSTANCE, "os_compute_api:os-server-tags:update",
        lambda call, named: [row.id for row in servers.of_project(call, call.now - REMEMBERED, named)],
    ),
    "image": _Taggable(
        ids.IMAGE, "modify_image", lambda call, named: [info.id for info in listing.of_caller(call, named)]
    ),
    "security-group": _Taggable(
        ids.GROUP, "update_tags", lambda call, named: [group.id for group in belongings.groups(call)]
    ),
    "elastic-ip": _Taggable(
        ids.ADDRESS, "update_tags", lambda call, named: [address.id for address in belongings.addresses(call)]
    ),
    "vpc": _Taggable(ids.VPC, "update_tags", _networks),
    "subnet": _Taggable(ids.SUBNET, "update_tags", _subnets),
}
"""What can be tagged, by EC2's name for it."""


# -- for other modules


def of(call: Call, resources: Sequence[str]) -> dict[str, dict[str, str]]:
    """The project's tags on resources, by UUID; those without any are not in it."""
    found: dict[str, dict[str, str]] = {}
    mine = sa.select(tag).where(tag.c.project_id == call.context.project_id).order_by(tag.c.key)
    for at in range(0, len(resources), _CHUNK):
        for row in call.tx.all(mine.where(tag.c.resource_id.in_(resources[at : at + _CHUNK]))):
            found.setdefault(row.resource_id, {})[row.key] = row.value
    return found


def view(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """A `tagSet`."""
    return [{"key": key, "value": value} for key, value in tags.items()]


def asked(given: Sequence[TagSpecification], kind: str) -> dict[str, str]:
    """The tags that a new resource of this kind shall have. Raises BadRequest for those of another kind."""
    found: dict[str, str] = {}
    for one in given:
        if one.resource_type != kind:
            raise refused("InvalidParameterValue", f"'{one.resource_type[:80]}' is not a valid taggable resource type "
                                                   f"for this operation; '{kind}' is.")
        for pair in one.tag:
            if pair.key in found:
                raise refused("InvalidParameterValue", f"Duplicate tag key '{pair.key}' specified.")
            found[pair.key] = pair.value
    return found


def put(call: Call, kind: str, resource: str, tags: Mapping[str, str]) -> None:
    """Write tags on a resource that the caller may have. Raises Forbidden, BadRequest for too many."""
    if not tags:
        return
    project_id = call.context.project_id
    call.enforce(_TAGGABLE[kind].rule, project_id=project_id)
    for key in tags:
        if key.lower().startswith("aws:"):
            raise refused("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
    mine = sa.and_(tag.c.project_id == project_id, tag.c.resource_id == resource)
    call.tx.execute(tag.delete().where(mine, tag.c.key.in_(list(tags))))
    call.tx.execute(tag.insert(), [
        {"project_id": project_id, "resource_id": resource, "kind": kind, "key": key, "value": value}
        for key, value in tags.items()
    ])
    if (call.tx.scalar(sa.select(sa.func.count()).select_from(tag).where(mine)) or 0) > _MOST:
        raise refused("TagLimitExceeded", f"The maximum number of tags for a resource is {_MOST}.")


# -- actions


def create(call: Call, params: CreateTags) -> dict[str, Any]:
    """CreateTags: those of the same keys are overwritten."""
    wanted: dict[str, str] = {}
    for pair in params.tag:
        if pair.key in wanted:
            raise refused("InvalidParameterValue", f"Duplicate tag key '{pair.key}' specified.")
        wanted[pair.key] = pair.value
    for kind, resource in _resources(call, params.resource_id):
        put(call, kind, resource, wanted)
    return {"return": True}


def delete(call: Call, params: DeleteTags) -> dict[str, Any]:
    """DeleteTags: those of these keys, of these values where given; all where none is named."""
    for kind, resource in _resources(call, params.resource_id):
        call.enforce(_TAGGABLE[kind].rule, project_id=call.context.project_id)
        mine = tag.delete().where(tag.c.project_id == call.context.project_id, tag.c.resource_id == resource)
        if not params.tag:
            call.tx.execute(mine)
        for one in params.tag:
            same = [tag.c.key == one.key] + ([] if one.value is None else [tag.c.value == one.value])
            call.tx.execute(mine.where(*same))
    return {"return": True}


def _resources(call: Call, named: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and UUID of resources that the caller sees. Raises BadRequest for any other."""
    by_prefix = {one.kind.prefix: name for name, one in _TAGGABLE.items()}
    found: dict[str, list[tuple[str, str]]] = {}
    for text in dict.fromkeys(named):
        name = by_prefix.get(text.partition("-")[0])
        if name is None:
            raise refused("InvalidID", f"The ID '{text[:80]}' is not valid: {', '.join(sorted(_TAGGABLE))} have tags")
        found.setdefault(name, []).append((text, ids.read(_TAGGABLE[name].kind, text)))
    for name, pairs in found.items():
        there = set(_TAGGABLE[name].there(call, [resource for _, resource in pairs]))
        for text, resource in pairs:
            if resource not in there:
                raise ids.missing(_TAGGABLE[name].kind, text)
    return [(name, resource) for name, pairs in found.items() for _, resource in pairs]


_KNOWN: Known[Any] = {
    "key": lambda row: [row.key], "value": lambda row: [row.value], "resource-type": lambda row: [row.kind],
    "resource-id": lambda row: [_id(row)],
}


def _id(row: Any) -> str:
    return ids.write(_TAGGABLE[row.kind].kind, row.resource_id)


def describe(call: Call, params: DescribeTags) -> dict[str, Any]:
    """DescribeTags: of what there still is."""
    rows = call.tx.all(sa.select(tag).where(tag.c.project_id == call.context.project_id))
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row.kind, []).append(row.resource_id)
    there = {one for kind, known in named.items() for one in _TAGGABLE[kind].there(call, list(dict.fromkeys(known)))}
    live = [row for row in rows if row.resource_id in there]
    found = filters.select(live, params.filter, _KNOWN, lambda row: {row.key: row.value})
    shown, token = filters.page(found, lambda row: f"{_id(row)} {row.key}", params)
    return {
        "tagSet": [
            {"resourceId": _id(row), "resourceType": row.kind, "key": row.key, "value": row.value} for row in shown
        ],
        "nextToken": token,
    }
