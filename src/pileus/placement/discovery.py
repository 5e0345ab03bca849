"""The version document."""

from __future__ import annotations

from pileus.placement.views import fresh
from pileus.web.call import Call, Reply
from pileus.web.versions import Microversions

VERSIONS = Microversions("placement", (1, 0), (1, 39))


def root(call: Call) -> Reply:
    """GET /: 200, without a token."""
    low, high = (f"{v[0]}.{v[1]}" for v in (VERSIONS.lowest, VERSIONS.highest))
    version = {
        "id": f"v{low}", "max_version": high, "min_version": low, "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }
    return fresh(call, {"versions": [version]})
