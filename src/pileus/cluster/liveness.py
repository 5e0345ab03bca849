"""The moment by which nodes are judged to be up or down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pileus.node.contract import DEAD_AFTER

if TYPE_CHECKING:
    from pileus.cloud import Cloud


def moment(cloud: Cloud) -> float:
    """Now, in seconds since the epoch, less an outage of the database that has just ended: nobody could write that he
    had heard of a node, so that its silence says nothing yet. A node that was not heard for `DEAD_AFTER` seconds
    before it is down."""
    return cloud.world.now() - cloud.db.missed(DEAD_AFTER)
