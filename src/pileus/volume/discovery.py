"""The versions of the volume service."""

from __future__ import annotations

from typing import Any

from pileus.volume.versions import CEILING, FLOOR
from pileus.web.call import Call
from pileus.web.versions import text

_UPDATED = "2023-08-31T00:00:00Z"
_MEDIA = {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}


def index(call: Call) -> dict[str, Any]:
    """GET /: 300, the one major version there is."""
    return {"versions": [_version(call)]}


def v3(call: Call) -> dict[str, Any]:
    """GET /v3: 200, the version by itself."""
    return {"versions": [_version(call)]}


def _version(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.0", "status": "CURRENT", "version": text(CEILING), "min_version": text(FLOOR), "updated": _UPDATED,
        "links": [{"rel": "self", "href": f"{call.url}/v3/"}], "media-types": [_MEDIA],
    }
