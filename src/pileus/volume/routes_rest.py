"""Types, quotas, backups, groups, transfers, services: the rest of the volume service's rows.

`Row.path` begins after /v3 or /v3/{scope_id}: each row is served below both."""

from __future__ import annotations

from pileus.web.routes import Route

REST_ROUTES: tuple[Route, ...] = ()
