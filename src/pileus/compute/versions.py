"""The microversions that compute honours, in one place."""

from __future__ import annotations

from pileus.web.versions import Microversions, Version

FLOOR: Version = (2, 1)
CEILING: Version = (2, 96)

MICROVERSIONS = Microversions("compute", FLOOR, CEILING, "x-openstack-nova-api-version")
