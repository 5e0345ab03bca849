"""The config drive: an ISO 9660 file system labelled config-2, as cloud-init's ConfigDrive reads it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pileus.node.contract import ConfigDriveFile, NodeFault
from pileus.node.hypervisor.qemu.imagetool import Fresh
from pileus.node.hypervisor.qemu.process import ENVIRONMENT
from pileus.node.hypervisor.qemu.settings import Account


def write(target: Path, files: Sequence[ConfigDriveFile], who: Account) -> None:
    """Write the drive, readable by QEMU's account alone: it may hold passwords. Blocks.

    Raises NodeFault for a path that leaves the drive, and if the file system cannot be made."""
    tree = target.with_name(target.name + ".tree")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(mode=0o700)
    try:
        for file in files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts:
                raise NodeFault(f"config drive: the path '{file.path}' leaves the drive")
            place = tree / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
        with Fresh(target, who) as fresh:
            _make_iso(tree, fresh)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _make_iso(tree: Path, target: Path) -> None:
    label = ("-V", "config-2", "-volset", "config-2", "-publisher", "Pileus")
    # Joliet and Rock Ridge both keep the long names; -allow-* as names of user metadata files are free.
    names = ("-J", "-joliet-long", "-r", "-l", "-allow-lowercase", "-allow-multidot", "-ldots")
    command = ["genisoimage", "-quiet", *label, *names, "-o", str(target), str(tree)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, env=ENVIRONMENT, check=False)
    except FileNotFoundError:
        raise NodeFault("the config drive needs the program genisoimage: install the package of that name") from None
    except subprocess.TimeoutExpired:
        raise NodeFault("genisoimage did not make the config drive within 60 seconds") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it did not say why"]
        raise NodeFault(f"genisoimage could not make the config drive: {lines[-1]}")
