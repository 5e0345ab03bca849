"""What is known of a lab between commands: one file in its folder, written before the lab goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pileus.cli.credentials import private
from pileus.lab.faults import LabError
from pileus.node.hypervisor.qemu.process import ProcessId


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    layout: str
    nodes: int = 0  # compute nodes; 0: as many as the layout has
    hypervisor: str = "qemu"
    database: str = ""  # empty: the layout's own
    settings: dict[str, str] = {}  # of every controller and agent, over the lab's own


class Record(msgspec.Struct, kw_only=True):
    """A lab's state."""

    choice: Choice
    secrets: dict[str, str] = {}
    machines: dict[str, ProcessId] = {}  # each machine's first process
    parts: dict[str, dict[str, ProcessId]] = {}  # machine → part → its process
    cut: dict[str, list[str]] = {}  # node → the networks that it is cut from
    ready: bool = False


def load(folder: Path) -> Record:
    """The lab of this folder. Raises LabError when there is none."""
    try:
        return msgspec.json.decode((folder / "lab.json").read_bytes(), type=Record)
    except FileNotFoundError:
        raise LabError(f"there is no lab in {folder}; make one: pileus lab up --layout devstack") from None
    except msgspec.MsgspecError as error:
        raise LabError(f"{folder}/lab.json cannot be read: {error}") from None


def save(folder: Path, record: Record) -> None:
    """Write the record whole or not at all; only its owner can read it."""
    private(folder / "lab.json", msgspec.json.encode(record).decode())


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other commands from changing the lab meanwhile. Raises LabError when one is at it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LabError(f"another command is changing the lab in {folder}; wait for it, or end it") from None
    finally:
        os.close(handle)
