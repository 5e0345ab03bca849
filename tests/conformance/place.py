"""A part of the host's network that no other cloud uses: names of its own, and addresses for floating IPs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.rest import CloudError

_NAMESPACES = Path("/run/netns")
_DEVICES = Path("/sys/class/net")


@contextmanager
def own_place(locks: Path | None = None) -> Iterator[dict[str, str]]:
    """Settings that keep a cloud of real guests apart from all others of this host, while it is entered.

    Every place has a number, and a lock that the kernel drops when this process ends however it does. Raises
    CloudError when all are taken.
    """
    folder = locks or Path(tempfile.gettempdir())
    routes = _routes()
    for number in range(100):
        lock = os.open(folder / f"pileus-conformance-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _locked(lock) and _free(number, routes):
                yield settings(number)
                return
        finally:
            os.close(lock)
    raise CloudError("every place for a cloud is taken: 'pileus destroy --state-dir …' removes those that are left")


def settings(number: int) -> dict[str, str]:
    """The settings of one place."""
    network = _network(number)
    return {
        "namespace_prefix": _prefix(number),
        "physical_networks": f"public:{_bridge(number)}",
        "public_network": f"{network}.0/24",
        "public_gateway": f"{network}.1",
    }


def _prefix(number: int) -> str:
    return f"ct{number:02d}"


def _bridge(number: int) -> str:
    return f"pileus-ct{number:02d}"


def _network(number: int) -> str:
    return f"172.24.{100 + number}"


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free(number: int, routes: str) -> bool:
    """Whether nothing of a cloud that was left up is there."""
    names = [path.name for path in _NAMESPACES.iterdir()] if _NAMESPACES.exists() else []
    return not (
        any(name.startswith(f"{_prefix(number)}-") for name in names)
        or (_DEVICES / _bridge(number)).exists()
        or f"{_network(number)}." in routes
    )


def _routes() -> str:
    done = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=False)
    return done.stdout
