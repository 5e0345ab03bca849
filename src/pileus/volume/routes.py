"""The volume service: volumes, snapshots and attachments on one screen; everything else is in `routes_rest`.

Each row is served below /v3, and below /v3/{project_id}, where the project is the token's."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

from pileus.volume import attachment_handlers, discovery, metadata, snapshot_handlers, volume_actions, volume_handlers
from pileus.volume import schemas as s
from pileus.volume.routes_rest import REST_ROUTES
from pileus.web.call import Call
from pileus.web.errors import BadRequest
from pileus.web.routes import AUTHENTICATED, PUBLIC, Handler, Route

SCOPE = "scope_id"
"""The path's parameter that names the token's project."""

_ONE = "/v3/volumes/{volume_id}"
_SNAPSHOT = "/v3/snapshots/{snapshot_id}"
_ATTACHMENT = "/v3/attachments/{attachment_id}"


def _of(method: str, path: str, handler: Handler, status: int = 200, **more: Any) -> Route:
    """A row of one resource: the handler looks it up and enforces its rule on its owner."""
    return Route(method, path, handler, AUTHENTICATED, status, **more)


_ROWS: tuple[Route, ...] = (
    Route("GET", "/v3/volumes", volume_handlers.index, "volume:get_all", query=s.ListQuery),
    Route("POST", "/v3/volumes", volume_handlers.create, "volume:create", 202, body=s.NewVolumeBody, until=(3, 52)),
    Route("POST", "/v3/volumes", volume_handlers.create, "volume:create", 202, body=s.StrictNewVolumeBody,
          since=(3, 53)),
    Route("GET", "/v3/volumes/detail", volume_handlers.detail, "volume:get_all", query=s.ListQuery),
    Route("GET", "/v3/volumes/summary", volume_handlers.summary, "volume:get_all", query=s.ListQuery, since=(3, 12)),
    _of("GET", _ONE, volume_handlers.show),
    _of("PUT", _ONE, volume_handlers.update, body=s.VolumeChangeBody),
    _of("DELETE", _ONE, volume_handlers.delete, 202, query=s.DeleteQuery),
    _of("POST", f"{_ONE}/action", volume_actions.act, 202, body=dict[str, Any]),
    _of("GET", f"{_ONE}/metadata", metadata.of_volume),
    _of("POST", f"{_ONE}/metadata", metadata.add_to_volume, body=s.MetadataBody),
    _of("PUT", f"{_ONE}/metadata", metadata.replace_of_volume, body=s.MetadataBody),
    _of("GET", f"{_ONE}/metadata/{{key}}", metadata.item_of_volume),
    _of("PUT", f"{_ONE}/metadata/{{key}}", metadata.put_on_volume, body=s.MetaItemBody),
    _of("DELETE", f"{_ONE}/metadata/{{key}}", metadata.drop_from_volume),
    # snapshots
    Route("GET", "/v3/snapshots", snapshot_handlers.index, "volume:get_all_snapshots", query=s.ListQuery),
    Route("POST", "/v3/snapshots", snapshot_handlers.create, "volume:create_snapshot", 202, body=s.NewSnapshotBody),
    Route("GET", "/v3/snapshots/detail", snapshot_handlers.detail, "volume:get_all_snapshots", query=s.ListQuery),
    _of("GET", _SNAPSHOT, snapshot_handlers.show),
    _of("PUT", _SNAPSHOT, snapshot_handlers.update, body=s.SnapshotChangeBody),
    _of("DELETE", _SNAPSHOT, snapshot_handlers.delete, 202),
    _of("POST", f"{_SNAPSHOT}/action", snapshot_handlers.act, 202, body=dict[str, Any]),
    _of("GET", f"{_SNAPSHOT}/metadata", metadata.of_snapshot),
    _of("POST", f"{_SNAPSHOT}/metadata", metadata.add_to_snapshot, body=s.MetadataBody),
    _of("PUT", f"{_SNAPSHOT}/metadata", metadata.replace_of_snapshot, body=s.MetadataBody),
    _of("GET", f"{_SNAPSHOT}/metadata/{{key}}", metadata.item_of_snapshot),
    _of("PUT", f"{_SNAPSHOT}/metadata/{{key}}", metadata.put_on_snapshot, body=s.MetaItemBody),
    _of("DELETE", f"{_SNAPSHOT}/metadata/{{key}}", metadata.drop_from_snapshot),
    # attachments
    Route("GET", "/v3/attachments", attachment_handlers.index, "volume:get_all", query=s.ListQuery, since=(3, 27)),
    Route("GET", "/v3/attachments/detail", attachment_handlers.detail, "volume:get_all", query=s.ListQuery,
          since=(3, 27)),
    _of("POST", "/v3/attachments", attachment_handlers.create, body=s.NewAttachmentBody, since=(3, 27)),
    _of("GET", _ATTACHMENT, attachment_handlers.show, since=(3, 27)),
    _of("PUT", _ATTACHMENT, attachment_handlers.update, body=s.AttachmentChangeBody, since=(3, 27)),
    _of("DELETE", _ATTACHMENT, attachment_handlers.delete, since=(3, 27)),
    _of("POST", f"{_ATTACHMENT}/action", attachment_handlers.act, 204, body=s.AttachmentAction, since=(3, 44)),
)


def _scoped(row: Route) -> Route:
    """The row below /v3/{scope_id}, which must be the token's project."""
    handler = row.handler
    if inspect.iscoroutinefunction(handler):
        @functools.wraps(handler)
        async def waits(call: Call) -> Any:
            _check_scope(call)
            return await handler(call)

        wrapped: Handler = waits
    else:
        @functools.wraps(handler)
        def plain(call: Call) -> Any:
            _check_scope(call)
            return handler(call)

        wrapped = plain
    path = f"/v3/{{{SCOPE}}}" + row.path.removeprefix("/v3")
    return dataclasses.replace(row, path=path, handler=wrapped)


def _check_scope(call: Call) -> None:
    if call.params[SCOPE] != call.context.project_id:
        raise BadRequest("Malformed request url: the project in it is not the token's.")


_BOTH = (*_ROWS, *REST_ROUTES)
ROUTES: tuple[Route, ...] = (
    Route("GET", "/", discovery.index, PUBLIC, 300),
    Route("GET", "/v3", discovery.v3, PUBLIC),
    *_BOTH,
    *(_scoped(row) for row in _BOTH),
)
