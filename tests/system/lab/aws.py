"""Runs Amazon's command line, `aws ec2 …`, and shows each command with its time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from pileus.demo.client import StoryError, find_client, told


class Aws:
    """One access key's client. The key is in the environment, and in no process's arguments."""

    def __init__(self, url: str, key: dict[str, str]) -> None:
        self.url = url
        self._program = str(Path(find_client()).parent / "aws")
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": key["access"], "AWS_SECRET_ACCESS_KEY": key["secret"], "AWS_MAX_ATTEMPTS": "1",
            "AWS_DEFAULT_REGION": "RegionOne", "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _ask(self, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        began = time.monotonic()
        command = (self._program, "ec2", *words, "--endpoint-url", self.url, "--output", "json")
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=300,
            stdin=subprocess.DEVNULL,
        )
        told(f"$ aws ec2 {' '.join(words)} --endpoint-url {self.url}", began)
        return done

    def run(self, *words: str) -> str:
        """What it prints. Raises StoryError when it fails."""
        done = self._ask(words)
        if done.returncode:
            raise StoryError(f"aws ec2 {' '.join(words)} failed:\n{done.stderr.strip()}")
        return done.stdout.strip()

    def json(self, *words: str) -> Any:
        """The same, read as JSON."""
        return json.loads(self.run(*words))

    def refused(self, *words: str) -> str:
        """What it complains of. Raises StoryError when it works."""
        done = self._ask(words)
        if not done.returncode:
            raise StoryError(f"aws ec2 {' '.join(words)} should have been refused")
        return done.stderr.strip()
