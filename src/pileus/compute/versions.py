"""The microversions that compute honours, in one place."""

from __future__ import annotations

from pileus.web.call import Call
from pileus.web.versions import Microversions, Version

FLOOR: Version = (2, 1)
CEILING: Version = (2, 96)

MICROVERSIONS = Microversions("compute", FLOOR, CEILING, "x-openstack-nova-api-version")


def in_path(call: Call) -> str:
    """The version in the request's path, which its links have too."""
    return "v2" if call.path.startswith("/v2/") else "v2.1"
