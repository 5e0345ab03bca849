"""The microversions that the volume service honours, in one place."""

from __future__ import annotations

from pileus.web.versions import Microversions, Version

FLOOR: Version = (3, 0)
CEILING: Version = (3, 71)

MICROVERSIONS = Microversions("volume", FLOOR, CEILING)
