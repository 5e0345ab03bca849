"""The scheduler's hints, as a request sends them and as a server keeps them for its later moves."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from pileus.compute import json_query
from pileus.web.errors import BadRequest


def of(hints: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of scheduler.Wish that hints fill. Raises BadRequest for one that cannot be understood."""
    query = hints.get("query")
    return {
        "same_host": _ids(hints.get("same_host")), "different_host": _ids(hints.get("different_host")),
        "near": _near(hints), "query": json_query.read(query) if query else None,
    }


def _ids(value: str | list[str] | None) -> tuple[str, ...]:
    """One id or several."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _near(hints: Mapping[str, Any]) -> str | None:
    address, prefix = hints.get("build_near_host_ip"), hints.get("cidr") or "/24"
    if not address:
        return None
    try:
        return str(ipaddress.ip_network(f"{address}{prefix}", strict=False))
    except ValueError:
        raise BadRequest(
            f"Invalid input for the hints build_near_host_ip and cidr: {address}{prefix} is no network; write an "
            "address, and a prefix as /24."
        ) from None
