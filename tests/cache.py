"""Where tests keep the guest image that they build once."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def reachable(folder: Path) -> bool:
    """Whether accounts without rights, as QEMU's, come there: not into a checkout below /root."""
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


CACHE = Path(
    os.environ.get("PILEUS_TEST_CACHE") or (CHECKOUT / ".cache" if reachable(CHECKOUT) else "/var/cache/pileus")
)
GUEST = CACHE / "guest.qcow2"
