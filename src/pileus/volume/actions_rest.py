"""Actions of volumes and snapshots that other nouns bring: retype, migrate, manage."""

from __future__ import annotations

from pileus.volume.action import Action

VOLUME_ACTIONS: dict[str, Action] = {}
SNAPSHOT_ACTIONS: dict[str, Action] = {}
