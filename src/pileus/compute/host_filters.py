"""Filters: which nodes a server may come to, each with the words that tell why not.

All of them are always on: each speaks only where a flavor, an image, an aggregate, a hint or a limit asks for it. What
is a matter of amounts and traits is placement's (`candidates`). Names are those of Nova's filters, where it has one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pileus.compute import json_query
from pileus.compute.demand import satisfies
from pileus.compute.places import Metadata, Place

if TYPE_CHECKING:
    from pileus.cluster.liveness import Moment
    from pileus.compute.scheduler import Wish
    from pileus.settings import Settings


class Ask:
    """What is asked, with all that filters and weighers have to know of it. Nodes are up or down by the moment
    `heard` (pileus.cluster.liveness)."""

    __slots__ = ("counts", "heard", "now", "others", "project_id", "same", "settings", "wish")

    def __init__(self, wish: Wish, project_id: str, settings: Settings, now: float, heard: Moment) -> None:
        self.wish, self.project_id, self.settings = wish, project_id, settings
        self.now, self.heard = now, heard
        self.same: frozenset[str] | None = None  # hosts of the hint same_host
        self.others: frozenset[str] = frozenset()  # hosts of the hint different_host
        self.counts: Mapping[str, int] = {}  # members of the server group by host


Test = Callable[[Ask, Place], str]
"""Why a node will not do; "" when it will."""


class Filter(NamedTuple):
    """`summary` says it of many nodes: "200 …"."""

    name: str
    summary: str
    test: Test


def _up(ask: Ask, place: Place) -> str:
    if place.row.forced_down:
        return "is forced down"
    return "" if place.alive else f"is down: it was last heard of {max(0, ask.now - place.row.seen):.0f} s ago"


def _disabled(ask: Ask, place: Place) -> str:
    if not place.row.disabled:
        return ""
    return f"is disabled: {place.row.disabled_reason}" if place.row.disabled_reason else "is disabled"


def _avoided(ask: Ask, place: Place) -> str:
    return "is the node that the server leaves, or has failed to build it" if place.name in ask.wish.avoid else ""


def _unfit(ask: Ask, place: Place) -> str:
    return ask.wish.unfit.get(place.name, "")


def _zone(ask: Ask, place: Place) -> str:
    if ask.wish.zone in (None, place.zone):
        return ""
    return f"is in availability zone {place.zone}, not {ask.wish.zone}"


def _takes_over(ask: Ask, place: Place) -> str:
    return "cannot take guests over from other nodes" if ask.wish.moving and not place.facts.get("moves") else ""


def _image(ask: Ask, place: Place) -> str:
    demand, facts = ask.wish.demand, place.facts
    if demand.architecture is not None:
        wanted = _ARCHITECTURES.get(demand.architecture.lower(), demand.architecture.lower())
        if facts.get("architecture") != wanted:
            return f"has architecture {facts.get('architecture')}, not {wanted}"
    if demand.hypervisor is not None:
        hypervisor = demand.hypervisor.lower()
        # Images that ask for KVM run on QEMU with and without it, as they do under Nova.
        names = {"qemu", "kvm"} if hypervisor in ("qemu", "kvm") else {hypervisor}
        if facts.get("hypervisor_type", "").lower() not in names:
            return f"has hypervisor {facts.get('hypervisor_type')}, not {demand.hypervisor}"
    version = demand.image_properties.get("img_hv_requested_version")
    if version and not _version(facts.get("hypervisor_version", 0), version):
        return f"has hypervisor version {facts.get('hypervisor_version')}, not {version}"
    mode = demand.image_properties.get("hw_vm_mode", "hvm")
    return "" if mode.lower() in ("hvm", "hv") else f"runs guests of mode hvm, not {mode}"


_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686", "x86": "i686"}


def _version(have: int, wanted: str) -> bool:
    """`>=6.0,<8.2`: versions with dots count as the hypervisor's own number does, 7.2.22 as 7002022."""
    for part in (part.strip() for part in wanted.split(",")):
        operator = part.rstrip("0123456789. ")
        number = part[len(operator):].strip()
        pieces = [int(piece) for piece in number.split(".") if piece.isdigit()]
        if "." in number:
            pieces = [*pieces, 0, 0][:3]
            pieces = [pieces[0] * 1_000_000 + pieces[1] * 1_000 + pieces[2]]
        if not pieces or not satisfies(have, f"{operator.strip() or '=='} {pieces[0]}"):
            return False
    return True


