"""Security groups of the project. They belong to it, and to no VPC."""

from __future__ import annotations

from typing import Any

from pileus.ec2 import filters, ids, permissions_view, tags
from pileus.ec2.faults import refused
from pileus.ec2.filters import Known
from pileus.ec2.permissions_view import Perm
from pileus.ec2.schemas import CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups
from pileus.network import belongings, security_groups
from pileus.network.belongings import GroupInfo
from pileus.network.schemas import SecurityGroupNew
from pileus.web.call import Call


def _id(group: GroupInfo) -> str:
    return ids.write(ids.GROUP, group.id)


def _ingress(group: GroupInfo) -> list[Perm]:
    return [p for p in map(permissions_view.perm, group.rules) if not p.egress]


_KNOWN: Known[GroupInfo] = {
    "group-id": lambda one: [_id(one)], "group-name": lambda one: [one.name], "owner-id": lambda one: [one.project_id],
    "description": lambda one: [one.description],
    "ip-permission.protocol": lambda one: [p.protocol for p in _ingress(one)],
    "ip-permission.from-port": lambda one: [p.low for p in _ingress(one)],
    "ip-permission.to-port": lambda one: [p.high for p in _ingress(one)],
    "ip-permission.cidr": lambda one: [p.prefix for p in _ingress(one)],
    "ip-permission.group-id": lambda one: [
        ids.write(ids.GROUP, p.group) for p in _ingress(one) if p.group is not None
    ],
}


def one(call: Call, *, group_id: str | None = None, group_name: str | None = None) -> GroupInfo:
    """A group of the project by id or by name. Raises BadRequest."""
    if (group_id is None) == (group_name is None):
        raise refused("MissingParameter", "The request must contain either the group's id or its name")
    found = belongings.groups(call)
    if group_id is not None:
        return ids.chosen(ids.GROUP, [group_id], {_id(group): group for group in found})[0]
    named = [group for group in found if group.name == group_name]
    if not named:
        raise refused("InvalidGroup.NotFound", f"The security group '{group_name}' does not exist")
    if len(named) > 1:
        raise refused("InvalidParameterValue", f"Several security groups are named '{group_name}'; use the id")
    return named[0]


def describe(call: Call, params: DescribeSecurityGroups) -> dict[str, Any]:
    """DescribeSecurityGroups."""
    found = belongings.groups(call)
    wanted = ids.chosen(ids.GROUP, params.group_id, {_id(group): group for group in found})
    for name in params.group_name:
        if name not in {group.name for group in found}:
            raise refused("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
    if params.group_name:
        chosen = wanted if params.group_id else []
        wanted = [g for g in found if g.name in params.group_name or g in chosen]
    marked = tags.of(call, [group.id for group in found])
    rows = filters.select(wanted, params.filter, _KNOWN, lambda group: marked.get(group.id, {}))
    shown, token = filters.page(rows, _id, params, bool(params.group_id or params.group_name))
    names = {group.id: group.name for group in found}
    return {
        "securityGroupInfo": [
            {
                "ownerId": group.project_id, "groupId": _id(group), "groupName": group.name,
                "groupDescription": group.description, "tagSet": tags.view(marked.get(group.id, {})),
                "ipPermissions": permissions_view.merged(group, names, egress=False),
                "ipPermissionsEgress": permissions_view.merged(group, names, egress=True),
            }
            for group in shown
        ],
        "nextToken": token,
    }


def create(call: Call, params: CreateSecurityGroup) -> dict[str, Any]:
    """CreateSecurityGroup: a name is there once in a project."""
    name = params.group_name
    if name.startswith("sg-"):
        raise refused("InvalidParameterValue", "A group's name may not begin with 'sg-'")
    wanted = tags.asked(params.tag_specification, "security-group")
    call.tx.serialize(f"ec2 groups {call.context.project_id}")
    if any(group.name == name for group in belongings.groups(call)) and name != "default":
        raise refused("InvalidGroup.Duplicate", f"The security group '{name}' already exists")
    made = security_groups.make(call, SecurityGroupNew(name=name, description=params.group_description))
    tags.put(call, "security-group", made, wanted)
    return {"return": True, "groupId": ids.write(ids.GROUP, made), "tagSet": tags.view(wanted)}


def delete(call: Call, params: DeleteSecurityGroup) -> dict[str, Any]:
    """DeleteSecurityGroup."""
    group = one(call, group_id=params.group_id, group_name=params.group_name)
    if group.name == "default":
        raise refused("CannotDelete", "The default security group cannot be deleted by a user")
    if any(
        rule.remote_group_id == group.id for other in belongings.groups(call) if other.id != group.id
        for rule in other.rules
    ):
        raise refused("DependencyViolation", f"The group '{group.name}' is named in another group's rules")
    security_groups.drop(call, group.id)
    return {"return": True, "groupId": _id(group)}
