"""Flavors as instance types: the flavor's name is the type's."""

from __future__ import annotations

from typing import Any

from pileus.compute import flavors
from pileus.compute.flavors import Flavor
from pileus.ec2 import filters
from pileus.ec2.faults import refused
from pileus.ec2.filters import Known
from pileus.ec2.schemas import DescribeInstanceTypes
from pileus.web.call import Call

_KNOWN: Known[Flavor] = {
    "instance-type": lambda one: [one.name], "vcpu-info.default-vcpus": lambda one: [one.vcpus],
    "memory-info.size-in-mib": lambda one: [one.ram], "bare-metal": lambda one: [False],
    "instance-storage-info.total-size-in-gb": lambda one: [one.disk + one.ephemeral],
}


def of_name(call: Call, name: str) -> Flavor:
    """The flavor of an instance type. Raises BadRequest for one that the caller has not."""
    for found in flavors.of_caller(call):
        if found.name == name:
            return found
    raise _unknown([name])


def describe(call: Call, params: DescribeInstanceTypes) -> dict[str, Any]:
    """DescribeInstanceTypes."""
    by_name = {flavor.name: flavor for flavor in flavors.of_caller(call)}
    lacking = [name for name in params.instance_type if name not in by_name]
    if lacking:
        raise _unknown(lacking)
    wanted = [by_name[name] for name in dict.fromkeys(params.instance_type)] or list(by_name.values())
    rows = filters.select(wanted, params.filter, _KNOWN)
    shown, token = filters.page(rows, lambda one: one.name, params, bool(params.instance_type))
    return {"instanceTypeSet": [_view(one) for one in shown], "nextToken": token}


def _unknown(names: list[str]) -> Exception:
    return refused("InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(names)}]")


def _view(one: Flavor) -> dict[str, Any]:
    disk = one.disk + one.ephemeral
    return {
        "instanceType": one.name, "bareMetal": False, "vCpuInfo": {"defaultVCpus": one.vcpus},
        "memoryInfo": {"sizeInMiB": one.ram}, "instanceStorageSupported": disk > 0,
        "instanceStorageInfo": {"totalSizeInGB": disk} if disk else None,
        "supportedRootDeviceTypes": ["instance-store"], "supportedUsageClasses": ["on-demand"],
    }
