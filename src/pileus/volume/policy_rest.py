"""Policy rules of types, quotas, backups, groups, transfers, services and the rest."""

from __future__ import annotations

REST_RULES: dict[str, str] = {}
