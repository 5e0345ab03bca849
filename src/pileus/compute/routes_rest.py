"""Compute without servers: the whole API on one screen."""

from __future__ import annotations

from typing import Any

from pileus.compute import extensions, extra_specs, flavor_access, flavors
from pileus.compute import schemas_rest as s
from pileus.web.routes import ANY_VERSION, AUTHENTICATED, Handler, Route
from pileus.web.schemas import Query
from pileus.web.versions import Version

_V = "/v2.1"
_LAST_PROXY: Version = (2, 35)
_P = "os_compute_api:"


def _get(
    path: str, handler: Handler, rule: str, query: type[Query] = s.NoQuery, *,
    since: Version = (0, 0), until: Version = ANY_VERSION,
) -> tuple[Route, ...]:
    """A GET that ignores unknown query parameters up to 2.74 and refuses them from 2.75 on."""
    rows = []
    if since < (2, 75):
        rows.append(Route("GET", _V + path, handler, rule, query=query, since=since, until=min(until, (2, 74))))
    if until > (2, 74):
        rows.append(Route(
            "GET", _V + path, handler, rule, query=s.strict(query), since=max(since, (2, 75)), until=until
        ))
    return tuple(rows)


def _do(method: str, path: str, handler: Handler, rule: str, status: int = 200, **more: Any) -> Route:
    return Route(method, _V + path, handler, rule, status, **more)


_FLAVORS = (
    *_get("/flavors", flavors.index, AUTHENTICATED, s.FlavorQuery),
    *_get("/flavors/detail", flavors.detail, AUTHENTICATED, s.FlavorQuery),
    _do("GET", "/flavors/{flavor_id}", flavors.show, AUTHENTICATED),
    _do("POST", "/flavors", flavors.create, _P + "os-flavor-manage:create", body=s.FlavorNewBody),
    _do("PUT", "/flavors/{flavor_id}", flavors.update, _P + "os-flavor-manage:update", body=s.FlavorChangeBody,
        since=(2, 55)),
    _do("DELETE", "/flavors/{flavor_id}", flavors.delete, _P + "os-flavor-manage:delete", 202),
    _do("GET", "/flavors/{flavor_id}/os-extra_specs", extra_specs.index, _P + "os-flavor-extra-specs:index"),
    _do("POST", "/flavors/{flavor_id}/os-extra_specs", extra_specs.create, _P + "os-flavor-extra-specs:create",
        body=s.SpecsBody),
    _do("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", extra_specs.show, _P + "os-flavor-extra-specs:show"),
    _do("PUT", "/flavors/{flavor_id}/os-extra_specs/{key}", extra_specs.update, _P + "os-flavor-extra-specs:update",
        body=s.Specs),
    _do("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", extra_specs.delete,
        _P + "os-flavor-extra-specs:delete"),
    _do("GET", "/flavors/{flavor_id}/os-flavor-access", flavor_access.index, _P + "os-flavor-access"),
    _do("POST", "/flavors/{flavor_id}/action", flavor_access.act, _P + "os-flavor-access", body=s.FlavorAction),
)

_EXTENSIONS = (
    _do("GET", "/extensions", extensions.index, _P + "extensions"),
    _do("GET", "/extensions/{alias}", extensions.show, _P + "extensions"),
)

REST_ROUTES: tuple[Route, ...] = (*_FLAVORS, *_EXTENSIONS)
