"""The microversions that compute honours, in one place, and its version documents."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call
from pileus.web.errors import NotFound
from pileus.web.versions import Microversions, Version, text

FLOOR: Version = (2, 1)
CEILING: Version = (2, 96)

MICROVERSIONS = Microversions("compute", FLOOR, CEILING, "x-openstack-nova-api-version")

_UPDATED = {"v2.0": "2011-01-21T11:33:21Z", "v2.1": "2013-07-23T11:33:21Z"}


def index(call: Call) -> dict[str, Any]:
    """GET /: the versions. v2.0 is the same API without microversions, as Nova serves it."""
    return {"versions": [_summary(call, "v2.0"), _summary(call, "v2.1")]}


def show(call: Call) -> dict[str, Any]:
    """GET /v2 and /v2.1: one version's document."""
    name = "v2.1" if call.path.strip("/").startswith("v2.1") else "v2.0"
    kind = "application/vnd.openstack.compute+json;version=" + ("2.1" if name == "v2.1" else "2")
    return {"version": {**_summary(call, name), "media-types": [{"base": "application/json", "type": kind}]}}


def _summary(call: Call, name: str) -> dict[str, Any]:
    micro = name == "v2.1"
    path = "v2.1" if micro else "v2"
    return {
        "id": name,
        "status": "CURRENT" if micro else "SUPPORTED",
        "version": text(CEILING) if micro else "",
        "min_version": text(FLOOR) if micro else "",
        "updated": _UPDATED[name],
        "links": [{"rel": "self", "href": f"{call.url}/{path}/"}],
    }


def unknown(call: Call) -> None:
    """Anything else at the root."""
    raise NotFound(f"There is no version at {call.path}; there are /v2 and /v2.1.")
