"""What tests of nodes with real guests need: the accounts that guests run as, and a folder for the nodes.

With two workers (`-n 2`) each has a network and accounts of its own, a file stays with one of them,
and so do all labs: each of these is a cloud of many processes that has the processor's time nearly to itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cache import GUEST
from tests.system import ground
from xdist.scheduler import LoadFileScheduling

from pileus.node.assemble import clean_host, prepare_host
from pileus.node.guestimage import cached
from pileus.settings import Settings


def pytest_configure(config: pytest.Config) -> None:
    """Give a worker its place, from which no mirror of Debian can be reached: the guest image is built before."""
    if hasattr(config, "workerinput") and os.geteuid() == 0:
        cached(GUEST.parent)
        ground.take()


class Machines(LoadFileScheduling):
    """Keeps a file with one worker, and all labs with one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "lab" if file.startswith("tests/system/lab/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Machines:
    """Say what stays together."""
    return Machines(config, log)


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The accounts that QEMU and its daemons run as; gone afterwards if they were not there before."""
    settings = Settings(state_dir=str(tmp_path_factory.mktemp("account")))
    prepare_host(settings)
    yield
    clean_host(settings)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder for the nodes of a test, which those accounts may enter; the guest's image is in the cache.

    Its path is short: sockets lie below it. Whoever uses it ends what runs in it."""
    cached(GUEST.parent)
    made = Path(tempfile.mkdtemp(prefix="pt-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)
