"""Labs for tests: in a folder of their own, taken down at the end, and what they complained of is printed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.cache import CACHE

from pileus.lab import Lab
from pileus.lab.record import Choice
from pileus.node.guestimage import cached

QUICK = {"bcrypt_rounds": "4", "accelerator": "tcg"}


@contextlib.contextmanager
def built(layout: str, *, settings: dict[str, str] | None = None, **choice: Any) -> Iterator[Lab]:
    """A lab that is up. Taken down at the end, it must leave nothing."""
    folder = Path(tempfile.mkdtemp(prefix="pileus-lab-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        with Lab(Choice(layout=layout, settings={**QUICK, **(settings or {})}, **choice), folder) as lab:
            try:
                yield lab
            finally:
                print(complaints(lab))
        assert not folder.exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def complaints(lab: Lab) -> str:
    """What the logs of controllers and agents have that is not as it should be; pytest shows it when a test failed."""
    found = []
    for path in sorted(lab.folder.glob("machines/*/var/log/*.log")):
        if path.name in ("controller.log", "agent.log"):
            lines = [line for line in path.read_text(errors="replace").splitlines() if " INFO " not in line]
            found.append(f"-- {path.parents[2].name} {path.name}\n" + "\n".join(lines)[-5000:])
    return "\n".join(found)


def doctor(lab: Lab, wait: float = 60.0, without: Sequence[str] = ()) -> str:
    """What the first controller's doctor says of the whole cloud, but for the nodes `without`.

    Raises LabError when something disagrees."""
    head = next(node for node in lab.nodes.values() if "controller" in node.parts and node.part("controller").running)
    but = [word for name in without for word in ("--without", name)]
    return head.pileus("doctor", "--wait", str(wait), *but, timeout=wait + 60)


def guest_image() -> Path:
    """The project's small guest."""
    return cached(CACHE)
