"""The moment by which nodes are judged to be up or down."""

from __future__ import annotations

from typing import TYPE_CHECKING, NewType

from pileus.node.contract import DEAD_AFTER

if TYPE_CHECKING:
    from pileus.cloud import Cloud


Moment = NewType("Moment", float)
"""What `moment` returns. Whoever judges a node asks for one, so that none takes the clock instead."""


def moment(cloud: Cloud) -> Moment:
    """Now, in seconds since the epoch, less an outage of the database that has just ended: nobody could write that he
    had heard of a node, so that its silence says nothing yet. A node that was not heard for `DEAD_AFTER` seconds
    before it is down."""
    return Moment(cloud.world.now() - cloud.db.missed(DEAD_AFTER))
