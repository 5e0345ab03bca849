"""Which node keeps a new volume."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from pileus.cluster.liveness import moment
from pileus.volume import backends
from pileus.web.errors import Conflict

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_NAMES = ("volume_backend_name", "capabilities:volume_backend_name")


class NoPlace(Conflict):
    """No node can keep the volume."""

    code = "no_valid_backend"


def choose(
    tx: Tx, cloud: Cloud, size_gib: int, *, zone: str | None = None, of_zones: Collection[str] = (),
    extra_specs: Mapping[str, str] | None = None, only: Collection[str] | None = None, but: Collection[str] = (),
) -> Any:
    """The backend's row with the most room of those that are up, enabled, in the zone, as the volume type wants them,
    and have the space. `only` and `but` name nodes; `of_zones`, if any, the zones that the type allows. Raises NoPlace,
    which says what is wrong with each."""
    given = backends.provisioned(tx)
    zones = by_node(tx)
    now = moment(cloud)
    fit, unfit = [], []
    for row in backends.listing(tx):
        at = zones.get(row.node, cloud.settings.availability_zone)
        why = (
            "is not where its source is" if only is not None and row.node not in only
            else "is ruled out by a hint" if row.node in but
            else "is down" if not backends.is_up(row, now)
            else "is disabled" if row.disabled
            else f"is in zone {at}" if zone is not None and zone != at
            else f"is in zone {at}, which the volume type rules out" if of_zones and at not in of_zones
            else f"has {row.free_gib:.0f} GiB free" if row.free_gib < size_gib
            else _unlike(row, extra_specs or {})
        )
        if why:
            unfit.append(f"{row.node} {why}")
        else:
            fit.append(row)
    if not fit:
        reasons = "; ".join(unfit[:20]) or "no node has the role storage"
        raise NoPlace(f"No valid backend was found for a volume of {size_gib} GiB: {reasons}.")
    return max(fit, key=lambda row: (row.total_gib - given.get(row.node, 0), row.free_gib, row.node))


def by_node(tx: Tx) -> dict[str, str]:
    """The zone of each node that is not in the setting's zone."""
    from pileus.compute import availability_zones

    return availability_zones.by_host(tx)


def zone_exists(tx: Tx, cloud: Cloud, zone: str) -> bool:
    """Whether a volume may ask for this zone: one in which a node keeps volumes."""
    zones = by_node(tx)
    default = cloud.settings.availability_zone
    return zone == default or any(zones.get(row.node, default) == zone for row in backends.listing(tx))


def backend_name(row: Any) -> str:
    """What `volume_backend_name` in a volume type names: each node is a backend of its own. A type may also name a kind
    of backend ("file"), which any node of that kind is."""
    return str(row.node)


def suits(row: Any, extra_specs: Mapping[str, str]) -> bool:
    """Whether a backend is as a volume type wants it."""
    return not _unlike(row, extra_specs)


def _unlike(row: Any, extra_specs: Mapping[str, str]) -> str:
    """What a volume type wants that the backend is not; "" when it is as wanted."""
    for name, wanted in extra_specs.items():
        plain = name.removeprefix("capabilities:")
        if name in _NAMES and wanted not in (backend_name(row), row.backend):
            return f"is backend {backend_name(row)}, and the volume type wants {wanted}"
        if plain in ("vendor_name", "storage_protocol", "driver_version") and wanted != CAPABILITIES.get(plain):
            return f"has {plain} {CAPABILITIES.get(plain)}, and the volume type wants {wanted}"
    return ""


CAPABILITIES = {"vendor_name": "Pileus", "storage_protocol": "NBD", "driver_version": "1.0"}
"""What each backend says of itself to volume types and to those who list pools."""
