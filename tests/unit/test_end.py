"""The end of a process: an exit status that says what came of it."""

from __future__ import annotations

import subprocess
import sys

# Exit functions run last first: this one runs after those of the package.
_SCRIPT = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count()))
import pileus.cloud
"""


def test_what_is_left_at_the_end_is_not_collected() -> None:
    """The interpreter's last collection crashed in msgspec, now and then (its issue 717)."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000, "nothing was frozen"
