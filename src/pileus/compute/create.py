"""POST /servers: everything that makes a server, from quota to task, in one transaction."""

from __future__ import annotations

import secrets
import string
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from pileus.compute import (
    block_devices,
    boot_devices,
    demand,
    flavors,
    instance_actions,
    names,
    nics,
    quotas,
    scheduler,
    scheduler_hints,
    spec,
    states,
    wishes,
    zones,
)
from pileus.compute.schemas import Fault, FlavorFacts, Hints, ImageFacts, NewServer, NewServerBody
from pileus.compute.tables import keypair, server, server_group, server_tag
from pileus.compute.versions import in_path
from pileus.compute.views import links
from pileus.network import networks, security_groups
from pileus.node.contract import ServerTask
from pileus.volume import placing
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, Forbidden, NotFound, OverQuota
from pileus.web.schemas import as_bool
from pileus.work import tasks

FORCED = "pileus:forced"
"""In a server's hints: its host was named, so that no other will do."""

_MOST_AT_ONCE = 500
_ALPHABET = "".join(c for c in string.ascii_letters + string.digits if c not in "0O1lI")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, looked up and checked: all that the servers of one request have in common."""

    asked: NewServer
    name: str
    flavor: FlavorFacts
    boot: boot_devices.Boot
    key: Any  # row of keypair, or None
    group: Any  # row of server_group, or None
    groups: list[str] | None  # ids of security groups; None: what the network gives by itself
    plan: list[nics.Nic]
    wish: scheduler.Wish
    hints: dict[str, Any]
    count: int
    reservation_id: str


class Made(msgspec.Struct, frozen=True):
    """The servers of one request."""

    ids: list[str]
    reservation_id: str


def make(call: Call, body: NewServerBody, subnet_id: str | None = None) -> Made:
    """Check, count, claim, make ports and ask the nodes to build, in the caller's transaction; for other rooms too.

    `subnet_id`: where the address of each new port is from, which POST /servers cannot say. Where no node fits, the
    server is made all the same and is in ERROR with the reason, as Nova does it."""
    order = _order(call, body)
    if subnet_id is not None:
        plan = [msgspec.structs.replace(nic, subnet_id=subnet_id) for nic in order.plan]
        order = msgspec.structs.replace(order, plan=plan)
    return Made([_make(call, order, index) for index in range(order.count)], order.reservation_id)


def create(call: Call) -> Reply:
    """POST /servers: 202, all in one commit."""
    body: NewServerBody = call.body
    made = make(call, body)
    ids = made.ids
    if as_bool(body.server.return_reservation_id):
        return Reply({"reservation_id": made.reservation_id})
    asked = body.server
    groups = asked.security_groups
    shown = [{"name": "default"}] if groups is UNSET else [{"name": g.name} for g in groups]
    own_links = links(call.url, ids[0], in_path(call))
    view = {
        "id": ids[0], "links": own_links, "security_groups": shown,
        "OS-DCF:diskConfig": _disk_config(asked), "adminPass": new_password(asked.password),
    }
    return Reply({"server": view}, headers={"Location": own_links[0]["href"]})


def new_password(given: Any) -> str:
    """The administrator's password: as sent, or twelve characters that are not easily confused."""
    if given is not UNSET:
        return str(given)
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))


def _disk_config(asked: NewServer) -> str:
    return "MANUAL" if asked.disk_config is UNSET else asked.disk_config


# -- checks


