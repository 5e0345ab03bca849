"""Identity: the whole API on one screen."""

from __future__ import annotations

from pileus.identity import authenticate, discovery, projects, tokens
from pileus.identity import schemas as s
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route

_KB = 1024

ROUTES = (
    Route("GET", "/", discovery.versions, PUBLIC),
    Route("GET", "/v3", discovery.v3, PUBLIC),
    # tokens
    Route("POST", "/v3/auth/tokens", authenticate.issue, PUBLIC, 201, body=s.AuthBody, max_body=64 * _KB),
    Route("GET", "/v3/auth/tokens", tokens.show, AUTHENTICATED),
    Route("DELETE", "/v3/auth/tokens", tokens.revoke, AUTHENTICATED, 204),
    Route("GET", "/v3/auth/catalog", tokens.show_catalog, AUTHENTICATED),
    # projects
    Route("GET", "/v3/projects", projects.index, AUTHENTICATED, query=s.ProjectQuery),
    Route("POST", "/v3/projects", projects.create, AUTHENTICATED, 201, body=s.ProjectNewBody),
    Route("GET", "/v3/projects/{project_id}", projects.show, AUTHENTICATED),
    Route("PATCH", "/v3/projects/{project_id}", projects.update, AUTHENTICATED, body=s.ProjectNewBody),
    Route("DELETE", "/v3/projects/{project_id}", projects.delete, AUTHENTICATED, 204),
    Route("GET", "/v3/projects/{project_id}/tags", projects.list_tags, AUTHENTICATED),
    Route("PUT", "/v3/projects/{project_id}/tags", projects.replace_tags, AUTHENTICATED, body=s.TagsBody),
    Route("DELETE", "/v3/projects/{project_id}/tags", projects.delete_tags, AUTHENTICATED, 204),
    Route("GET", "/v3/projects/{project_id}/tags/{tag}", projects.has_tag, AUTHENTICATED, 204),
    Route("PUT", "/v3/projects/{project_id}/tags/{tag}", projects.add_tag, AUTHENTICATED, 201),
    Route("DELETE", "/v3/projects/{project_id}/tags/{tag}", projects.remove_tag, AUTHENTICATED, 204),
)
