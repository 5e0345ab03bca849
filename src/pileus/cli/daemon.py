"""A process that serves in the foreground or, once it is ready, in the background."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from pileus.cli import running
from pileus.settings import Settings

Serve = Callable[[Callable[[], None]], int]
"""Serves until it is stopped, calls what it is given when all is ready, and returns the exit status."""


def start(
    command: str, settings: Settings, lock: running.Lock, serve: Serve, said: Callable[[], str], *, detach: bool
) -> int:
    """Serve, and print `said()` when it is ready. Detached, this returns then; 1 when it could not start."""
    if detach:
        return _detached(command, settings, lock, serve, said)
    lock.write()
    return serve(lambda: print(said(), flush=True))


def _detached(
    command: str, settings: Settings, lock: running.Lock, serve: Serve, said: Callable[[], str]
) -> int:
    """Fork twice, serve in the grandchild, and wait here until it is ready or has failed."""
    log_path = settings.state / "pileus.log"
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _in_background(serve, lock, str(log_path), reader, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.wait()
    if answer == "ready":
        print(said())
        return 0
    print(f"{command}: it did not start; {log_path} tells why:", file=sys.stderr)
    with open(log_path, errors="replace") as file:
        sys.stderr.writelines(file.readlines()[-15:])
    return 1


def _in_background(serve: Serve, lock: running.Lock, log_path: str, reader: int, writer: int) -> None:
    status = 1
    try:
        os.close(reader)
        os.chdir("/")
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.set_inheritable(writer, False)
        lock.write()

        def ready() -> None:
            os.write(writer, b"ready")
            os.close(writer)

        status = serve(ready)
    except BaseException:  # the process ends without the interpreter's own last words
        traceback.print_exc()
    finally:
        os._exit(status)
