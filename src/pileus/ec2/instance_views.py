"""What an instance looks like, and what can be asked of it by filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pileus.ec2 import ids, states, tags
from pileus.ec2.filters import Known
from pileus.network.ports import PortInfo
from pileus.world import iso_z


class Instance(msgspec.Struct, frozen=True):
    """A server's row with its ports and tags."""

    row: Any
    ports: Sequence[PortInfo]
    tags: dict[str, str]

    @property
    def id(self) -> str:
        return ids.write(ids.INSTANCE, self.row.id)

    @property
    def state(self) -> str:
        return states.name(self.row)

    @property
    def image(self) -> str | None:
        return ids.write(ids.IMAGE, self.row.image_id) if self.row.image_id else None

    @property
    def private_ips(self) -> list[str]:
        return [ip for port in self.ports for ip in _v4(port)]

    @property
    def public_ips(self) -> list[str]:
        return [out for port in self.ports for _, out in port.floating_ips]


def _v4(port: PortInfo) -> list[str]:
    return [ip for _, ip in port.fixed_ips if ":" not in ip]


def _subnets(port: PortInfo) -> list[str]:
    return [ids.write(ids.SUBNET, identity) for identity, ip in port.fixed_ips if ":" not in ip]


def _vpc(port: PortInfo) -> str:
    return ids.write(ids.VPC, port.network_id)


KNOWN: Known[Instance] = {
    "instance-id": lambda one: [one.id], "image-id": lambda one: [one.image],
    "instance-state-name": lambda one: [one.state], "instance-state-code": lambda one: [states.CODES[one.state]],
    "instance-type": lambda one: [one.row.flavor["name"]], "key-name": lambda one: [one.row.key_name],
    "availability-zone": lambda one: [one.row.zone], "private-ip-address": lambda one: one.private_ips,
    "ip-address": lambda one: one.public_ips, "reservation-id": lambda one: [one.row.reservation_id],
    "owner-id": lambda one: [one.row.project_id], "launch-index": lambda one: [one.row.launch_index],
    "private-dns-name": lambda one: [one.row.hostname],
    "subnet-id": lambda one: [s for port in one.ports for s in _subnets(port)],
    "vpc-id": lambda one: [_vpc(port) for port in one.ports],
    "group-id": lambda one: [g["groupId"] for g in groups(one.ports)],
    "group-name": lambda one: [g["groupName"] for g in groups(one.ports)],
    "instance.group-id": lambda one: [g["groupId"] for g in groups(one.ports)],
    "instance.group-name": lambda one: [g["groupName"] for g in groups(one.ports)],
    "network-interface.network-interface-id": lambda one: [ids.write(ids.INTERFACE, p.id) for p in one.ports],
    "network-interface.mac-address": lambda one: [port.mac for port in one.ports],
    "root-device-type": lambda one: ["instance-store"], "tenancy": lambda one: ["default"],
}


def reservations(found: Sequence[Instance]) -> list[dict[str, Any]]:
    """A `reservationSet`: the instances by the request that made them."""
    by_request: dict[str, list[Instance]] = {}
    for one in found:
        by_request.setdefault(one.row.reservation_id, []).append(one)
    return [reservation(together) for together in by_request.values()]


def reservation(together: Sequence[Instance]) -> dict[str, Any]:
    """Instances of one request."""
    row = together[0].row
    return {
        "reservationId": row.reservation_id, "ownerId": row.project_id, "groupSet": [],
        "instancesSet": [_view(one) for one in sorted(together, key=lambda one: one.row.launch_index)],
    }


def groups(ports: Sequence[PortInfo]) -> list[dict[str, str]]:
    """The security groups of ports, each once."""
    found = {
        identity: name for port in ports
        for identity, name in zip(port.security_group_ids, port.security_group_names, strict=True)
    }
    return [{"groupId": ids.write(ids.GROUP, identity), "groupName": name} for identity, name in found.items()]


def _view(one: Instance) -> dict[str, Any]:
    row = one.row
    first = next((port for port in one.ports if _v4(port)), None)
    image = row.image or {}
    kernel, ramdisk = image.get("kernel_id"), image.get("ramdisk_id")
    public = next(iter(one.public_ips), None)
    return {
        "instanceId": one.id, "imageId": one.image, "instanceState": states.view(one.state),
        "privateDnsName": row.hostname if one.ports else "", "dnsName": "",
        "reason": _reason(row) or "", "keyName": row.key_name, "amiLaunchIndex": row.launch_index, "productCodes": [],
        "instanceType": row.flavor["name"], "launchTime": iso_z(row.created),
        "placement": {"availabilityZone": row.zone or row.pinned_zone, "groupName": "", "tenancy": "default"},
        "kernelId": ids.write(ids.IMAGE, kernel) if kernel else None,
        "ramdiskId": ids.write(ids.IMAGE, ramdisk) if ramdisk else None, "monitoring": {"state": "disabled"},
        "subnetId": _subnets(first)[0] if first else None, "vpcId": _vpc(first) if first else None,
        "privateIpAddress": _v4(first)[0] if first else None, "ipAddress": public, "groupSet": groups(one.ports),
        "stateReason": {"code": "Server.InternalError", "message": reason} if (reason := _reason(row)) else None,
        "rootDeviceType": "instance-store", "rootDeviceName": "/dev/vda", "blockDeviceMapping": [],
        "virtualizationType": "hvm", "tagSet": tags.view(one.tags), "ebsOptimized": False,
        "networkInterfaceSet": [_interface(one, port, at) for at, port in enumerate(one.ports)],
    }


def _reason(row: Any) -> str | None:
    return str(row.fault["message"]) if row.fault and row.vm_state == "error" else None


def _interface(one: Instance, port: PortInfo, at: int) -> dict[str, Any]:
    v4 = _v4(port)
    out = dict(port.floating_ips)
    return {
        "networkInterfaceId": ids.write(ids.INTERFACE, port.id), "subnetId": next(iter(_subnets(port)), None),
        "vpcId": _vpc(port), "description": port.name, "ownerId": port.project_id, "status": "in-use",
        "macAddress": port.mac, "privateIpAddress": v4[0] if v4 else None, "sourceDestCheck": port.port_security,
        "groupSet": groups([port]), "attachment": {"deviceIndex": at, "status": "attached"},
        "association": _association(out.get(v4[0]), one) if v4 else None,
        "privateIpAddressesSet": [
            {"privateIpAddress": ip, "primary": ip == v4[0], "association": _association(out.get(ip), one)}
            for ip in v4
        ],
        "ipv6AddressesSet": [{"ipv6Address": ip} for _, ip in port.fixed_ips if ":" in ip],
    }


def _association(address: str | None, one: Instance) -> dict[str, Any] | None:
    return {"publicIp": address, "publicDnsName": "", "ipOwnerId": one.row.project_id} if address else None
