"""The note beside a SQLite file whose cloud has moved to a database server: no cloud starts on the old file."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path


class CloudMoved(OSError):
    """The SQLite file's cloud is elsewhere now; says where, and how to go on."""


def note_of(file: Path) -> Path:
    """Where the note about a SQLite file is."""
    return file.with_name(file.name + ".moved")


def write_note(file: Path, place: str) -> None:
    """Say that the file's cloud is at `place` now, durably; for whoever may read the file's folder."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    path = note_of(file)
    part = path.with_name(path.name + ".part")
    with part.open("w") as out:
        out.write(f"{place}\n{when}\n")
        out.flush()
        os.fsync(out.fileno())
    owner = file.stat()
    if os.geteuid() == 0:
        os.chown(part, owner.st_uid, owner.st_gid)
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check(file: Path) -> None:
    """Raises CloudMoved when the file's cloud has moved."""
    try:
        place, _, when = note_of(file).read_text().strip().partition("\n")
    except OSError:
        return
    raise CloudMoved(
        f"the cloud of {file} was moved to {place} on {when}: start it with the setting `database` (PILEUS_DATABASE) "
        f"naming that. To go back to the state of before the move, losing what was done since, remove {note_of(file)}"
    )