def _capabilities(ask: Ask, place: Place) -> str:
    for key, wish in ask.wish.demand.capabilities.items():
        fact = place.fact(key)
        if fact is None or not satisfies(fact, wish):
            shown = "unknown" if fact is None else str(fact)
            return f"capability {key} is {shown[:60]}, and the flavor wants '{wish}'"
    return ""


def _extra_specs(ask: Ask, metadata: Metadata) -> str:
    for key, wish in ask.wish.demand.aggregate_specs.items():
        values = metadata.get(key, frozenset())
        if not any(satisfies(value, wish) for value in values):
            have = f"is {', '.join(sorted(values))}" if values else "is not set"
            return f"aggregate metadata {key} {have}, and the flavor wants '{wish}'"
    return ""


def _image_isolation(ask: Ask, metadata: Metadata) -> str:
    properties = ask.wish.demand.image_properties
    for key, values in metadata.items():
        wanted = properties.get(key)
        if wanted is not None and wanted not in _split(values):
            return f"its aggregates take images with {key} {', '.join(sorted(values))} only, not {wanted}"
    return ""


_TENANT = "filter_tenant_id"


def _tenants(ask: Ask, metadata: Metadata) -> str:
    values = [v for key, some in metadata.items() if key.startswith(_TENANT) for v in some]
    return "is kept for other projects" if values and ask.project_id not in _split(values) else ""


def _types(ask: Ask, metadata: Metadata) -> str:
    values = metadata.get("instance_type")
    if not values or ask.wish.demand.flavor in _split(values):
        return ""
    return f"its aggregates take flavors {', '.join(sorted(values))} only, not {ask.wish.demand.flavor}"


def _isolated_traits(ask: Ask, metadata: Metadata) -> str:
    for key, values in metadata.items():
        name = key.removeprefix("trait:")
        if name != key and "required" in values and name not in ask.wish.demand.required:
            return f"its aggregate is kept for servers that require trait {name}"
    return ""


def _of(test: Callable[[Ask, Metadata], str]) -> Test:
    """A filter that asks of a node only in which aggregates it is."""
    return lambda ask, place: test(ask, place.metadata) if place.metadata else ""


def _split(values: Any) -> set[str]:
    return {word.strip() for value in values for word in value.split(",")}


def limit(metadata: Metadata, key: str, default: float) -> float:
    """A number that aggregates may set otherwise than the settings; the least, where several do."""
    found = []
    for value in metadata.get(key, ()):
        try:
            found.append(float(value))
        except ValueError:
            continue  # what is no number says nothing
    return min(found, default=default)


def _number(ask: Ask, place: Place) -> str:
    most = limit(place.metadata, "max_instances_per_host", ask.settings.max_instances_per_host)
    return f"has {place.servers} servers, and {most:.0f} at most" if 0 < most <= place.servers else ""


def _busy(ask: Ask, place: Place) -> str:
    most = limit(place.metadata, "max_io_ops_per_host", ask.settings.max_io_ops_per_host)
    return f"{place.busy} of its servers are being worked on, and {most:.0f} at most" if 0 < most <= place.busy else ""


def _same(ask: Ask, place: Place) -> str:
    missed = ask.same is not None and place.name not in ask.same
    return "has none of the servers of the hint same_host" if missed else ""


def _different(ask: Ask, place: Place) -> str:
    return "has a server of the hint different_host" if place.name in ask.others else ""


