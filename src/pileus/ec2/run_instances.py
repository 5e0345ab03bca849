"""RunInstances: a server by the same way as POST /servers of compute, in the same transaction as its tags."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.compute import create, keypairs, lifecycle, servers
from pileus.compute import states as compute_states
from pileus.compute.schemas import GroupName, NetworkWish, NewServer, NewServerBody
from pileus.ec2 import ids, images, instance_types, instance_views, instances, security_groups, tags, vpcs
from pileus.ec2.faults import refused
from pileus.ec2.schemas import RunInstances
from pileus.ec2.tables import client_token
from pileus.web.call import Call
from pileus.web.errors import NotFound, OverQuota

_NAME = "Name"
_UNNAMED = "ec2-instance"


def run(call: Call, params: RunInstances) -> dict[str, Any]:
    """RunInstances. The same ClientToken makes nothing twice."""
    if params.min_count > params.max_count:
        raise refused("InvalidParameterCombination", "MinCount may not be greater than MaxCount")
    digest = _digest(params)
    known = _known(call, params.client_token, digest)
    made = known if known is not None else _make(call, params, digest)
    found = instances.of_caller(call, made, 0.0)
    if not found:
        raise refused("InvalidClientToken", "What this ClientToken has made is terminated, and forgotten")
    return instance_views.reservation(found)


def _digest(params: RunInstances) -> str:
    plain = msgspec.structs.replace(params, client_token=None, dry_run=False)
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _known(call: Call, token: str | None, digest: str) -> list[str] | None:
    """The servers that this token has made before; None when it is new. Raises BadRequest when it made others."""
    if token is None:
        return None
    call.tx.serialize(f"ec2 token {call.context.project_id} {token}")
    c = client_token.c
    row = call.tx.first(
        sa.select(client_token).where(c.project_id == call.context.project_id, c.token == token)
    )
    if row is None:
        return None
    if row.digest != digest:
        raise refused("IdempotentParameterMismatch", "The ClientToken was used before, with other parameters")
    made: list[str] = row.server_ids
    return made


def _make(call: Call, params: RunInstances, digest: str) -> list[str]:
    wanted = tags.asked(params.tag_specification, "instance")
    image_id = ids.read(ids.IMAGE, params.image_id)
    if not images.of_caller(call, [image_id]):
        raise ids.missing(ids.IMAGE, params.image_id)
    subnet = _subnet(call, params)
    body = NewServerBody(server=NewServer(
        name=wanted.get(_NAME, "").strip() or _UNNAMED, flavor=instance_types.of_name(call, params.instance_type).id,
        image=image_id, networks=[NetworkWish(uuid=subnet.vpc.network.id, fixed_ip=params.private_ip_address)],
        availability_zone=_zone(params), key_name=_key(call, params), min_count=params.min_count,
        max_count=params.max_count, security_groups=_groups(call, params), user_data=params.user_data,
    ))
    try:
        made = create.make(call, body, subnet.subnet.id).ids
    except OverQuota as problem:
        raise refused("InstanceLimitExceeded", problem.message) from None
    made = _placed(call, made, params.min_count)
    for identity in made:
        tags.put(call, "instance", identity, wanted)
    if params.client_token is not None:
        call.tx.execute(client_token.insert(), {
            "project_id": call.context.project_id, "token": params.client_token, "digest": digest,
            "server_ids": made, "created": call.now,
        })
    return made


def _placed(call: Call, made: list[str], least: int) -> list[str]:
    """Those that found a node; the others are not left behind in error, as compute's users know it.

    Raises BadRequest, which undoes all, where fewer than `least` did."""
    rows = [servers.any_row(call.tx, identity) for identity in made]
    failed = [row for row in rows if row is not None and row.vm_state == compute_states.ERROR]
    if len(made) - len(failed) < least:
        raise refused("InsufficientInstanceCapacity", failed[0].fault["message"])
    for row in failed:
        lifecycle.bury(call.tx, call.cloud, row, call.now)
    lost = {row.id for row in failed}
    return [identity for identity in made if identity not in lost]


def _subnet(call: Call, params: RunInstances) -> vpcs.Subnet:
    """The subnet asked for, or the first of the only network. Raises BadRequest."""
    found = vpcs.subnets_of_caller(call)
    if params.subnet_id is not None:
        return ids.chosen(ids.SUBNET, [params.subnet_id], {one.id: one for one in found})[0]
    usual = [one for one in found if one.vpc.default]
    if not usual:
        raise refused("VPCIdNotSpecified", "There is not just one network to take: name a SubnetId")
    return usual[0]


def _zone(params: RunInstances) -> str | None:
    zone = params.placement.availability_zone
    if zone is not None and ":" in zone:
        raise refused("InvalidParameterValue", f"Invalid availability zone: [{zone}]")
    return zone


def _key(call: Call, params: RunInstances) -> str | None:
    if params.key_name is not None:
        try:
            keypairs.find(call.tx, call.context.user_id, params.key_name)
        except NotFound:
            raise refused("InvalidKeyPair.NotFound", f"The key pair '{params.key_name}' does not exist") from None
    return params.key_name


def _groups(call: Call, params: RunInstances) -> Any:
    """The groups by id, so that two of one name are told apart; UNSET where none is named."""
    named = [security_groups.one(call, group_id=text).id for text in params.security_group_id]
    named += [security_groups.one(call, group_name=text).id for text in params.security_group]
    return [GroupName(name=identity) for identity in dict.fromkeys(named)] or UNSET
