"""What compute must have before the first request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pileus.compute import flavors

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx


def bootstrap_rest(tx: Tx, cloud: Cloud) -> None:
    """Make what is missing: the usual flavors, at the very first start only."""
    flavors.bootstrap(tx, cloud)
