"""Ports of loopback for what tests start.

The kernel gives an unbound connection a port of `ip_local_port_range`, 32768 and up. A port of that range that was free
a moment ago may so be somebody's by the time a server binds it; those here are below, and no two workers share any.
"""

from __future__ import annotations

import os
import socket

_EACH = 4_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw3").removeprefix("gw")) % 4
_FIRST = 14_000 + _WORKER * _EACH
_next = _FIRST + os.getpid() % _EACH  # two runs at once, or one after another, begin elsewhere


def free_port(run: int = 1) -> int:
    """The first of so many ports of 127.0.0.1 in a row that nobody listens at, and that were not given just before."""
    global _next
    for _ in range(_EACH):
        first, _next = _next, _next + run
        if _next > _FIRST + _EACH:
            _next = _FIRST
        elif all(_is_free(first + number) for number in range(run)):
            return first
    raise RuntimeError("every port that tests may have is taken")


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
        return True
