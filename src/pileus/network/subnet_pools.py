"""Subnet pools: prefixes from which subnets are cut without overlap."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import address_scopes, lists, quotas, sharing, tags, views
from pileus.network.addresses import Network, parse_network
from pileus.network.faults import conflict, invalid, not_found
from pileus.network.schemas import SubnetPoolChange, SubnetPoolNew, number
from pileus.network.tables import subnet, subnet_pool
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_c = subnet_pool.c


def _visible(call: Call) -> lists.Clause:
    return sa.or_(_c.project_id == sharing.own(call.context), _c.shared.is_(True))


def _render(call: Call, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    named = tags.of(call.tx, [row.id for row in rows])
    return [views.subnet_pool(row, named.get(row.id, [])) for row in rows]


NOUN = lists.Noun(
    name="subnetpool", plural="subnetpools", title="Subnet pool", error="SubnetPoolNotFound", table=subnet_pool,
    visible=_visible, render=_render,
    filters={
        **lists.standard(subnet_pool), "ip_version": lists.integer(_c.ip_version), "shared": lists.flag(_c.shared),
        "is_default": lists.flag(_c.is_default), "address_scope_id": lists.text(_c.address_scope_id),
        "default_prefixlen": lists.integer(_c.default_prefixlen), "min_prefixlen": lists.integer(_c.min_prefixlen),
        "max_prefixlen": lists.integer(_c.max_prefixlen), "default_quota": lists.integer(_c.default_quota),
    },
    sorts=lists.sorts(subnet_pool, "name", "ip_version", "shared", "is_default", "default_prefixlen"),
)


def index(call: Call) -> dict[str, Any]:
    """GET /v2.0/subnetpools: 200."""
    return lists.index(call, NOUN)


def show(call: Call) -> dict[str, Any]:
    """GET /v2.0/subnetpools/{id}: 200."""
    return lists.show(call, NOUN, call.params["id"])


def create(call: Call) -> dict[str, Any]:
    """POST /v2.0/subnetpools: 201."""
    return lists.create_all(call, NOUN, _create)


def _prefixes(texts: Sequence[str]) -> list[Network]:
    found = [parse_network(text, "subnet pool prefix") for text in texts]
    if len({p.version for p in found}) > 1:
        raise invalid("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", "PrefixVersionMismatch")
    return sorted(ipaddress.collapse_addresses(found))  # type: ignore[type-var]


def _create(call: Call, new: SubnetPoolNew) -> str:
    project_id = lists.owner(call, new, "create_subnetpool")
    lists.enforce_attributes(call, "create_subnetpool", new, project_id=project_id)
    quotas.room(call.tx, call.cloud, project_id, {"subnetpool": 1})
    prefixes = _prefixes(new.prefixes)
    version = prefixes[0].version
    default = new.is_default is not UNSET and as_bool(new.is_default)
    if default:
        _check_default(call.tx, version, "")
    row = {
        **lists.base(call, project_id, new.description), "name": new.name, "ip_version": version,
        "prefixes": [str(p) for p in prefixes], "shared": new.shared is not UNSET and as_bool(new.shared),
        "is_default": default, "default_quota": None if new.default_quota is None else number(new.default_quota),
        "address_scope_id": _scope(call, new.address_scope_id, version),
        **_lengths(version, *(None if v is None else number(v) for v in (
            new.min_prefixlen, new.max_prefixlen, new.default_prefixlen))),
    }
    call.tx.execute(subnet_pool.insert(), row)
    return str(row["id"])


def _scope(call: Call, identity: str | None, version: int) -> str | None:
    if not identity:
        return None
    row = lists.find(call, address_scopes.NOUN, identity)
    if row.ip_version != version:
        raise invalid(f"address scope {identity} is for IPv{row.ip_version}, the pool for IPv{version}.",
                      "IllegalSubnetPoolIpVersionAssociation")
    return identity


def _check_default(tx: Tx, version: int, identity: str) -> None:
    other = tx.first(
        sa.select(_c.id).where(_c.is_default.is_(True), _c.ip_version == version, _c.id != identity)
    )
    if other is not None:
        raise invalid(f"A default subnetpool for this IP family has already been set: {other.id}.")


def _lengths(version: int, least: int | None, most: int | None, default: int | None) -> dict[str, int]:
    bits, floor = (32, 8) if version == 4 else (128, 64)
    low, high = floor if least is None else least, bits if most is None else most
    chosen = low if default is None else default
    if not 0 <= low <= high <= bits:
        raise invalid(f"prefix lengths must be 0 <= min_prefixlen ({low}) <= max_prefixlen ({high}) <= {bits}.",
                      "IllegalSubnetPoolPrefixBounds")
    if not low <= chosen <= high:
        raise invalid(f"default_prefixlen {chosen} is not between {low} and {high}.",
                      "IllegalSubnetPoolPrefixBounds")
    return {"min_prefixlen": low, "max_prefixlen": high, "default_prefixlen": chosen}


def update(call: Call) -> dict[str, Any]:
    """PUT /v2.0/subnetpools/{id}: 200. Prefixes may only grow."""
    sent: SubnetPoolChange = call.body.subnetpool
    row = lists.find_for(call, NOUN, "update", call.params["id"])
    lists.enforce_attributes(call, "update_subnetpool", sent, project_id=row.project_id)
    values = lists.given(sent, "prefixes", "min_prefixlen", "max_prefixlen", "default_prefixlen")
    if "description" in values:
        values["description"] = values["description"] or ""
    if "is_default" in values:
        values["is_default"] = as_bool(values["is_default"])
        if values["is_default"]:
            _check_default(call.tx, row.ip_version, row.id)
    if values.get("default_quota") is not None:
        values["default_quota"] = number(values["default_quota"])
    if values.get("address_scope_id"):
        _scope(call, values["address_scope_id"], row.ip_version)
    lengths = [
        number(v) if (v := getattr(sent, name)) is not UNSET else getattr(row, name)
        for name in ("min_prefixlen", "max_prefixlen", "default_prefixlen")
    ]
    values.update(_lengths(row.ip_version, *lengths))
    if sent.prefixes is not UNSET:
        new = _prefixes(sent.prefixes)
        for old in (ipaddress.ip_network(p) for p in row.prefixes):
            if old.version != new[0].version or not any(old.subnet_of(p) for p in new):  # type: ignore[arg-type]
                raise invalid(f"Existing prefixes must be a subset of the new prefixes; {old} is missing.",
                              "IllegalSubnetPoolPrefixUpdate")
        values["prefixes"] = [str(p) for p in new]
    lists.update(call, subnet_pool, row.id, values)
    return lists.shown(call, NOUN, row.id)


def delete(call: Call) -> None:
    """DELETE /v2.0/subnetpools/{id}: 204."""
    row = lists.find_for(call, NOUN, "delete", call.params["id"])
    if call.tx.first(sa.select(subnet.c.id).where(subnet.c.subnetpool_id == row.id).limit(1)) is not None:
        raise conflict("SubnetPoolDeleteError",
                       f"Unable to delete subnet pool {row.id}: Subnet pool has existing allocations.")
    tags.drop(call.tx, row.id)
    call.tx.execute(subnet_pool.delete().where(_c.id == row.id))


# -- for subnets


def default_pool(call: Call, version: int) -> str:
    """The id of the default pool of an IP version. Raises NotFound."""
    statement = sa.select(_c.id).where(_c.is_default.is_(True), _c.ip_version == version)
    found: str | None = call.tx.scalar(statement)
    if found is None:
        raise not_found("SubnetPoolNotFound", "Default subnet pool for IPv" + str(version), "")
    return found


def allocate(call: Call, pool_id: str, project_id: str, prefix: Network | None, length: int | None) -> Network:
    """A free prefix of the pool: the one named, or the first of the length. Raises BadRequest, Conflict."""
    row = lists.find(call, NOUN, pool_id)
    call.tx.serialize(f"subnetpool:{pool_id}")
    used = [
        (r.project_id, ipaddress.ip_network(r.cidr))
        for r in call.tx.all(sa.select(subnet.c.cidr, subnet.c.project_id).where(subnet.c.subnetpool_id == pool_id))
    ]
    size = prefix.prefixlen if prefix is not None else row.default_prefixlen if length is None else length
    _check_length(row, size)
    _check_pool_quota(row, project_id, [n for p, n in used if p == project_id], size)
    taken = sorted((int(n.network_address), int(n.broadcast_address)) for _, n in used)
    pool = [ipaddress.ip_network(p) for p in row.prefixes]
    if prefix is not None:
        inside = any(prefix.version == p.version and prefix.subnet_of(p) for p in pool)  # type: ignore[arg-type]
        low, high = int(prefix.network_address), int(prefix.broadcast_address)
        if not inside or any(a <= high and low <= b for a, b in taken):
            raise _no_room(f"Cannot allocate requested subnet {prefix} from the available set of prefixes.")
        return prefix
    for part in pool:
        found = _first_gap(part, taken, size)
        if found is not None:
            return found
    raise _no_room(f"Insufficient prefix space to allocate subnet size /{size}.")


def _no_room(reason: str) -> Exception:
    return BadRequest(f"Failed to allocate subnet: {reason}", type="SubnetAllocationError")


def _check_length(row: Row[Any], size: int) -> None:
    if size < row.min_prefixlen:
        raise invalid(f"Unable to allocate subnet with prefix length {size}, minimum allowed prefix is "
                      f"{row.min_prefixlen}.", "MinPrefixSubnetAllocationError")
    if size > row.max_prefixlen:
        raise invalid(f"Unable to allocate subnet with prefix length {size}, maximum allowed prefix is "
                      f"{row.max_prefixlen}.", "MaxPrefixSubnetAllocationError")


def _check_pool_quota(row: Row[Any], project_id: str, mine: Sequence[Network], size: int) -> None:
    """The quota counts addresses in IPv4 and /64s in IPv6."""
    if row.default_quota is None:
        return
    unit = 32 if row.ip_version == 4 else 64
    used = sum(2 ** max(0, unit - n.prefixlen) for n in mine)
    if used + 2 ** max(0, unit - size) > row.default_quota:
        raise conflict("SubnetPoolQuotaExceeded",
                       f"Per-tenant subnet pool prefix quota exceeded by project {project_id}.")


def _first_gap(part: Network, taken: Sequence[tuple[int, int]], size: int) -> Network | None:
    bits = part.max_prefixlen
    if size < part.prefixlen:
        return None
    step, at, end = 2 ** (bits - size), int(part.network_address), int(part.broadcast_address)
    for low, high in taken:
        if high < at:
            continue
        if low > at + step - 1:
            break
        at = (high // step + 1) * step
    if at + step - 1 > end:
        return None
    return ipaddress.ip_network((type(part.network_address)(at), size))


