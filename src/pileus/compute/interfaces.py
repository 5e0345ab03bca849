"""`/servers/{id}/os-interface`: ports put on servers and taken off; and the fixed addresses of old (2.43)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from pileus.compute import instance_actions, nics, orders, servers, states
from pileus.compute.schemas import AddFixedIp, NetworkWish, NewInterface, RemoveFixedIp
from pileus.network import ports
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound
from pileus.web.views import Field, View

if TYPE_CHECKING:
    from pileus.network.ports import PortInfo

_RULE = "os_compute_api:os-attach-interfaces:"


class _Shown(msgspec.Struct, frozen=True):
    port: Any
    tag: str | None


_VIEW = View(
    Field("net_id", "port.network_id"),
    Field("port_id", "port.id"),
    Field("mac_addr", "port.mac"),
    Field("port_state", "port.status"),
    Field("fixed_ips", lambda s: [{"subnet_id": i, "ip_address": a} for i, a in s.port.fixed_ips]),
    Field("tag", since=(2, 70)),
)


def _show(call: Call, row: Any, port: PortInfo) -> dict[str, Any]:
    return _VIEW.render(_Shown(port, row.nic_tags.get(port.id)), call.version)


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-interface: 200."""
    row = servers.get(call, call.params["server_id"], _RULE + "list")
    return {"interfaceAttachments": [_show(call, row, port) for port in servers.ports_of(call, row)]}


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/os-interface/{port_id}: 200."""
    row = servers.get(call, call.params["server_id"], _RULE + "show")
    return {"interfaceAttachment": _show(call, row, _of(call, row))}


def _of(call: Call, row: Any) -> PortInfo:
    port_id = call.params["port_id"]
    for port in servers.ports_of(call, row):
        if port.id == port_id:
            return port
    raise NotFound(f"Instance {row.id} does not have a port with id {port_id}")


def attach(call: Call) -> dict[str, Any]:
    """POST /servers/{server_id}/os-interface: 200. The port is there at once; it is ACTIVE once the guest has it."""
    row = servers.check_action(
        call, call.params["server_id"], _RULE + "create", "attach_interface"
    )
    asked = call.body.wish or NewInterface()
    address = None if asked.fixed_ips is UNSET else asked.fixed_ips[0].ip_address
    if asked.net_id and asked.port_id:
        raise BadRequest("Must not input both network_id and port_id")
    if address and not asked.net_id:
        raise BadRequest("Must input network_id when request IP address")
    orders.check_up(call, row)
    plan = _plan(call, asked, address)
    wired = nics.wire(
        call, plan, server_id=row.id, host=row.host, zone=row.zone or "", hostname=row.hostname,
        groups=None,
    )
    servers.change(
        call.tx, row.id, call.now, own_ports=[*row.own_ports, *wired.own], nic_tags={**row.nic_tags, **wired.tags}
    )
    row = servers.held(call.tx, row.id)
    assert row is not None
    port = wired.ports[0]
    instance_actions.begin(call, row.id, "attach_interface", "compute_attach_interface", row.host)
    described = orders.described(call.tx, call.cloud, row)
    orders.send(
        call.tx, call.cloud, row, "attach_nic", request_id=call.request_id, spec=described, port_id=port.id
    )
    return {"interfaceAttachment": _show(call, row, port)}


def _plan(call: Call, asked: NewInterface, address: str | None) -> list[nics.Nic]:
    tag = asked.tag
    if asked.port_id is None and asked.net_id is None:
        plan = nics.plan(call, "auto", 1)
        return [msgspec.structs.replace(plan[0], tag=None if tag is UNSET else tag)]
    wish = NetworkWish(uuid=asked.net_id, port=asked.port_id, fixed_ip=address, tag=tag)
    try:
        return nics.plan(call, [wish], 1)
    except BadRequest as error:
        if "could not be found" in error.message:
            raise NotFound(error.message) from None
        raise


def detach(call: Call) -> None:
    """DELETE /servers/{server_id}/os-interface/{port_id}: 202."""
    row = servers.check_action(
        call, call.params["server_id"], _RULE + "delete", "detach_interface"
    )
    port = _of(call, row)
    orders.check_up(call, row)
    instance_actions.begin(call, row.id, "detach_interface", "compute_detach_interface", row.host)
    orders.send(call.tx, call.cloud, row, "detach_nic", request_id=call.request_id, port_id=port.id)


# -- addFixedIp and removeFixedIp, up to 2.43


def add_fixed_ip(call: Call, row: Any, value: AddFixedIp) -> None:
    """addFixedIp: 202. One more address for the server's port on that network."""
    states.require(call.context, row, "addSecurityGroup", "addFixedIp")
    for port in servers.ports_of(call, row):
        if port.network_id == str(value.network):
            ports.add_fixed_ip(call.tx, call.cloud, port.id)
            return
    raise BadRequest(f"Instance {row.id} has no port on network {value.network}.")


def remove_fixed_ip(call: Call, row: Any, value: RemoveFixedIp) -> None:
    """removeFixedIp: 202."""
    states.require(call.context, row, "addSecurityGroup", "removeFixedIp")
    for port in servers.ports_of(call, row):
        if any(address == value.address for _, address in port.fixed_ips):
            ports.remove_fixed_ip(call.tx, call.cloud, port.id, value.address)
            return
    raise BadRequest(f"Fixed IP {value.address} not found for instance {row.id}.")
