"""`pileus COMMAND …`: one table of commands, each in a module of its own that is imported when it is used."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from pileus.settings import Settings, SettingsError, holds_password, load, secrets_for_all


@dataclass(frozen=True)
class Command:
    """A command: its module in pileus.cli has `arguments(parser)` and `run(options) -> exit status`."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("up", "up", "start the whole cloud on this machine; -d: in the background"),
    Command("server", "server", "start a controller, which nodes join; -d: in the background"),
    Command("agent", "agent", "start a node: join a controller by a token, take guests; -d: in the background"),
    Command("token", "token", "join tokens: create, list, revoke"),
    Command("node", "node", "the nodes that have joined: list, drain, enable, remove"),
    Command("haproxy", "haproxy", "print HAProxy's configuration for all controllers that live"),
    Command("manage", "manage", "what operators know from nova-manage and its like: service list, db sync, hosts …"),
    Command("status", "status", "say whether the cloud runs, where, and what is on it"),
    Command("down", "down", "stop the cloud; state is kept and guests go on running"),
    Command("destroy", "destroy", "stop the cloud and remove all that it ever made, guests included"),
    Command("db", "db", "the database: version, upgrade its schema, migrate from SQLite to a server"),
    Command("doctor", "doctor", "compare database, guests, network and placement; say what disagrees"),
    Command("explain", "explain", "say why a server is on its node, or why no node would take it"),
    Command("demo", "demo", "start a cloud and show what it does, step by step"),
    Command("lab", "lab", "a cloud of many nodes on this machine: up, status, exec, cut, mend, down"),
    Command("image", "image", "make images: `image build-guest FILE` builds a small one from Debian packages"),
    Command("docs", "docs", "print reference documentation: settings, cli, metrics, openapi"),
)


def parser(command: Command | None = None) -> argparse.ArgumentParser:
    """The parser of all commands; only `command`'s own arguments are filled in, or everyone's with None."""
    top = argparse.ArgumentParser(prog="pileus", description="A complete cloud, compatible with the OpenStack APIs.")
    top.add_argument("--version", action="store_true", help="print the version")
    below = top.add_subparsers(dest="command", metavar="COMMAND")
    for each in COMMANDS:
        sub = below.add_parser(each.name, help=each.help, description=each.help)
        if command is None or command is each:
            importlib.import_module(f"pileus.cli.{each.module}").arguments(sub)
    return top


def settings_arguments(sub: argparse.ArgumentParser) -> None:
    """The options by which every command that needs a cloud finds it."""
    sub.add_argument(
        "--config", metavar="FILE", help="TOML file of settings (default: /etc/pileus/pileus.toml if it is there)"
    )
    sub.add_argument("--state-dir", metavar="DIR", help="where the cloud's state is (setting state_dir)")
    sub.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="set any setting; may be repeated"
    )


def read_settings(options: argparse.Namespace) -> Settings:
    """The settings that a command's options mean. Raises SettingsError."""
    overrides: dict[str, str] = {}
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: write NAME=VALUE")
        if holds_password(value):
            raise SettingsError(
                f"--set {name}: a password in a command's arguments is everyone's to read; put it into the environment "
                f"(PILEUS_{name.upper()}) or the settings file, or use database_password_file"
            )
        overrides[name] = value
    if options.state_dir:
        overrides["state_dir"] = str(Path(options.state_dir).absolute())
    if getattr(options, "hypervisor", None):
        overrides["hypervisor"] = options.hypervisor
    if os.geteuid() != 0 and "PILEUS_STATE_DIR" not in os.environ:
        # Only root can write to the default; a user's own cloud has its place where users' state is kept.
        home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        overrides.setdefault("state_dir", f"{home}/pileus")
    file = Path(options.config) if options.config else Path("/etc/pileus/pileus.toml")
    if not options.config and not file.exists():
        return load(None, overrides=overrides)
    found = load(file, overrides=overrides)
    if secrets_for_all(file):
        print(f"pileus: {file} holds passwords and everyone can read it: chmod o-r {file}", file=sys.stderr)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    chosen = next((c for c in COMMANDS if words and c.name == words[0]), None)
    if chosen is None:
        from pileus import version

        options = parser(COMMANDS[-1]).parse_args(words)
        print(f"pileus {version()}") if options.version else parser(COMMANDS[-1]).print_help()
        return 0 if options.version else 2
    options = parser(chosen).parse_args(words)
    module = importlib.import_module(f"pileus.cli.{chosen.module}")
    try:
        status: int = module.run(options)
    except SettingsError as error:
        print(f"pileus: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
