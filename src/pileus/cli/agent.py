"""`pileus agent`: a node."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pileus.cli import daemon, running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import Settings, SettingsError


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    settings_arguments(sub)
    sub.add_argument("--server", metavar="HOST[:PORT],…", help="controllers to join, https:// before them or not")
    sub.add_argument("--token", metavar="TOKEN", help="join token; others on this machine can see it: better is")
    sub.add_argument("--token-file", metavar="FILE", help="a file that holds it (-: standard input), or PILEUS_TOKEN")
    sub.add_argument("--roles", metavar="ROLE,…", help="compute, network, storage (setting roles)")
    sub.add_argument("--hypervisor", choices=("qemu", "fake"), help="fake boots no guests (setting hypervisor)")
    sub.add_argument("-d", "--detach", action="store_true", help="go on in the background once it is connected")


def run(options: argparse.Namespace) -> int:
    """Start; 0 when it was stopped in order, 1 when it could not start."""
    from pileus.node.assemble import Missing, check_host, prepare_host
    from pileus.node.contract import NodeFault
    from pileus.node.identity import CannotJoin

    started = time.monotonic()
    settings = _settings(options)
    try:
        settings.state.mkdir(parents=True, exist_ok=True, mode=0o755)
        lock = running.Lock(settings)
        roles = _join(settings, options)
        check_host(settings, roles)
        prepare_host(settings)
        running.remember(settings, "agent")
    except (Missing, CannotJoin, NodeFault, running.AlreadyRunning, OSError) as error:
        print(f"pileus agent: {error}", file=sys.stderr)
        return 1
    return daemon.start(
        "pileus agent", settings, lock, lambda ready: _serve(settings, ready),
        lambda: f"{_who(settings)} connected after {time.monotonic() - started:.1f} s (roles: {', '.join(roles)}).",
        detach=options.detach,
    )


def _settings(options: argparse.Namespace) -> Settings:
    from pileus.cluster.invitation import ROLES

    # What only controllers need does not stay on a node, even where both were given the same file.
    settings = msgspec.structs.replace(read_settings(options), database="", bus="", admin_password="")
    given = {pair.partition("=")[0] for pair in options.set}
    if options.roles:
        settings = msgspec.structs.replace(settings, roles=tuple(r.strip() for r in options.roles.split(",") if r))
    if "public_gateway" not in given and settings.public_gateway == type(settings)().public_gateway:
        # The gateway's address is on one machine at most; on the others the network only passes by.
        settings = msgspec.structs.replace(settings, public_gateway="")
    wrong = [role for role in settings.roles if role not in ROLES]
    if wrong:
        raise SettingsError(f"there is no role '{wrong[0]}'; an agent is of {', '.join(ROLES)}")
    return settings


def _names(settings: Settings) -> list[str]:
    from pileus.node.assemble import node_names

    return node_names(settings)


def _who(settings: Settings) -> str:
    names = _names(settings)
    return f"Node {names[0]} is" if len(names) == 1 else f"{len(names)} nodes, {names[0]} to {names[-1]}, are"


def _folder(settings: Settings, name: str) -> Path:
    return settings.state / "member" / name


def _join(settings: Settings, options: argparse.Namespace) -> tuple[str, ...]:
    """Join as every node of this process that has not; their roles. Raises CannotJoin."""
    from pileus import version
    from pileus.node import identity

    missing = {
        name: _folder(settings, name) for name in _names(settings)
        if not identity.has_joined(_folder(settings, name))
    }
    if missing:
        name, folder = next(iter(missing.items()))
        try:
            servers, token = identity.addresses(options.server or ""), _token(options)
        except ValueError as error:
            raise identity.CannotJoin(str(error)) from None
        if not servers or not token:
            late = (folder / "cert.pem").exists()
            why = "has no certificate that is still good" if late else "has not joined a cloud"
            raise identity.CannotJoin(
                f"this node ({name}) {why}: --server HOST:PORT and a token are needed; `pileus token create` on a "
                "controller prints one"
            )
        joining = identity.Joining(
            servers, token, roles=settings.roles, address=settings.address, version=version()
        )
        asyncio.run(joining.all(missing))
    return identity.Identity(_folder(settings, _names(settings)[0])).roles


def _token(options: argparse.Namespace) -> str:
    if options.token_file:
        text = sys.stdin.read() if options.token_file == "-" else Path(options.token_file).read_text()
        return text.strip()
    return str(options.token or os.environ.get("PILEUS_TOKEN", "")).strip()


def _serve(settings: Settings, ready: Callable[[], None]) -> int:
    from pileus.node.contract import NodeFault
    from pileus.node.process import AgentProcess
    from pileus.web import log

    log.set_up(settings.log_format, settings.log_level, sys.stderr)
    status = 0
    try:
        AgentProcess(settings, {name: _folder(settings, name) for name in _names(settings)}).run(ready)
    except* NodeFault as group:
        for fault in group.exceptions:
            print(f"pileus agent: {fault}", file=sys.stderr)
        status = 1
    return status
