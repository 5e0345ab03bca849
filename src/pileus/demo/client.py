"""Runs the official `openstack` client and plain host commands, and shows each as it happens with its time."""

from __future__ import annotations

import json
import os
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
        done = subprocess.run(
            [self._program, *words], env=self._environment, capture_output=True, text=True, check=False, timeout=300,
            input=None if secret is None else f"{secret}\n{secret}\n",
            stdin=subprocess.DEVNULL if secret is None else None,
            start_new_session=True,
        )
        if show or done.returncode:
            told(f"{self.cloud}$ openstack {' '.join(_quoted(w) for w in words)}", began)
        if done.returncode:
            raise StoryError(f"openstack {' '.join(words)} failed:\n{done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

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
