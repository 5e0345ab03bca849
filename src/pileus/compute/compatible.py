"""Which nodes can take in a guest that runs: it must find the processor and the hypervisor that it has seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.compute import nodes
from pileus.compute.tables import node

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.node.contract import HypervisorFacts


def unfit(tx: Tx, source: Any) -> dict[str, str]:
    """The nodes that cannot take in what runs on `source` (a row), each with the reason."""
    mine = nodes.facts_of(source)
    if not mine.moves:
        return {row.name: f"{source.name} cannot hand its guests on" for row in tx.all(sa.select(node))}
    reasons = {row.name: reason(mine, nodes.facts_of(row)) for row in tx.all(sa.select(node))}
    return {name: why for name, why in reasons.items() if why}


def reason(mine: HypervisorFacts, other: HypervisorFacts) -> str:
    """Why a guest of the one cannot go on running on the other; "": it can."""
    if not other.moves:
        return "it takes no guests over from other nodes"
    for name in ("hypervisor_type", "architecture", "accelerator"):
        have, want = getattr(other, name), getattr(mine, name)
        if have != want:
            return f"its {name.replace('_', ' ')} is {have}, not {want}"
    if other.hypervisor_version < mine.hypervisor_version:
        return f"its hypervisor is older ({other.hypervisor_version}, not {mine.hypervisor_version})"
    missing = sorted(set(mine.cpu_features) - set(other.cpu_features)) if mine.accelerator == "kvm" else []
    return f"its processor lacks {', '.join(missing[:5])}" if missing else ""
