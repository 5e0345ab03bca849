"""The states of volumes and snapshots, and which of them allow what."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pileus.web.errors import BadRequest

CREATING = "creating"
AVAILABLE = "available"
RESERVED = "reserved"
ATTACHING = "attaching"
IN_USE = "in-use"
DETACHING = "detaching"
DELETING = "deleting"
EXTENDING = "extending"
UPLOADING = "uploading"
REVERTING = "reverting"
RETYPING = "retyping"
DOWNLOADING = "downloading"
MAINTENANCE = "maintenance"
ERROR = "error"
ERROR_DELETING = "error_deleting"
ERROR_EXTENDING = "error_extending"
ERROR_REVERTING = "error_restoring"

BY_ATTACHMENTS = frozenset({AVAILABLE, RESERVED, ATTACHING, IN_USE, DETACHING})
"""What a volume's attachments decide while nothing else is done to it."""

DELETABLE = frozenset({AVAILABLE, ERROR, "error_restoring", "error_extending", "error_managing", ERROR_DELETING})

VOLUME_STATES = frozenset({
    CREATING, AVAILABLE, DELETING, ERROR, ERROR_DELETING, ATTACHING, DETACHING, IN_USE, MAINTENANCE, "managing",
    "error_managing", "backing-up", "error_backing-up", "restoring-backup", "error_restoring", "downloading", UPLOADING,
    RETYPING, EXTENDING, ERROR_EXTENDING, RESERVED, "awaiting-transfer",
})
"""What os-reset_status takes for a volume."""

SNAPSHOT_STATES = frozenset({AVAILABLE, CREATING, DELETING, ERROR, ERROR_DELETING})
"""What os-reset_status takes for a snapshot."""


def of_attachments(statuses: Iterable[str]) -> str:
    """What a volume is by its attachments' statuses."""
    found = set(statuses)
    for attachment, volume in (
        ("attached", IN_USE), ("detaching", DETACHING), ("attaching", ATTACHING), ("reserved", RESERVED),
    ):
        if attachment in found:
            return volume
    return AVAILABLE


def require(row: Any, allowed: Collection[str], doing: str) -> None:
    """Raises BadRequest unless the volume's status is one of `allowed`; `doing` as in "extend it"."""
    if row.status not in allowed:
        raise BadRequest(
            f"Invalid volume: Volume {row.id} status must be {' or '.join(sorted(allowed))} to {doing}, but current "
            f"status is: {row.status}."
        )
