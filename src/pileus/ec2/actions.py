"""All of EC2's actions on one screen, and how a request becomes one.

A plain handler runs in the one transaction in which the signature is checked too; a coroutine gets `enter`, which runs
a part of it in such a transaction.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pileus.ec2 import (
    addresses,
    consoles,
    forms,
    images,
    instance_types,
    instances,
    keypairs,
    permissions,
    regions,
    run_instances,
    security_groups,
    tags,
    vpcs,
    xml,
)
from pileus.ec2 import schemas as s
from pileus.ec2.faults import refused, translated, tried
from pileus.identity import ec2_tokens, signatures
from pileus.web.call import Call, Reply
from pileus.web.errors import Problem

Enter = Callable[..., Awaitable[Any]]

NEWEST = "2016-11-15"
"""The version whose answers these are; older ones are taken, for they have less and not something else."""

_DATE = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True)
class Action:
    """One action: what it takes, and whether it changes anything."""

    handler: Callable[..., Any]
    params: Any
    write: bool = True


def _read(handler: Callable[..., Any], params: Any) -> Action:
    return Action(handler, params, write=False)


# Volumes have no row until there is a room of them: an action that is not here is an InvalidAction.
ACTIONS: dict[str, Action] = {
    # places
    "DescribeRegions": _read(regions.describe_regions, s.DescribeRegions),
    "DescribeAvailabilityZones": _read(regions.describe_zones, s.DescribeAvailabilityZones),
    "DescribeVpcs": _read(vpcs.describe_vpcs, s.DescribeVpcs),
    "DescribeSubnets": _read(vpcs.describe_subnets, s.DescribeSubnets),
    # images and types
    "DescribeImages": _read(images.describe, s.DescribeImages),
    "DescribeInstanceTypes": _read(instance_types.describe, s.DescribeInstanceTypes),
    # instances
    "RunInstances": Action(run_instances.run, s.RunInstances),
    "DescribeInstances": _read(instances.describe, s.DescribeInstances),
    "DescribeInstanceAttribute": _read(instances.attribute, s.DescribeInstanceAttribute),
    "StartInstances": Action(instances.start, s.Instances),
    "StopInstances": Action(instances.stop, s.StopInstances),
    "RebootInstances": Action(instances.reboot, s.Instances),
    "TerminateInstances": Action(instances.terminate, s.Instances),
    "GetConsoleOutput": _read(consoles.output, s.GetConsoleOutput),
    # key pairs
    "CreateKeyPair": Action(keypairs.create, s.CreateKeyPair),
    "ImportKeyPair": Action(keypairs.import_key, s.ImportKeyPair),
    "DescribeKeyPairs": _read(keypairs.describe, s.DescribeKeyPairs),
    "DeleteKeyPair": Action(keypairs.delete, s.DeleteKeyPair),
    # security groups
    "CreateSecurityGroup": Action(security_groups.create, s.CreateSecurityGroup),
    # The project's default group is made when it is first looked for.
    "DescribeSecurityGroups": Action(security_groups.describe, s.DescribeSecurityGroups),
    "DeleteSecurityGroup": Action(security_groups.delete, s.DeleteSecurityGroup),
    "AuthorizeSecurityGroupIngress": Action(permissions.authorize_ingress, s.Permissions),
    "AuthorizeSecurityGroupEgress": Action(permissions.authorize_egress, s.Permissions),
    "RevokeSecurityGroupIngress": Action(permissions.revoke_ingress, s.Revocation),
    "RevokeSecurityGroupEgress": Action(permissions.revoke_egress, s.Revocation),
    # addresses
    "AllocateAddress": Action(addresses.allocate, s.AllocateAddress),
    "AssociateAddress": Action(addresses.associate, s.AssociateAddress),
    "DisassociateAddress": Action(addresses.disassociate, s.DisassociateAddress),
    "ReleaseAddress": Action(addresses.release, s.ReleaseAddress),
    "DescribeAddresses": _read(addresses.describe, s.DescribeAddresses),
    # tags
    "CreateTags": Action(tags.create, s.CreateTags),
    "DeleteTags": Action(tags.delete, s.DeleteTags),
    "DescribeTags": _read(tags.describe, s.DescribeTags),
}


async def act(call: Call) -> Reply:
    """GET and POST: 200. The parameter Action says what; the signature says who, and is checked before anything."""
    try:
        return await _act(call)
    except Problem as problem:
        raise translated(problem) from problem


async def _act(call: Call) -> Reply:
    data = await forms.body(call)
    form = forms.pairs(data)
    claim = _claim(call, form, data)

    async def enter(work: Callable[[], Any], write: bool = True) -> Any:
        return await call.db.run(lambda tx: _as_signer(call, tx, claim, work), write=write)

    try:
        name, version, params = _asked(forms.single(call.query_pairs + form))
    except Problem:
        await enter(lambda: None, False)  # whoever has not signed learns nothing else
        raise
    action = ACTIONS[name]
    if inspect.iscoroutinefunction(action.handler):
        content = await action.handler(call, params, enter)
    else:
        content = await enter(lambda: _plain(call, action, params), action.write)
    answer = {"requestId": call.request_id, **content}
    body = xml.document(f"{name}Response", answer, xml.NAMESPACE.format(version=version))
    return Reply(body, media=xml.MEDIA)


def _asked(given: dict[str, str]) -> tuple[str, str, Any]:
    """Action, version and parameters. Raises BadRequest for what there is not."""
    name, version = given.pop("Action", ""), given.pop("Version", NEWEST)
    if not _DATE.fullmatch(version) or version > NEWEST:
        raise refused("NoSuchVersion", f"The version '{version[:32]}' is not known; there are those up to {NEWEST}.")
    if name not in ACTIONS:
        raise refused("InvalidAction", f"The action '{name[:64]}' is not valid for this web service.")
    return name, version, forms.decode(ACTIONS[name].params, given)


def _claim(call: Call, form: forms.Pairs, data: bytes) -> signatures.Claim:
    """What the signature claims. Raises Malformed, and Mismatch for one that was made for another service."""
    claim = signatures.read(signatures.Request(
        verb=call.method, host=call.headers.get("host", ""), path=call.whole_path, params=call.query_pairs, form=form,
        headers=call.headers, body_hash=hashlib.sha256(data).hexdigest(),
    ))
    if claim.scope and claim.scope[2] != "ec2":
        raise signatures.Mismatch("Credential should be scoped to correct service: 'ec2'.")
    return claim


def _as_signer(call: Call, tx: Any, claim: signatures.Claim, work: Callable[[], Any]) -> Any:
    call.tx = tx
    try:
        call.context = ec2_tokens.context_of(tx, call, claim)
        return work()
    finally:
        call.tx = None


def _plain(call: Call, action: Action, params: Any) -> Any:
    content = action.handler(call, params)
    tried(params)
    return content
