"""A cloud of many machines in the place of one process: a lab, entered where its users are."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.conformance.cloud import administrator, pileus
from tests.conformance.config import COMPLIANCE_SETTINGS, Administrator, Hypervisor
from tests.conformance.rest import CloudError

_NEWNET = 0x40000000


@contextmanager
def running(
    state: Path, layout: str, nodes: int, hypervisor: Hypervisor, logs: Path, keep: bool,
    extra: Mapping[str, str] | None = None,
) -> Iterator[Administrator]:
    """Build the lab in `state`, be on the network of its client meanwhile, and take it down at the end unless `keep`.

    Raises CloudError when it cannot be built."""
    environment = dict(os.environ)
    settings = {"import_allow_private": "true", **COMPLIANCE_SETTINGS, **(extra or {})}
    sets = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    folder = state / "lab"
    try:
        chosen = ["--layout", layout, "--nodes", str(nodes), "--hypervisor", hypervisor]
        pileus(["lab", "up", "--folder", str(folder), *chosen, *sets], logs, environment)
        with _network_of_client(folder):
            yield administrator(folder / "clouds.yaml")
    except BaseException:
        with suppress(CloudError):
            _end(state, folder, logs, environment, keep)
        raise
    _end(state, folder, logs, environment, keep)


@contextmanager
def _network_of_client(folder: Path) -> Iterator[None]:
    """Until the end this process, and all that it starts, is on the network of the lab's client."""
    pid = json.loads((folder / "lab.json").read_text())["machines"]["client"]["pid"]
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before, open(f"/proc/{pid}/ns/net") as there:
        if libc.setns(there.fileno(), _NEWNET):
            raise CloudError(f"the network of the lab's client cannot be entered: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            libc.setns(before.fileno(), _NEWNET)


def _end(state: Path, folder: Path, logs: Path, environment: dict[str, str], keep: bool) -> None:
    for log in (folder / "machines").rglob("*.log"):
        with suppress(OSError):
            machine = log.relative_to(folder / "machines").parts[0]
            shutil.copy(log, logs / f"{machine}-{log.name}")
    if not keep:
        pileus(["lab", "down", "--folder", str(folder)], logs, environment)
        shutil.rmtree(state, ignore_errors=True)
