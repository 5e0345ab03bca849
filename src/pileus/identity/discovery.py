"""What versions of identity there are."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call, Reply


def _v3(call: Call) -> dict[str, Any]:
    return {
        "id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{call.url}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


def versions(call: Call) -> Reply:
    """GET /: 300, all versions."""
    return Reply({"versions": {"values": [_v3(call)]}}, status=300, headers={"Vary": "X-Auth-Token"})


def v3(call: Call) -> dict[str, Any]:
    """GET /v3: 200."""
    return {"version": _v3(call)}
