"""Floating IPs as elastic ones: allocated from the external network, led to a port, given back."""

from __future__ import annotations

from typing import Any

from pileus.ec2 import filters, ids, instances, tags
from pileus.ec2.faults import refused
from pileus.ec2.filters import Known
from pileus.ec2.schemas import (
    AllocateAddress,
    AssociateAddress,
    DescribeAddresses,
    DisassociateAddress,
    ReleaseAddress,
)
from pileus.network import belongings, floating_ips, ports
from pileus.network.belongings import AddressInfo
from pileus.network.ports import PortInfo
from pileus.network.schemas import FloatingIpChange, FloatingIpNew
from pileus.web.call import Call
from pileus.web.errors import NotFound


def _id(one: AddressInfo) -> str:
    return ids.write(ids.ADDRESS, one.id)


def _association(one: AddressInfo) -> str | None:
    return ids.write(ids.ASSOCIATION, one.id) if one.port_id else None


def _instance(one: AddressInfo) -> str | None:
    return ids.write(ids.INSTANCE, one.server_id) if one.server_id else None


def _interface(one: AddressInfo) -> str | None:
    return ids.write(ids.INTERFACE, one.port_id) if one.port_id else None


_KNOWN: Known[AddressInfo] = {
    "allocation-id": lambda one: [_id(one)], "association-id": lambda one: [_association(one)],
    "public-ip": lambda one: [one.address], "private-ip-address": lambda one: [one.fixed_address],
    "instance-id": lambda one: [_instance(one)], "network-interface-id": lambda one: [_interface(one)],
    "domain": lambda one: ["vpc"],
}


def describe(call: Call, params: DescribeAddresses) -> dict[str, Any]:
    """DescribeAddresses."""
    found = belongings.addresses(call)
    wanted = ids.chosen(ids.ADDRESS, params.allocation_id, {_id(one): one for one in found})
    if params.public_ip:
        by_address = {one.address: one for one in found}
        for address in params.public_ip:
            if address not in by_address:
                raise _no_address(address)
        chosen = wanted if params.allocation_id else []
        wanted = [one for one in found if one.address in params.public_ip or one in chosen]
    marked = tags.of(call, [one.id for one in found])
    shown = filters.select(wanted, params.filter, _KNOWN, lambda one: marked.get(one.id, {}))
    return {"addressesSet": [
        {
            "publicIp": one.address, "allocationId": _id(one), "domain": "vpc", "instanceId": _instance(one),
            "associationId": _association(one), "networkInterfaceId": _interface(one),
            "networkInterfaceOwnerId": call.context.project_id if one.port_id else None,
            "privateIpAddress": one.fixed_address, "tagSet": tags.view(marked.get(one.id, {})),
        }
        for one in shown
    ]}


def allocate(call: Call, params: AllocateAddress) -> dict[str, Any]:
    """AllocateAddress: from the external network that the project's routers lead to, or else the default one."""
    wanted = tags.asked(params.tag_specification, "elastic-ip")
    outside = belongings.external_networks(call)
    if not outside:
        raise refused("InsufficientAddressCapacity", "There is no external network to take an address from")
    made = floating_ips.make(call, FloatingIpNew(floating_network_id=outside[0]))
    tags.put(call, "elastic-ip", made, wanted)
    [one] = [address for address in belongings.addresses(call) if address.id == made]
    return {"publicIp": one.address, "domain": "vpc", "allocationId": _id(one)}


def associate(call: Call, params: AssociateAddress) -> dict[str, Any]:
    """AssociateAddress: with an instance's first port, or the one that has the private address, or a port."""
    one = _one(call, params.allocation_id, params.public_ip)
    if (params.instance_id is None) == (params.network_interface_id is None):
        raise refused("InvalidParameterCombination", "Name either an InstanceId or a NetworkInterfaceId")
    port = _port(call, params)
    if one.port_id and one.port_id != port.id and not params.allow_reassociation:
        raise refused("Resource.AlreadyAssociated", f"resource {_id(one)} is already associated with associate-id "
                                                    f"{_association(one)}")
    floating_ips.change(call, one.id, FloatingIpChange(port_id=port.id, fixed_ip_address=_private(port, params)))
    return {"return": True, "associationId": ids.write(ids.ASSOCIATION, one.id)}


def _private(port: PortInfo, params: AssociateAddress) -> str:
    held = [ip for _, ip in port.fixed_ips if ":" not in ip]
    if params.private_ip_address is not None and params.private_ip_address not in held:
        raise refused("InvalidParameterValue", f"The address {params.private_ip_address} is not assigned to the "
                                               "interface")
    if not held:
        raise refused("InvalidParameterValue", "The interface has no IPv4 address")
    return params.private_ip_address or held[0]


def _port(call: Call, params: AssociateAddress) -> PortInfo:
    if params.network_interface_id is not None:
        identity = ids.read(ids.INTERFACE, params.network_interface_id)
        try:
            port = ports.visible(call.tx, call.context, identity)
        except NotFound:
            raise ids.missing(ids.INTERFACE, params.network_interface_id) from None
        if port.project_id != call.context.project_id:
            raise ids.missing(ids.INTERFACE, params.network_interface_id)
        return port
    text = params.instance_id or ""
    row = instances.find(call, text, "os_compute_api:servers:show")
    wired = ports.of_servers(call.tx, [row.id]).get(row.id, [])
    for port in wired:
        held = [ip for _, ip in port.fixed_ips if ":" not in ip]
        if params.private_ip_address in held or (held and params.private_ip_address is None):
            return port
    raise refused("InvalidInstanceID", f"The instance '{text}' has no such IPv4 address (yet)")


def disassociate(call: Call, params: DisassociateAddress) -> dict[str, Any]:
    """DisassociateAddress."""
    if params.association_id is not None and params.public_ip is None:
        identity = ids.read(ids.ASSOCIATION, params.association_id)
        found = [one for one in belongings.addresses(call) if one.id == identity]
    else:
        found = [_one(call, params.association_id, params.public_ip)]
    if not found or not found[0].port_id:
        text = params.association_id or params.public_ip or ""
        raise refused(ids.ASSOCIATION.missing, f"The association ID '{text[:80]}' does not exist")
    floating_ips.change(call, found[0].id, FloatingIpChange(port_id=None))
    return {"return": True}


def release(call: Call, params: ReleaseAddress) -> dict[str, Any]:
    """ReleaseAddress: only what leads nowhere."""
    one = _one(call, params.allocation_id, params.public_ip)
    if one.port_id:
        raise refused("InvalidIPAddress.InUse", f"Address {one.address} is in use; disassociate it first.")
    floating_ips.drop(call, one.id)
    return {"return": True}


def _one(call: Call, allocation_id: str | None, public_ip: str | None) -> AddressInfo:
    """An address of the project by one of its two names. Raises BadRequest."""
    if (allocation_id is None) == (public_ip is None):
        raise refused("MissingParameter", "Either the address or its id must be named")
    found = belongings.addresses(call)
    if allocation_id is not None:
        return ids.chosen(ids.ADDRESS, [allocation_id], {_id(one): one for one in found})[0]
    for one in found:
        if one.address == public_ip:
            return one
    raise _no_address(public_ip or "")


def _no_address(text: str) -> Exception:
    return refused("InvalidAddress.NotFound", f"Address '{text[:80]}' not found.")
