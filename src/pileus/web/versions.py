"""Microversions: how a service names them, and which one a request asks for.

Follows the API-SIG guideline: `OpenStack-API-Version: compute 2.79`, the older per-service header where
a service still has one, `latest`, 406 for a version out of range and 400 for one that is not a version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pileus.web.errors import BadRequest, NotAcceptable

Version = tuple[int, int]

_SHAPE = re.compile(r"^([1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$")


def text(version: Version) -> str:
    """`(2, 79)` as `2.79`."""
    return f"{version[0]}.{version[1]}"


@dataclass(frozen=True)
class Microversions:
    """The range that one service honours."""

    service: str  # "compute"
    lowest: Version
    highest: Version
    legacy_header: str = ""  # "x-openstack-nova-api-version"

    def negotiate(self, headers: dict[str, str]) -> Version:
        """The version a request is served with. Raises BadRequest or NotAcceptable."""
        asked, sent = "", headers.get("openstack-api-version")
        for part in sent.split(",") if sent else ():
            words = part.split()
            if len(words) == 2 and words[0].lower() == self.service:
                asked = words[1]
        if not asked and self.legacy_header:
            asked = headers.get(self.legacy_header, "").strip()
        if not asked:
            return self.lowest
        if asked == "latest":
            return self.highest
        shape = _SHAPE.match(asked)
        if not shape:
            raise BadRequest(
                f"API Version String '{asked}' is of invalid format. Must be of format MajorNum.MinorNum."
            )
        version = (int(shape[1]), int(shape[2]))
        if not self.lowest <= version <= self.highest:
            raise NotAcceptable(
                f"Version {asked} is not supported by the API. Minimum is {text(self.lowest)} and "
                f"maximum is {text(self.highest)}.",
                min_version=text(self.lowest),
                max_version=text(self.highest),
            )
        return version

    def headers(self, version: Version) -> dict[str, str]:
        """What every reply of the service says of its version."""
        names = "OpenStack-API-Version"
        reply = {names: f"{self.service} {text(version)}", "Vary": names}
        if self.legacy_header:
            reply[self.legacy_header] = text(version)
            reply["Vary"] = f"{names}, {self.legacy_header}"
        return reply
