"""The ports that a server boots with: which networks, checked first, then made on the chosen node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from pileus.compute.schemas import NetworkWish
from pileus.network import networks, ports, quotas
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound, OverQuota

if TYPE_CHECKING:
    from pileus.network.networks import NetworkInfo
    from pileus.network.ports import PortInfo
    from pileus.web.call import Call

OWNER = "compute:"
"""The owner of servers' ports is this and the availability zone, as Nova writes it."""

_UUID_LENGTHS = (32, 36)


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """One interface to be: on a network, or an existing port."""

    network_id: str
    port_id: str | None = None
    fixed_ip: str | None = None
    subnet_id: str | None = None  # None: any of the network's
    tag: str | None = None


def plan(call: Call, wish: list[NetworkWish] | Literal["auto", "none"] | UnsetType, count: int) -> list[Nic]:
    """The interfaces of each of `count` servers. Raises BadRequest, Forbidden, Conflict as Nova does."""
    if wish == "none":
        return []
    if wish is UNSET and (call.version or (2, 1)) >= (2, 37):
        raise BadRequest("Invalid input for field/attribute server. 'networks' is a required property")
    if wish is UNSET or wish == "auto" or not wish:
        return _automatic(call, strict=wish == "auto")
    assert isinstance(wish, list)
    call.enforce("os_compute_api:servers:create:attach_network", project_id=call.context.project_id)
    port_ids = [one.port for one in wish if one.port]
    if len(set(port_ids)) < len(port_ids):
        raise BadRequest("A port ID was specified twice: you cannot attach a port multiple times.")
    return [_port(call, one, count) if one.port else _network(call, one, count) for one in wish]


def _automatic(call: Call, strict: bool) -> list[Nic]:
    found = networks.usable(call.tx, call.context)
    if len(found) > 1:
        raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
    if strict and not found:
        raise BadRequest(
            f"Unable to automatically allocate a network for project {call.context.project_id}: it has none; "
            "make one, or boot with networks 'none'."
        )
    return [_checked(call, one) for one in found]


def _network(call: Call, wish: NetworkWish, count: int) -> Nic:
    if wish.uuid is None:
        raise BadRequest("Bad network format: missing uuid")
    if len(wish.uuid) not in _UUID_LENGTHS or set(wish.uuid.lower()) - set("0123456789abcdef-"):
        raise BadRequest(f"Bad networks format: network uuid is not in proper format ({wish.uuid})")
    if wish.fixed_ip and count > 1:
        raise BadRequest(
            "Failed to launch instances with one fixed IP: each needs an address of its own; launch them one by one."
        )
    try:
        network = networks.get(call.tx, call.context, wish.uuid)
    except NotFound:
        raise BadRequest(f"Network {wish.uuid} could not be found.") from None
    tag = None if wish.tag is UNSET else wish.tag
    return msgspec.structs.replace(_checked(call, network), fixed_ip=wish.fixed_ip, tag=tag)


def _checked(call: Call, network: NetworkInfo) -> Nic:
    if network.external and not network.shared and not call.allows(
        "network:attach_external_network", project_id=call.context.project_id
    ):
        raise Forbidden(f"It is not allowed to create an interface on external network {network.id}")
    if not network.subnets:
        raise BadRequest(f"Network {network.id} requires a subnet in order to boot instances on.")
    return Nic(network_id=network.id)


def _port(call: Call, wish: NetworkWish, count: int) -> Nic:
    assert wish.port is not None
    if wish.fixed_ip:
        raise BadRequest(
            f"Specified Fixed IP '{wish.fixed_ip}' cannot be used with port '{wish.port}': the two cannot be "
            "specified together."
        )
    if count > 1:
        raise BadRequest(
            "Failed to launch multiple instances with a single configured port ID. Please launch your instance one "
            "by one with different ports."
        )
    port = usable_port(call, wish.port)
    return Nic(network_id=port.network_id, port_id=port.id, tag=None if wish.tag is UNSET else wish.tag)


def usable_port(call: Call, port_id: str) -> PortInfo:
    """A port that the caller may give to a server. Raises BadRequest, Conflict when it is in use."""
    try:
        port = ports.get(call.tx, port_id)
    except NotFound:
        port = None
    if port is None or (port.project_id != call.context.project_id and not call.context.is_admin):
        raise BadRequest(f"Port id {port_id} could not be found.")
    if port.device_id:
        raise Conflict(f"Port {port_id} is still in use.")
    if not port.fixed_ips:
        raise BadRequest(f"Port {port_id} requires a FixedIP in order to be used.")
    return port


def check_quota(call: Call, plan: list[Nic], count: int) -> None:
    """Raises OverQuota (403) when the project may not have as many ports as `count` servers need."""
    wanted = count * sum(nic.port_id is None for nic in plan)
    if not wanted:
        return
    try:
        quotas.room(call.tx, call.cloud, call.context.project_id or "", {"port": wanted})
    except (Conflict, OverQuota):
        raise OverQuota("Maximum number of ports exceeded") from None


class Wired(msgspec.Struct, frozen=True):
    """The ports of one server, once made."""

    ports: list[PortInfo]
    own: list[str]  # ids of those made for it
    tags: dict[str, str]


def wire(
    call: Call, plan: list[Nic], *, server_id: str, host: str, zone: str, hostname: str, groups: list[str] | None
) -> Wired:
    """Make or take the ports of a server on a node. Raises BadRequest, Conflict, OverQuota."""
    found, own, tags = [], [], {}
    for nic in plan:
        common: dict[str, Any] = {"device_id": server_id, "device_owner": OWNER + zone, "host": host}
        if nic.port_id is not None:
            port = ports.claim(call.tx, call.cloud, call.context, nic.port_id, dns_name=hostname, **common)
        else:
            port = ports.create(
                call.tx, call.cloud, call.context, network_id=nic.network_id, fixed_ip=nic.fixed_ip,
                subnet_id=nic.subnet_id, security_groups=groups, hostname=hostname, **common,
            )
            own.append(port.id)
        if nic.tag:
            tags[port.id] = nic.tag
        found.append(port)
    return Wired(found, own, tags)
