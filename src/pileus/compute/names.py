"""What users call things: names, host names and addresses as they send them, checked and made canonical."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata

from pileus.web.errors import BadRequest

_NOT_IN_HOSTNAMES = re.compile(r"[^a-z0-9.-]")


def check_name(name: str) -> str:
    """The name without blanks at its ends. Raises BadRequest for control characters."""
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") for c in name):
        raise BadRequest(f"Invalid input for field/attribute name. Value: {name!r}. It has control characters.")
    return name.strip()


def hostname(name: str, server_id: str) -> str:
    """A host name made from a server's name: what no DNS label may hold is left out (Nova does the same)."""
    text = name.lower().replace(" ", "-").replace("_", "-")
    text = _NOT_IN_HOSTNAMES.sub("", text.encode("latin-1", "ignore").decode("latin-1")).replace(".", "-").strip("-")
    return text[:63].rstrip("-") or f"server-{server_id}"


def check_hostname(name: str, fqdn: bool) -> str:
    """A host name as the user wants it; with dots only where domains are allowed. Raises BadRequest."""
    label = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    pattern = rf"{label}(\.{label})*" if fqdn else label
    if not re.fullmatch(pattern, name):
        raise BadRequest(f"Invalid input for field/attribute hostname. Value: {name}. It is not a host name.")
    return name


def address(text: str, version: int, field: str) -> str:
    """An address as it is written best; "" stays "". Raises BadRequest when it is none of that version."""
    if not text:
        return ""
    try:
        return str(ipaddress.IPv4Address(text) if version == 4 else ipaddress.IPv6Address(text))
    except ValueError:
        raise BadRequest(
            f"Invalid input for field/attribute {field}. Value: {text}. It is not an IPv{version} address."
        ) from None


def check_user_data(text: str | None) -> str | None:
    """User data, which must be base64. Raises BadRequest."""
    if text is None:
        return None
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("Invalid input for field/attribute user_data. It is not base64.") from None
    return text


def last_part(reference: str | int) -> str:
    """The id in a reference that may be a URL, as old clients send images and flavors."""
    return str(reference).rstrip("/").rpartition("/")[2] if "/" in str(reference) else str(reference)
