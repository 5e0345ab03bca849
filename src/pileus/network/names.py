"""Names in the DNS."""

from __future__ import annotations

import re

from pileus.network.faults import invalid

_LABEL = re.compile(r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$")


def dns_name(sent: str | None) -> str:
    """A host or domain name, or a full one that ends in a dot: it ends in a DNS server's configuration.

    Raises BadRequest."""
    if not sent:
        return ""
    labels = sent.rstrip(".").split(".")
    if not all(_LABEL.match(label) for label in labels) or (len(labels) > 1 and len(sent) > 253):
        raise invalid(f"'{sent}' not a valid PQDN or FQDN. Reason: each label has 1 to 63 letters, digits and dashes.")
    return sent.lower()
