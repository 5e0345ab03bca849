"""`pileus lab`: a cloud of many nodes on this machine."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileus.lab import Lab

_FOLDER = "/var/lib/pileus-lab"


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    from pileus.lab.layouts import DATABASES, LAYOUTS

    below = sub.add_subparsers(dest="action", metavar="ACTION", required=True)
    up = below.add_parser("up", help="build a lab, or switch it on again")
    up.add_argument("--layout", choices=tuple(LAYOUTS), default="devstack", help="default: %(default)s")
    up.add_argument("--nodes", type=int, default=0, metavar="N", help="compute nodes (default: 2)")
    up.add_argument("--hypervisor", choices=("qemu", "fake"), default="qemu", help="fake boots no guests")
    up.add_argument("--database", choices=DATABASES, default="", help="another database than the layout's own")
    up.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of all controllers and agents"
    )
    status = below.add_parser("status", help="show machines and what runs on them; 1 when something does not")
    execute = below.add_parser("exec", help="run a command on a machine (a node, or `client`); none: a shell")
    execute.add_argument("machine")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND …")
    cut = below.add_parser("cut", help="cut a node from the network; it is not told")
    mend = below.add_parser("mend", help="undo `cut`")
    for each in (cut, mend):
        each.add_argument("node")
    down = below.add_parser("down", help="end and remove all of it")
    for each in (up, status, execute, cut, mend, down):
        each.add_argument("--folder", default=_FOLDER, metavar="DIR", help="the lab's folder (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """0 when it is done, 1 when not; `exec`: as the command says."""
    from pileus.lab import Lab, LabError

    folder = Path(options.folder).absolute()
    try:
        if options.action == "up":
            return _up(folder, options)
        lab = Lab.open(folder)
        if options.action == "status":
            return _status(lab)
        if options.action == "exec":
            return _execute(lab, options.machine, options.words)
        if options.action == "down":
            lab.stop()
            print("Gone.")
        else:
            (lab.cut if options.action == "cut" else lab.mend)(options.node)
    except (LabError, OSError) as error:
        print(f"pileus lab: {error}", file=sys.stderr)
        return 1
    return 0


def _up(folder: Path, options: argparse.Namespace) -> int:
    from pileus.cli.progress import Steps
    from pileus.lab import Lab, LabError
    from pileus.lab.record import Choice
    from pileus.settings import SettingsError

    began = time.monotonic()
    if os.geteuid() != 0:
        raise LabError("it must run as root, to make namespaces")
    pairs = [pair.partition("=") for pair in options.set]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise SettingsError(f"--set {wrong}: write NAME=VALUE")
    choice = Choice(
        layout=options.layout, nodes=options.nodes, hypervisor=options.hypervisor, database=options.database,
        settings={name: value for name, _, value in pairs},
    )
    with Steps() as steps:
        if (folder / "lab.json").exists():
            lab = Lab.open(folder, steps.show)
            if lab.choice != choice:
                raise LabError(f"in {folder} is another lab ({lab.choice.layout}); first: pileus lab down")
        else:
            lab = Lab(choice, folder, steps.show)
        try:
            lab.start()
        except LabError as error:
            after = f"What there is stays, to be looked at; then: pileus lab down{_place(lab)}"
            raise LabError(f"{error}\n{after}") from None
    print(f"\nThe lab {choice.layout} is up after {time.monotonic() - began:.0f} s.")
    _status(lab)
    print(_guide(lab))
    return 0


def _status(lab: Lab) -> int:
    wrong = 0
    for node in lab.nodes.values():
        what = []
        for part in node.parts.values():
            if part.running and part.process is not None:
                what.append(f"{part.name} (pid {part.process.pid})")
            else:
                what.append(f"{part.name} (does not run)")
                wrong = 1
        state = "off" if not node.machine.on else "cut" if node.name in lab.cut_off else "on"
        wrong = wrong or int(state != "on")
        roles = ",".join(node.spec.roles or node.spec.services)
        print(f"  {node.name:14}{node.address:12}{state:5}{roles:20}{', '.join(what)}")
    print(f"  {'client':14}{'':12}{'on' if lab.client.on else 'off':5}")
    return wrong


def _place(lab: Lab) -> str:
    return "" if str(lab.folder) == _FOLDER else f" --folder {lab.folder}"


def _guide(lab: Lab) -> str:
    place = _place(lab)
    first = next(iter(lab.nodes))
    return "\n".join((
        f"  Identity:  {lab.identity}/identity/v3, for machines of the lab",
        f"  Accounts:  admin; its password is in {lab.clouds}",
        f"  Use it:    pileus lab exec{place} client openstack server list",
        f"             pileus lab exec{place} client ping FLOATING-ADDRESS   (the client lives beyond a router)",
        f"  Go on:     pileus lab status | exec {first} | cut NODE | mend NODE | down"
        + (f"   (each with{place})" if place else ""),
    ))


def _execute(lab: Lab, name: str, words: list[str]) -> int:
    from pileus.demo.client import StoryError, find_client
    from pileus.lab.machine import plain_environment

    command = lab.machine(name).words(*(words[words[:1] == ["--"]:] or ["sh"]))
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    with contextlib.suppress(StoryError):
        places.insert(0, str(Path(find_client()).parent))
    known = plain_environment({"OS_CLOUD": "pileus-admin"})
    os.execvpe(command[0], command, {**known, "PATH": ":".join([*places, known["PATH"]])})
