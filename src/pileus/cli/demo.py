"""`pileus demo`: a cloud, and the story on it; the cloud stays up."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from pileus.cli import running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings

_IMAGES = Path("/var/cache/pileus")


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--image", metavar="FILE", help="a guest image to use instead of building one")


def run(options: argparse.Namespace) -> int:
    """0 when the whole story came out as told."""
    settings = read_settings(options)
    if settings.hypervisor != "qemu":
        print("pileus demo: it shows real guests; the fake hypervisor has none", file=sys.stderr)
        return 2
    from pileus.demo.client import StoryError

    began = time.monotonic()
    try:
        image = Path(options.image) if options.image else _image()
        if running.pid_of(settings) is None:
            _start(options)
        settings = running.as_started(settings)
        _tell(settings, image)
    except StoryError as error:
        print(f"\npileus demo: {error}", file=sys.stderr)
        return 1
    print(f"\nThe story took {time.monotonic() - began:.0f} s, and nothing of it is left on the host.")
    from pileus.cli.up import where

    print(where(settings))
    return 0


def _image() -> Path:
    from pileus.cli.progress import Steps
    from pileus.demo.client import StoryError
    from pileus.node.guestimage import cached
    from pileus.node.guestimage.faults import BuildError

    print("The guest image, from Debian packages:", flush=True)
    try:
        with Steps() as steps:
            return cached(_IMAGES, progress=steps.show)
    except BuildError as error:
        raise StoryError(str(error)) from None


def _start(options: argparse.Namespace) -> None:
    from pileus.demo.client import StoryError

    words = [sys.executable, "-m", "pileus.cli.main", "up", "-d"]
    for name in ("config", "state_dir"):
        if getattr(options, name):
            words += [f"--{name.replace('_', '-')}", getattr(options, name)]
    words += [part for pair in options.set for part in ("--set", pair)]
    if subprocess.run(words, check=False).returncode:
        raise StoryError("the cloud did not start")
    print(flush=True)


def _tell(settings: Settings, image: Path) -> None:
    import secrets

    from pileus.demo.client import StoryError
    from pileus.demo.story import Story, traces

    before = set(traces(settings.namespace_prefix))
    story = Story(settings.state / "clouds.yaml", settings.state / "demo", image, secrets.token_urlsafe(12))
    story.tell()
    until = time.monotonic() + 10
    while left := set(traces(settings.namespace_prefix)) - before:
        if time.monotonic() > until:
            raise StoryError(f"left on the host: {', '.join(sorted(left))}")
        time.sleep(0.2)