def _order(call: Call, body: NewServerBody) -> Order:
    asked = body.server
    hints = body.hints if body.old_hints is UNSET or body.hints != Hints() else body.old_hints
    call.enforce("os_compute_api:servers:create", project_id=call.context.project_id)
    if call.context.project_id is None:
        raise BadRequest("A server belongs to a project: use a token that is scoped to one.")
    count = _count(call, asked)
    flavor = _flavor(call, asked)
    boot = boot_devices.plan(call, asked, flavor, count)
    image = boot.image
    spec.check_fit(flavor, image)
    if flavor.disk == 0 and not image.volume and not call.allows(
        "os_compute_api:servers:create:zero_disk_flavor", project_id=call.context.project_id
    ):
        raise Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
    check_metadata_quota(call, asked.metadata)
    group = _server_group(call, hints, count)
    count = _within_quota(call, asked, flavor, count)
    wish = _wish(call, asked, hints, flavor, image, group)
    if asked.hostname is not UNSET and count > 1:
        raise BadRequest("Unable to allocate a single hostname to multiple instances.")
    plan = nics.plan(call, asked.networks, count)
    nics.check_quota(call, plan, count)
    physical = networks.physical(call.tx, {nic.network_id for nic in plan})
    return Order(
        asked=asked, name=names.check_name(asked.name), flavor=flavor, boot=boot, key=key_of(call, asked.key_name),
        group=group, groups=_security_groups(call, asked), plan=plan,
        wish=msgspec.structs.replace(wish, physical=physical),
        hints={**msgspec.to_builtins(hints), **({FORCED: True} if wish.host else {})}, count=count,
        reservation_id="r-" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8)),
    )


def _count(call: Call, asked: NewServer) -> int:
    least = int(asked.min_count)
    most = least if asked.max_count is UNSET else int(asked.max_count)
    if least > most:
        raise BadRequest("min_count must be <= max_count")
    if asked.trusted_certificates is not UNSET and asked.trusted_certificates:
        raise BadRequest("trusted_image_certificates cannot be honoured here: image signatures are not verified.")
    if asked.personality is not UNSET and asked.personality:
        raise BadRequest("personality is not taken: files are not injected; use user_data.")
    names.check_user_data(asked.user_data)
    return most


def _flavor(call: Call, asked: NewServer) -> FlavorFacts:
    try:
        return flavor_facts(call, names.last_part(asked.flavor))
    except NotFound as missing:
        raise BadRequest(missing.message) from None


def flavor_facts(call: Call, flavor_id: str) -> FlavorFacts:
    """A flavor that the caller may use, as servers keep it. Raises NotFound."""
    found = flavors.find(call.tx, call.context, flavor_id)
    if found.disabled:
        raise NotFound(f"Flavor {flavor_id} could not be found.")
    return FlavorFacts(
        seq=found.seq, id=found.id, name=found.name, vcpus=found.vcpus, ram=found.ram, disk=found.disk,
        ephemeral=found.ephemeral, swap=found.swap, rxtx_factor=found.rxtx_factor, extra_specs=found.extra_specs,
    )


def key_of(call: Call, name: str | None) -> Any:
    """The caller's keypair. Raises BadRequest when there is none of this name."""
    if name is None:
        return None
    mine = sa.and_(keypair.c.user_id == call.context.user_id, keypair.c.name == name)
    row = call.tx.first(sa.select(keypair).where(mine))
    if row is None:
        raise BadRequest("Invalid key_name provided.")
    return row


def check_metadata_quota(call: Call, metadata: dict[str, str]) -> None:
    """Raises OverQuota for more items than the project may put on one server."""
    if not metadata:
        return
    most = quotas.limits(call.tx, call.cloud, call.context.project_id or "")["metadata_items"]
    if 0 <= most < len(metadata):
        raise OverQuota(f"Maximum number of metadata items exceeds {most}")