def _near(ask: Ask, place: Place) -> str:
    if ask.wish.near is None:
        return ""
    address = place.facts.get("host_ip", "")
    try:
        inside = ipaddress.ip_address(address) in ipaddress.ip_network(ask.wish.near)
    except ValueError:
        return f"its address is not known, so that nobody can say whether it is in {ask.wish.near}"
    return "" if inside else f"its address {address} is not in {ask.wish.near}"


def _query(ask: Ask, place: Place) -> str:
    if ask.wish.query is None or not ask.settings.scheduler_query_hint:
        return ""
    return "" if json_query.holds(ask.wish.query, place.fact) else "does not fulfil the hint query"


def _affinity(ask: Ask, place: Place) -> str:
    group = ask.wish.group
    if group is None or group.policy != "affinity" or not ask.counts or place.members:
        return ""
    return f"has no member of server group {group.id}, whose policy is affinity"


def _anti_affinity(ask: Ask, place: Place) -> str:
    group = ask.wish.group
    if group is None or group.policy != "anti-affinity" or place.members < group.most_per_host:
        return ""
    return f"has {place.members} of server group {group.id}, whose anti-affinity allows {group.most_per_host}"


def _physical(ask: Ask, place: Place) -> str:
    have = place.facts.get("physical_networks")
    missing = set() if have is None else set(ask.wish.physical) - set(have)
    return f"is not on physical network {', '.join(sorted(missing))}" if missing else ""


UP = Filter("ComputeFilter", "are down", _up)

FILTERS: tuple[Filter, ...] = (
    UP,
    Filter("ComputeFilter", "are disabled", _disabled),
    Filter("AvoidedHosts", "are left by the server, or have failed to build it", _avoided),
    Filter("UnfitHosts", "cannot take in this guest as it runs", _unfit),
    Filter("AvailabilityZoneFilter", "are in another availability zone", _zone),
    Filter("MovesFilter", "cannot take guests over from other nodes", _takes_over),
    Filter("ImagePropertiesFilter", "cannot run such an image", _image),
    Filter("ComputeCapabilitiesFilter", "do not have the capabilities that the flavor wants", _capabilities),
    Filter("AggregateInstanceExtraSpecsFilter", "are in no aggregate that the flavor wants",
           lambda ask, place: _extra_specs(ask, place.metadata)),
    Filter("AggregateImagePropertiesIsolation", "are in aggregates that are kept for other images",
           _of(_image_isolation)),
    Filter("AggregateMultiTenancyIsolation", "are kept for other projects", _of(_tenants)),
    Filter("AggregateTypeAffinityFilter", "are in aggregates that are kept for other flavors", _of(_types)),
    Filter("IsolatedAggregates", "are in aggregates that are kept for servers that require a trait",
           _of(_isolated_traits)),
    Filter("NumInstancesFilter", "have as many servers as they may", _number),
    Filter("IoOpsFilter", "are busy with other servers", _busy),
    Filter("SameHostFilter", "have none of the servers of the hint same_host", _same),
    Filter("DifferentHostFilter", "have a server of the hint different_host", _different),
    Filter("SimpleCIDRAffinityFilter", "are not near the address of the hint build_near_host_ip", _near),
    Filter("JsonFilter", "do not fulfil the hint query", _query),
    Filter("PhysicalNetworks", "are not on the physical networks of the server's ports", _physical),
    Filter("ServerGroupAffinityFilter", "have no member of the server group", _affinity),
    Filter("ServerGroupAntiAffinityFilter", "have as many members of the server group as its anti-affinity allows",
           _anti_affinity),
)

_CLOSED = (_image_isolation, _tenants, _types, _isolated_traits)


def word(key: str) -> str:
    """A key of aggregates' metadata, those with the same meaning as one."""
    return _TENANT if key.startswith(_TENANT) else key


def closed(ask: Ask, metadata: Metadata) -> bool:
    """Whether an aggregate with this metadata keeps its nodes from what is asked, were they in no other."""
    return any(test(ask, metadata) for test in _CLOSED)
