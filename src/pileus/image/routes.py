"""Image: the whole API on one screen."""

from __future__ import annotations

from pileus.image import data, discovery, editing, imports, listing, members, tags
from pileus.image import schemas as s
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route

_ANY_SIZE = 1 << 62  # uploads: the setting image_max_size says how large
_I = "/v2/images/{image_id}"

# Images carry their owner and visibility, so that nearly every row is decided by its handler, by the rule that
# Glance has for it, after the image was found to exist for the caller.
ROUTES = (
    Route("GET", "/", discovery.versions, PUBLIC),
    Route("GET", "/v2", discovery.versions, PUBLIC),
    Route("GET", "/versions", discovery.versions_asked, PUBLIC),
    Route("GET", "/v2/schemas/{name}", discovery.schema, AUTHENTICATED),
    Route("GET", "/v2/info/import", discovery.import_info, AUTHENTICATED),
    Route("GET", "/v2/info/stores", discovery.stores_info, AUTHENTICATED),
    # images
    Route("GET", "/v2/images", listing.index, AUTHENTICATED),
    Route("POST", "/v2/images", editing.create, AUTHENTICATED, 201, body=s.ImageBody),
    Route("DELETE", "/v2/images", editing.delete_nothing, AUTHENTICATED, 204),
    Route("GET", _I, editing.show, AUTHENTICATED),
    Route("PATCH", _I, editing.update, AUTHENTICATED, body=s.PatchBody, media=tuple(editing.PATCH_TYPES)),
    Route("DELETE", _I, editing.delete, AUTHENTICATED, 204),
    Route("POST", _I + "/actions/deactivate", editing.deactivate, AUTHENTICATED, 204),
    Route("POST", _I + "/actions/reactivate", editing.reactivate, AUTHENTICATED, 204),
    # content
    Route("GET", _I + "/file", data.download, AUTHENTICATED),
    Route("PUT", _I + "/file", data.upload, AUTHENTICATED, 204, raw=True, max_body=_ANY_SIZE),
    Route("PUT", _I + "/stage", data.stage, AUTHENTICATED, 204, raw=True, max_body=_ANY_SIZE),
    Route("POST", _I + "/import", imports.create, AUTHENTICATED, 202, body=s.ImportBody),
    # tags and members
    Route("PUT", _I + "/tags/{tag}", tags.create, AUTHENTICATED, 204),
    Route("DELETE", _I + "/tags/{tag}", tags.delete, AUTHENTICATED, 204),
    Route("GET", _I + "/members", members.index, AUTHENTICATED),
    Route("POST", _I + "/members", members.create, AUTHENTICATED, body=s.MemberNew),
    Route("GET", _I + "/members/{member_id}", members.show, AUTHENTICATED),
    Route("PUT", _I + "/members/{member_id}", members.update, AUTHENTICATED, body=s.MemberChange),
    Route("DELETE", _I + "/members/{member_id}", members.delete, AUTHENTICATED, 204),
    # tasks
    Route("GET", _I + "/tasks", imports.of_image, AUTHENTICATED),
    Route("GET", "/v2/tasks", imports.index, "tasks_api_access"),
    Route("GET", "/v2/tasks/{task_id}", imports.show, "tasks_api_access"),
)
