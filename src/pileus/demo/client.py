"""Runs the official `openstack` client and plain host commands, and shows each as it happens with its time."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class StoryError(Exception):
    """A step of the story did not come out as told."""


def find_client() -> str:
    """The path of `openstack`. Raises StoryError when it is not installed."""
    beside = Path(sys.executable).parent
    places = [beside, *(p / ".venv-conformance" / "bin" for p in (Path.cwd(), beside.parent.parent))]
    for place in places:
        if (place / "openstack").exists():
            return str(place / "openstack")
    found = shutil.which("openstack")
    if found is None:
        raise StoryError("the client `openstack` is not installed: pip install python-openstackclient")
    return found


class Client:
    """One user's client."""

    def __init__(self, program: str, clouds: Path, cloud: str) -> None:
        self._program = program
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("OS_")},
            "OS_CLIENT_CONFIG_FILE": str(clouds), "OS_CLOUD": cloud,
        }
        self.cloud = cloud

    def run(self, *words: str, secret: str | None = None, show: bool = True) -> str:
        """What the client prints. `secret` answers its password prompts. Raises StoryError when it fails."""
        began = time.monotonic()
        command = [self._program, *words]
        if secret is not None:
            status, printed = _at_terminal(command, self._environment, secret)
            complaint = printed
        else:
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, check=False, timeout=300,
                stdin=subprocess.DEVNULL,
            )
            status, printed, complaint = done.returncode, done.stdout, done.stderr
        if show or status:
            told(f"{self.cloud}$ openstack {' '.join(_quoted(w) for w in words)}", began)
        if status:
            raise StoryError(f"openstack {' '.join(words)} failed:\n{complaint.strip() or printed.strip()}")
        return printed.strip()

    def json(self, *words: str, **options: Any) -> Any:
        """The same, read as JSON."""
        return json.loads(self.run(*words, "-f", "json", **options))

    def wait(self, server: str, status: str, seconds: float = 120.0) -> None:
        """Until a server has a status. Raises StoryError when it does not come to it."""
        began = time.monotonic()
        while True:
            seen = self.run("server", "show", server, "-f", "value", "-c", "status", show=False)
            if seen == status:
                return told(f"  … {server} is {status}", began)
            if seen == "ERROR" or time.monotonic() - began > seconds:
                raise StoryError(f"server {server} is {seen}, not {status}, after {seconds:.0f} s")


def _at_terminal(command: list[str], environment: dict[str, str], secret: str) -> tuple[int, str]:
    """Run a command that asks for a password, at a terminal of its own: (exit status, what it printed).

    So the password is in no process's arguments."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, environment)
    printed = b""
    answered = 0
    with contextlib.suppress(OSError):  # EIO: the other side has closed
        while data := os.read(terminal, 4096):
            printed += data
            if printed.count(b"assword:") > answered:
                answered += 1
                os.write(terminal, secret.encode() + b"\n")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), printed.decode(errors="replace").replace(secret, "…")


def host(*words: str, seconds: float = 60.0, say: str | None = None) -> str:
    """Run a command of the host until it succeeds, for at most `seconds`; what it prints."""
    began = time.monotonic()
    while True:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds,
                              stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            told(f"host$ {say or ' '.join(_quoted(w) for w in words)}", began)
            return done.stdout.strip()
        if time.monotonic() - began > seconds:
            raise StoryError(f"{' '.join(words)} did not succeed within {seconds:.0f} s:\n{done.stderr or done.stdout}")
        time.sleep(0.2)


def told(text: str, began: float) -> None:
    """A step, with the time it took."""
    print(f"{time.monotonic() - began:7.2f} s  {text}", flush=True)


def _quoted(word: str) -> str:
    return f"'{word}'" if " " in word or not word else word
