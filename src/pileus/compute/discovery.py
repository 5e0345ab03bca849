"""The versions of compute. v2.0 is the same API without microversions, as Nova serves it."""

from __future__ import annotations

from typing import Any

from pileus.compute.versions import CEILING, FLOOR
from pileus.web.call import Call
from pileus.web.versions import text

_UPDATED = {"v2.0": "2011-01-21T11:33:21Z", "v2.1": "2013-07-23T11:33:21Z"}


def index(call: Call) -> dict[str, Any]:
    """GET /: 200, the oldest first."""
    return {"versions": [_summary(call, "v2.0"), _summary(call, "v2.1")]}


def v2(call: Call) -> dict[str, Any]:
    """GET /v2: 200."""
    return _document(call, "v2.0", "2")


def v21(call: Call) -> dict[str, Any]:
    """GET /v2.1: 200."""
    return _document(call, "v2.1", "2.1")


def _document(call: Call, name: str, number: str) -> dict[str, Any]:
    kind = f"application/vnd.openstack.compute+json;version={number}"
    return {"version": {**_summary(call, name), "media-types": [{"base": "application/json", "type": kind}]}}


def _summary(call: Call, name: str) -> dict[str, Any]:
    micro = name == "v2.1"
    return {
        "id": name, "status": "CURRENT" if micro else "SUPPORTED", "version": text(CEILING) if micro else "",
        "min_version": text(FLOOR) if micro else "", "updated": _UPDATED[name],
        "links": [{"rel": "self", "href": f"{call.url}/{'v2.1' if micro else 'v2'}/"}],
    }
