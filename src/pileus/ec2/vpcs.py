"""Networks as VPCs, and their IPv4 subnets: those on which the project's instances can be.

A network here has no block of addresses but its subnets', and no security group belongs to one. The VPC that is the
default one is the network that RunInstances takes by itself: the only one.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pileus.ec2 import filters, ids, tags
from pileus.ec2.filters import Known
from pileus.ec2.schemas import DescribeSubnets, DescribeVpcs
from pileus.network import belongings, networks
from pileus.network.networks import NetworkInfo, SubnetInfo
from pileus.web.call import Call


class Vpc(msgspec.Struct, frozen=True):
    """A network."""

    id: str
    network: NetworkInfo
    subnets: list[SubnetInfo]
    default: bool
    tags: dict[str, str]


class Subnet(msgspec.Struct, frozen=True):
    """A subnet of it."""

    id: str
    vpc: Vpc
    subnet: SubnetInfo
    tags: dict[str, str]


_VPC: Known[Vpc] = {
    "vpc-id": lambda one: [one.id], "cidr": lambda one: [s.cidr for s in one.subnets][:1],
    "cidr-block-association.cidr-block": lambda one: [s.cidr for s in one.subnets],
    "is-default": lambda one: [one.default], "isDefault": lambda one: [one.default],
    "owner-id": lambda one: [one.network.project_id], "state": lambda one: ["available"],
}
_SUBNET: Known[Subnet] = {
    "subnet-id": lambda one: [one.id], "vpc-id": lambda one: [one.vpc.id], "cidr-block": lambda one: [one.subnet.cidr],
    "cidrBlock": lambda one: [one.subnet.cidr], "cidr": lambda one: [one.subnet.cidr],
    "default-for-az": lambda one: [one.vpc.default], "owner-id": lambda one: [one.vpc.network.project_id],
    "state": lambda one: ["available"],
}


def of_caller(call: Call) -> list[Vpc]:
    """The networks that the caller's instances can be on."""
    call.enforce("get_network", project_id=call.context.project_id)
    found = networks.usable(call.tx, call.context)
    marked = tags.of(call, [n.id for n in found])
    return [
        Vpc(ids.write(ids.VPC, n.id), n, [s for s in n.subnets if s.ip_version == 4], len(found) == 1,
            marked.get(n.id, {}))
        for n in found
    ]


def subnets_of_caller(call: Call) -> list[Subnet]:
    """The IPv4 subnets of those networks."""
    found = of_caller(call)
    marked = tags.of(call, [s.id for vpc in found for s in vpc.subnets])
    return [
        Subnet(ids.write(ids.SUBNET, s.id), vpc, s, marked.get(s.id, {})) for vpc in found for s in vpc.subnets
    ]


def describe_vpcs(call: Call, params: DescribeVpcs) -> dict[str, Any]:
    """DescribeVpcs."""
    by_id = {vpc.id: vpc for vpc in of_caller(call)}
    wanted = ids.chosen(ids.VPC, params.vpc_id, by_id)
    rows = filters.select(wanted, params.filter, _VPC, lambda one: one.tags)
    shown, token = filters.page(rows, lambda one: one.id, params, bool(params.vpc_id))
    return {"vpcSet": [_vpc(one) for one in shown], "nextToken": token}


def _vpc(one: Vpc) -> dict[str, Any]:
    return {
        "vpcId": one.id, "ownerId": one.network.project_id, "state": "available",
        "cidrBlock": one.subnets[0].cidr if one.subnets else None,
        "cidrBlockAssociationSet": [
            {"cidrBlock": subnet.cidr, "cidrBlockState": {"state": "associated"}} for subnet in one.subnets
        ],
        "instanceTenancy": "default", "isDefault": one.default, "tagSet": tags.view(one.tags),
    }


def describe_subnets(call: Call, params: DescribeSubnets) -> dict[str, Any]:
    """DescribeSubnets."""
    by_id = {subnet.id: subnet for subnet in subnets_of_caller(call)}
    wanted = ids.chosen(ids.SUBNET, params.subnet_id, by_id)
    rows = filters.select(wanted, params.filter, _SUBNET, lambda one: one.tags)
    shown, token = filters.page(rows, lambda one: one.id, params, bool(params.subnet_id))
    free = belongings.free_addresses(call.tx, [one.subnet.id for one in shown])
    return {
        "subnetSet": [
            {
                "subnetId": one.id, "state": "available", "vpcId": one.vpc.id, "cidrBlock": one.subnet.cidr,
                "availableIpAddressCount": free.get(one.subnet.id), "ownerId": one.vpc.network.project_id,
                "defaultForAz": one.vpc.default, "mapPublicIpOnLaunch": False, "tagSet": tags.view(one.tags),
            }
            for one in shown
        ],
        "nextToken": token,
    }
