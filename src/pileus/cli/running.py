"""The one process of a state folder: its lock, its pid, and whether it answers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from pileus.cli.credentials import private
from pileus.settings import Settings


class AlreadyRunning(Exception):
    """Another process serves this state folder."""


class Lock:
    """Held by the serving process as long as it lives, however it ends."""

    def __init__(self, settings: Settings) -> None:
        settings.run.mkdir(parents=True, exist_ok=True)
        self._path = settings.run / "pileus.pid"
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise AlreadyRunning(f"a cloud runs already on {settings.state} (pid {pid_of(settings)})") from None

    def close(self) -> None:
        """Let go of it before the process ends."""
        os.close(self._handle)

    def write(self) -> None:
        """Put this process's pid where others find it; after the last fork."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)


def pid_of(settings: Settings) -> int | None:
    """The pid of the process that holds the lock of this state folder; None when there is none."""
    path = settings.run / "pileus.pid"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(handle, 32, 0).strip()
        return int(text) if text.isdigit() else -1
    else:
        return None
    finally:
        os.close(handle)


def stop(settings: Settings, seconds: float = 30.0) -> bool:
    """Ask the process to stop and wait; whether there was one. Raises TimeoutError when it does not end."""
    pid = pid_of(settings)
    if pid is None or pid <= 0:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while pid_of(settings) is not None:
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} has not stopped within {seconds:.0f} s; its log tells why")
        time.sleep(0.02)
    return True


def remember(settings: Settings, role: str = "up") -> None:
    """Write down how the process was started (`role`: up, server, agent), so that later commands need only the state
    folder."""
    private(settings.run / "role", role)
    plain = msgspec.structs.replace(settings, admin_password="")
    private(settings.run / "settings.json", msgspec.json.encode(plain).decode())


def has_nodes(settings: Settings) -> bool:
    """Whether the process of this state folder is a node, or plays some: everything but `pileus server`."""
    return (settings.run / "role").read_text().strip() != "server" if (settings.run / "role").exists() else True


def as_started(settings: Settings) -> Settings:
    """The settings that the cloud of this state folder was last started with, else those given."""
    try:
        return msgspec.json.decode((settings.run / "settings.json").read_bytes(), type=Settings)
    except (OSError, msgspec.MsgspecError):
        return settings


def healthy(endpoint: str, seconds: float = 2.0) -> str:
    """"ok", or what is wrong."""
    try:
        with urllib.request.urlopen(f"{endpoint}/healthz", timeout=seconds) as reply:
            text: str = reply.read().decode().strip()
            return text
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace").strip() or str(error)
    except (OSError, ValueError) as error:
        return str(error)


def credentials(settings: Settings) -> str:
    """The admin's first password, as the state folder keeps it; empty when it was set by an operator."""
    path: Path = settings.state / "admin-password"
    return settings.admin_password or (path.read_text().strip() if path.exists() else "")
