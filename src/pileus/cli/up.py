"""`pileus up`: the whole cloud on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TextIO

from pileus.cli import credentials, running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings

_CLASSIC = {"identity": 5000, "image": 9292, "compute": 8774, "placement": 8778, "network": 9696}


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--hypervisor", choices=("qemu", "fake"), help="fake boots no guests (setting hypervisor)")
    sub.add_argument("-d", "--detach", action="store_true", help="go on in the background once all APIs answer")


def run(options: argparse.Namespace) -> int:
    """Start; 0 when it was stopped in order, 1 when it could not start."""
    started = time.monotonic()
    settings = read_settings(options)
    from pileus.node.assemble import Missing, check_host, prepare_host

    try:
        check_host(settings)
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = running.Lock(settings)
        prepare_host(settings)
    except (Missing, running.AlreadyRunning, OSError) as error:
        print(f"pileus up: {error}", file=sys.stderr)
        return 1
    if options.detach:
        return _detached(settings, lock, started)
    lock.write()
    return _serve(settings, sys.stderr, lambda: print(summary(settings, time.monotonic() - started), flush=True))


def _serve(settings: Settings, log_to: TextIO, ready: Callable[[], None]) -> int:
    from pileus import serve
    from pileus.cloud import Cloud
    from pileus.node.contract import NodeFault
    from pileus.web import log

    log.set_up(settings.log_format, settings.log_level, log_to)
    try:
        sockets = [("", serve.open_socket(settings.listen))]
        if settings.classic_ports:
            host = settings.listen.rpartition(":")[0]
            sockets += [(name, serve.open_socket(f"{host}:{port}")) for name, port in _CLASSIC.items()]
        cloud = Cloud(settings)
        cloud.open()
    except (serve.ListenError, NodeFault, OSError) as error:
        print(f"pileus up: {error}", file=sys.stderr)
        return 1

    def all_answer() -> None:
        password = running.credentials(settings)
        if password:
            credentials.write(settings, password)
        running.remember(settings)
        ready()

    status = 0
    try:
        serve.run(cloud, sockets, all_answer)
    except* NodeFault as group:
        for fault in group.exceptions:
            print(f"pileus up: {fault}", file=sys.stderr)
        status = 1
    finally:
        cloud.close()
    return status


def _detached(settings: Settings, lock: running.Lock, started: float) -> int:
    """Fork twice, serve in the grandchild, and wait here until it is ready or has failed."""
    log_path = settings.state / "pileus.log"
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _in_background(settings, lock, str(log_path), reader, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.wait()
    if said == "ready":
        print(summary(settings, time.monotonic() - started))
        return 0
    print(f"pileus up: it did not start; {log_path} tells why:", file=sys.stderr)
    with open(log_path, errors="replace") as file:
        sys.stderr.writelines(file.readlines()[-15:])
    return 1


def _in_background(settings: Settings, lock: running.Lock, log_path: str, reader: int, writer: int) -> None:
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

        status = _serve(settings, sys.stderr, ready)
    finally:
        os._exit(status)


def summary(settings: Settings, seconds: float) -> str:
    """What a user of DevStack expects at the end."""
    kind = "real guests (qemu)" if settings.hypervisor == "qemu" else "no real guests (fake)"
    return f"\nThe cloud is up after {seconds:.1f} s: {kind}.\n{where(settings)}"


def where(settings: Settings) -> str:
    """URL, accounts, and how to go on."""
    state = settings.state
    return "\n".join((
        f"  Identity:  {settings.endpoint}/identity/v3",
        f"  Accounts:  admin; its password is in {state}/clouds.yaml",
        f"  Use it:    export OS_CLIENT_CONFIG_FILE={state}/clouds.yaml OS_CLOUD=pileus-admin; openstack server list",
        f"             or: . {state}/openrc",
        "  Go on:     pileus status | doctor | down (state is kept) | destroy (all gone)",
    ))
