"""Why no node will do: every node is asked, which is done only once a server has found none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pileus.compute import places
from pileus.compute.decisions import Record, Refused, Tally
from pileus.compute.host_filters import FILTERS, UP, Ask
from pileus.compute.places import Aggregates, Place
from pileus.placement import candidates
from pileus.placement.candidates import Holder

if TYPE_CHECKING:
    from pileus.compute.demand import Demand
    from pileus.db.engine import Tx

_TOP = 3


def of(tx: Tx, ask: Ask, aggregates: Aggregates) -> Record:
    """A node is counted with the first reason for which it will not do, what it is before what is free there."""
    wish = ask.wish
    found = places.every(tx, ask.heard, aggregates, wish.host)
    holders = candidates.load(tx, wish.demand.resources)
    tally = Tally(len(found))
    fitting = 0
    for place in found:
        place.members = ask.counts.get(place.name, 0)
        holder = holders.get(place.id)
        if holder is not None:
            _stock(place, holder)
        reasons = _by_filters(ask, place) or _by_placement(wish.demand, place, holder)
        if reasons is None:
            fitting += 1
        else:
            tally.add(reasons[0], reasons[1], place.name, reasons[2])
    record = Record(
        action=wish.action, wanted=words(wish.demand), looked_at=len(found), complete=True, refused=tally.all(),
        fitting=fitting,
    )
    if fitting:
        record.note = "Others took what was free at the same moment; try again."
    elif not found:
        record.note = (
            f"There is no node '{wish.host}'." if wish.host is not None
            else "No node has joined this cloud yet; start an agent, or `pileus up`."
        )
    return record


def _stock(place: Place, holder: Holder) -> None:
    place.capacity = {name: stock.capacity for name, stock in holder.stocks.items()}
    place.free = {name: stock.capacity - stock.used for name, stock in holder.stocks.items()}


def _by_filters(ask: Ask, place: Place) -> tuple[str, str, str] | None:
    for one in (UP,) if ask.wish.forced else FILTERS:
        why = one.test(ask, place)
        if why:
            return one.name, one.summary, why
    return None


def _by_placement(demand: Demand, place: Place, holder: Holder | None) -> tuple[str, str, str] | None:
    if holder is None:
        return "placement", "are unknown to placement", "has no resource provider in placement"
    lacking = sorted(demand.required - holder.traits)
    if lacking:
        return "placement", f"do not have trait {lacking[0]}", f"does not have trait {', '.join(lacking)}"
    unwanted = sorted(demand.forbidden & holder.traits)
    if unwanted:
        return "placement", f"have trait {unwanted[0]}", f"has trait {', '.join(unwanted)}, which is forbidden"
    short = [one for one in (_short(name, amount, holder) for name, amount in demand.resources.items()) if one]
    if not short:
        return None
    return "placement", short[0][0], "; ".join(why for _, why in short)


def _short(name: str, amount: int, holder: Holder) -> tuple[str, str] | None:
    stock = holder.stocks.get(name)
    unit = _UNITS.get(name, (name, ""))
    wanted = f"{amount} {unit[1]}".strip()
    if stock is None:
        return f"have no {unit[0]} at all", f"has no {unit[0]}"
    if not stock.min_unit <= amount <= stock.max_unit or amount % stock.step_size:
        return (
            f"do not give out {wanted} of {unit[0]} at once",
            f"needs {wanted} of {unit[0]}, and {stock.max_unit} at most are given to one server",
        )
    free = stock.capacity - stock.used
    if amount > free:
        why = f"needs {wanted} of {unit[0]}, {max(0, free)} of {stock.capacity} free"
        return f"have too little {unit[0]} free", why
    return None


_UNITS = {"MEMORY_MB": ("memory", "MiB"), "VCPU": ("processors", ""), "DISK_GB": ("disk", "GiB")}


def words(demand: Demand) -> str:
    """What a server needs, in words."""
    parts = [f"{amount} {name}" for name, amount in demand.resources.items()]
    parts += [f"trait {name}" for name in sorted(demand.required)]
    return ", ".join(parts)


def told(record: Record, host: str | None = None) -> str:
    """Why none would do, for the user: no names of nodes, but for the one that he named himself."""
    if record.note:
        return record.note
    if record.looked_at == 1:
        _, why = record.refused[0].examples[0]
        return f"{f'Node {host}' if host else 'The only node'} {why}."
    reasons = [_told(one, record.looked_at) for one in record.refused[:_TOP]]
    more = len(record.refused) - _TOP
    text = ", ".join(reasons) + (f", and there are {more} more reasons" if more > 0 else "")
    return f"Of {record.looked_at} nodes {text}; wanted were {record.wanted}."


def _told(one: Refused, nodes: int) -> str:
    return f"{'all' if one.count == nodes else one.count} {one.summary}"
