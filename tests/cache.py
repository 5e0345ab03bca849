"""Where tests keep the guest image that they build once."""

from __future__ import annotations

import os
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]


def _reachable(folder: Path) -> bool:
    """Whether the account of QEMU, which is nobody's, comes there: not into a checkout below /root."""
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents))


CACHE = Path(
    os.environ.get("PILEUS_TEST_CACHE") or (_CHECKOUT / ".cache" if _reachable(_CHECKOUT) else "/var/cache/pileus")
)
GUEST = CACHE / "guest.qcow2"