def _within_quota(call: Call, asked: NewServer, flavor: FlavorFacts, most: int) -> int:
    """How many servers the quota leaves, between min_count and max_count. Raises OverQuota."""
    project_id, count = call.context.project_id or "", most
    each = {"instances": 1, "cores": flavor.vcpus, "ram": flavor.ram}
    if most > int(asked.min_count):
        limits, used = quotas.limits(call.tx, call.cloud, project_id), quotas.used(call.tx, project_id)
        rooms = [(limits[n] - used[n]) // amount for n, amount in each.items() if limits[n] >= 0 and amount]
        count = max(int(asked.min_count), min([most, *rooms]))
    if count > _MOST_AT_ONCE:
        raise BadRequest(f"At most {_MOST_AT_ONCE} servers are made by one request; ask for the others in another.")
    wanted = {name: count * amount for name, amount in each.items()}
    quotas.room(call.tx, call.cloud, project_id, wanted, call.context.user_id)
    return count


def _server_group(call: Call, hints: Hints, count: int) -> Any:
    wanted = hints.group[0] if isinstance(hints.group, list) and hints.group else hints.group
    if not wanted:
        return None
    statement = sa.select(server_group).where(server_group.c.id == wanted)
    row = call.tx.first(statement.with_for_update())
    if row is None or (row.project_id != call.context.project_id and not call.context.is_admin):
        raise BadRequest(f"Instance group {wanted} could not be found.")
    most = quotas.limits(call.tx, call.cloud, call.context.project_id or "")["server_group_members"]
    members = call.tx.scalar(
        sa.select(sa.func.count()).where(server.c.group_id == row.id, server.c.deleted.is_(False))
    )
    if 0 <= most < members + count:
        raise OverQuota("Quota exceeded, too many servers in group")
    return row


def _security_groups(call: Call, asked: NewServer) -> list[str] | None:
    if asked.security_groups is UNSET:
        return None
    wanted = list(dict.fromkeys(g.name for g in asked.security_groups if g.name))
    if not wanted or wanted == ["default"]:
        return None
    try:
        return security_groups.resolve(call.tx, call.cloud, call.context, wanted)
    except NotFound as missing:
        raise BadRequest(missing.message) from None


def _wish(call: Call, asked: NewServer, hints: Hints, flavor: FlavorFacts, image: ImageFacts, group: Any) -> Any:
    zone, host, forced = zones.parse(call, asked.availability_zone)
    named = {str(n) for n in (asked.host, asked.hypervisor_hostname) if n is not UNSET}
    if named:
        call.enforce("compute:servers:create:requested_destination", project_id=call.context.project_id)
        if host is not None or len(named) > 1:
            raise BadRequest("The destination host was given more than once, and not the same.")
        host = zones.known_host(call, named.pop())
    return scheduler.Wish(
        demand=demand.of(flavor, image), zone=zone, host=host, forced=forced, group=wishes.group(group),
        **scheduler_hints.of(msgspec.to_builtins(hints)),
    )


# -- making


def _make(call: Call, order: Order, index: int) -> str:
    """One of the servers: row, claim, ports, disks, task. Its id."""
    server_id = call.cloud.world.uuid()
    name = order.name if order.count == 1 else f"{order.name}-{index + 1}"
    values = _row(call, order, server_id, name, index)
    try:
        if not order.boot.makes_volumes:
            return _placed(call, order, values)
        with call.tx.savepoint():
            return _placed(call, order, values)
    except (scheduler.NoValidHost, placing.NoPlace) as reason:
        return _fail(call, order.asked, {**values, "own_ports": [], "nic_tags": {}, "host": None, "zone": None}, reason)


def _placed(call: Call, order: Order, values: dict[str, Any]) -> str:
    tx, cloud, context, server_id = call.tx, call.cloud, call.context, values["id"]
    owner = scheduler.Owner(consumer=server_id, project_id=context.project_id or "", user_id=context.user_id)
    host = scheduler.place(tx, cloud, order.wish, owner)
    wired = nics.wire(
        call, order.plan, server_id=server_id, host=host.name, zone=host.zone, hostname=values["hostname"],
        groups=order.groups,
    )
    boot = order.boot
    values |= {
        "host": host.name, "zone": host.zone, "own_ports": wired.own, "nic_tags": wired.tags,
        "task_state": block_devices.MAPPING if boot.has_volumes else "spawning",
    }
    row = _insert(call, order.asked, values)
    instance_actions.begin(call, server_id, "create", "compute__do_build_and_run_instance", host.name)
    disks = boot_devices.make(call, server_id, order.flavor, boot) if boot.disks else []
    if boot.has_volumes:
        boot_devices.begin(call, disks, host.name)  # it is built once they are there
        return str(server_id)
    tasks.enqueue(
        tx, cloud, "server.build", node=host.name, resource=f"server:{server_id}", request_id=call.request_id,
        arguments=ServerTask(server_id=server_id, spec=spec.build(cloud, row, wired.ports, disks)),
    )
    return str(server_id)


def _fail(
    call: Call, asked: NewServer, values: dict[str, Any], reason: scheduler.NoValidHost | placing.NoPlace
) -> str:
    """A server that found no host: it exists, in error, and tells why."""
    message = f"No valid host was found. {reason}" if isinstance(reason, scheduler.NoValidHost) else str(reason)
    fault = Fault(code=500, message=message[:255], created=call.now, details=message)
    values |= {"vm_state": states.ERROR, "task_state": None, "fault": msgspec.to_builtins(fault)}
    _insert(call, asked, values)
    instance_actions.begin(call, values["id"], "create", "conductor_schedule_and_build_instances")
    instance_actions.finish(call.tx, values["id"], call.request_id, call.now, message)
    if isinstance(reason, scheduler.NoValidHost):
        scheduler.keep(call.tx, call.cloud, values["id"], reason)
    return str(values["id"])


class _Row:
    """The new row as the database would give it back, without asking for it."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _insert(call: Call, asked: NewServer, values: dict[str, Any]) -> _Row:
    done = call.tx.execute(server.insert(), values)
    tags = asked.tags
    if tags is not UNSET and tags:
        call.tx.execute(
            server_tag.insert(), [{"server_id": values["id"], "name": tag} for tag in dict.fromkeys(tags)]
        )
    return _Row({"seq": instance_actions.new_key(done), "password_data": None, "rescue_image": None, **values})


def _row(call: Call, order: Order, server_id: str, name: str, index: int) -> dict[str, Any]:
    asked, key, image, version = order.asked, order.key, order.boot.image, call.version or (2, 1)
    description = None if asked.description is UNSET else asked.description
    groups = [] if asked.security_groups is UNSET else [g.name for g in asked.security_groups if g.name]
    if asked.hostname is UNSET:
        hostname = names.hostname(name, server_id)
    else:
        hostname = names.check_hostname(asked.hostname, version >= (2, 94))
    drive = asked.config_drive is not UNSET and as_bool(asked.config_drive)
    return {
        "id": server_id, "project_id": call.context.project_id, "user_id": call.context.user_id, "name": name,
        "description": name if version < (2, 19) else description, "hostname": hostname, "vm_state": states.BUILDING,
        "task_state": "spawning", "power_state": 0, "progress": 0, "host": None, "zone": None,
        "pinned_zone": order.wish.zone, "image_id": image.id if not image.volume else None,
        "image": msgspec.to_builtins(image),
        "flavor_id": order.flavor.id, "flavor": msgspec.to_builtins(order.flavor), "old_flavor": None,
        "vcpus": order.flavor.vcpus, "ram": order.flavor.ram, "key_name": key.name if key else None,
        "key_data": key.public_key if key else None, "user_data": asked.user_data,
        "config_drive": drive or image.properties.get("img_config_drive") == "mandatory",
        "metadata": asked.metadata, "hints": order.hints, "group_id": order.group.id if order.group else None,
        "security_groups": groups, "access_ip_v4": names.address(asked.access_ip_v4, 4, "accessIPv4"),
        "access_ip_v6": names.address(asked.access_ip_v6, 6, "accessIPv6"), "disk_config": _disk_config(asked),
        "reservation_id": order.reservation_id, "launch_index": index, "created": call.now, "updated": call.now,
        "nic_tags": {}, "own_ports": [],
    }
