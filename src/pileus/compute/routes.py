"""Compute: servers and the versions on one screen; everything else is in `routes_rest`."""

from __future__ import annotations

import dataclasses
from typing import Any

from pileus.compute import (
    actions,
    addresses,
    consoles,
    create,
    diagnostics,
    discovery,
    instance_actions,
    interfaces,
    lifecycle,
    listing,
    memberships,
    passwords,
    server_metadata,
    server_migrations,
    servers,
    tags,
    topology,
    volume_attachments,
)
from pileus.compute import schemas as s
from pileus.compute import schemas_volumes as v
from pileus.compute.routes_rest import REST_ROUTES
from pileus.compute.schemas_rest import strict
from pileus.compute.versions import FLOOR
from pileus.web.routes import AUTHENTICATED, PUBLIC, Handler, Route

_SERVER = "/v2.1/servers/{server_id}"
_P = "os_compute_api:"
_VOLUMES = "/os-volume_attachments"


def _of(method: str, path: str, handler: Handler, status: int = 200, **more: Any) -> Route:
    """A row below one server: the handler looks the server up and enforces its rule on its owner."""
    return Route(method, _SERVER + path, handler, AUTHENTICATED, status, **more)


SERVER_ROUTES: tuple[Route, ...] = (
    Route("GET", "/", discovery.index, PUBLIC),
    Route("GET", "/v2", discovery.v2, PUBLIC),
    Route("GET", "/v2.1", discovery.v21, PUBLIC),
    Route("GET", "/v2.1/servers", listing.index, _P + "servers:index"),
    Route("GET", "/v2.1/servers/detail", listing.detail, _P + "servers:detail"),
    Route("POST", "/v2.1/servers", create.create, _P + "servers:create", 202, body=s.NewServerBody),
    _of("GET", "", servers.show),
    _of("PUT", "", servers.update, body=s.ServerChangeBody),
    _of("DELETE", "", lifecycle.delete, 204),
    _of("POST", "/action", actions.act, 202, body=dict[str, Any]),
    # what is written on a server
    _of("GET", "/metadata", server_metadata.index),
    _of("POST", "/metadata", server_metadata.add, body=s.MetadataBody),
    _of("PUT", "/metadata", server_metadata.replace, body=s.MetadataBody),
    _of("GET", "/metadata/{key}", server_metadata.show),
    _of("PUT", "/metadata/{key}", server_metadata.put, body=s.MetaItemBody),
    _of("DELETE", "/metadata/{key}", server_metadata.delete, 204),
    _of("GET", "/tags", tags.index, since=(2, 26)),
    _of("PUT", "/tags", tags.replace, body=s.TagsBody, since=(2, 26)),
    _of("DELETE", "/tags", tags.delete_all, 204, since=(2, 26)),
    _of("GET", "/tags/{tag}", tags.show, 204, since=(2, 26)),
    _of("PUT", "/tags/{tag}", tags.put, 201, since=(2, 26)),
    _of("DELETE", "/tags/{tag}", tags.delete, 204, since=(2, 26)),
    # its network
    _of("GET", "/ips", addresses.index),
    _of("GET", "/ips/{network}", addresses.show),
    _of("GET", "/os-interface", interfaces.index),
    _of("POST", "/os-interface", interfaces.attach, body=s.NewInterfaceBody),
    _of("GET", "/os-interface/{port_id}", interfaces.show),
    _of("DELETE", "/os-interface/{port_id}", interfaces.detach, 202),
    _of("GET", "/os-security-groups", memberships.index),
    # its volumes
    _of("GET", _VOLUMES, volume_attachments.index, query=v.AttachmentQuery, until=(2, 74)),
    _of("GET", _VOLUMES, volume_attachments.index, query=strict(v.AttachmentQuery), since=(2, 75)),
    _of("POST", _VOLUMES, volume_attachments.attach, body=v.NewAttachmentBody),
    _of("GET", _VOLUMES + "/{volume_id}", volume_attachments.show),
    _of("PUT", _VOLUMES + "/{volume_id}", volume_attachments.update, 202, body=v.AttachmentChangeBody),
    _of("DELETE", _VOLUMES + "/{volume_id}", volume_attachments.detach, 202),
    # what was done to it, what it says, what it is
    _of("GET", "/os-instance-actions", instance_actions.index, query=s.ActionsQuery),
    _of("GET", "/os-instance-actions/{request_id}", instance_actions.show),
    _of("POST", "/remote-consoles", consoles.remote, body=s.RemoteConsoleBody, since=(2, 6)),
    _of("GET", "/diagnostics", diagnostics.show),
    _of("GET", "/topology", topology.show, since=(2, 78)),
    _of("GET", "/migrations", server_migrations.index, since=(2, 23)),
    _of("GET", "/migrations/{migration_id}", server_migrations.show, since=(2, 23)),
    _of("DELETE", "/migrations/{migration_id}", server_migrations.abort, 202, since=(2, 24)),
    _of("POST", "/migrations/{migration_id}/action", server_migrations.force_complete, 202, body=s.ForceCompleteBody,
        since=(2, 22)),
    _of("GET", "/os-server-password", passwords.show),
    _of("DELETE", "/os-server-password", passwords.clear, 204),
    Route("GET", "/v2.1/os-console-auth-tokens/{token}", consoles.token_info, _P + "os-console-auth-tokens",
          since=(2, 31)),
)



def _as_v2(rows: tuple[Route, ...]) -> tuple[Route, ...]:
    """The rows of 2.1 once more below /v2, where no microversions are: what Nova's v2.0 is since Mitaka."""
    return tuple(
        dataclasses.replace(row, path="/v2" + row.path.removeprefix("/v2.1"))
        for row in rows if row.path.startswith("/v2.1/") and row.since <= FLOOR <= row.until
    )


_VERSIONED = (*SERVER_ROUTES, *REST_ROUTES)
ROUTES: tuple[Route, ...] = (*_VERSIONED, *_as_v2(_VERSIONED))
