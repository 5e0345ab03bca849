"""`pileus token`: who may join."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from pileus.cli import controlling, running
from pileus.cli.main import read_settings, settings_arguments
from pileus.settings import SettingsError
from pileus.web.errors import Problem

_MOST_HOURS = 24.0 * 365 * 20
_UNITS = {"m": 1 / 60, "h": 1.0, "d": 24.0}


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    below = sub.add_subparsers(dest="action", required=True)
    create = below.add_parser("create", help="make a token and print it; it is shown this once")
    create.add_argument("--roles", default="compute,network", help="what who uses it may be (default: %(default)s)")
    create.add_argument("--ttl", default="24h", help="30m, 24h, 7d, or `never` (default: %(default)s)")
    create.add_argument("--uses", type=int, help="how many nodes may join by it (default: any number)")
    create.add_argument("--description", default="", help="what it is for")
    listing = below.add_parser("list", help="show all tokens, but not their secrets")
    revoke = below.add_parser("revoke", help="let nobody join by it any more; nodes that have, stay")
    revoke.add_argument("id", help="as `pileus token list` shows it")
    for each in (create, listing, revoke):
        settings_arguments(each)


def run(options: argparse.Namespace) -> int:
    """0 when it was done, 1 when not."""
    settings = running.as_started(read_settings(options))
    from pileus.cluster import tokens

    with controlling.opened(settings) as cloud:
        try:
            if options.action == "create":
                roles, hours = _roles(options.roles), _hours(options.ttl)
                if options.uses is not None and options.uses < 1:
                    raise SettingsError("--uses: at least 1")
                print(cloud.db.run_sync(lambda tx: tokens.create(
                    tx, cloud, roles=roles, hours=hours, uses=options.uses, description=options.description
                )))
            elif options.action == "revoke":
                cloud.db.run_sync(lambda tx: tokens.revoke(tx, options.id))
                print(f"Nobody joins by {options.id} any more.")
            else:
                rows = cloud.db.run_sync(tokens.listing, write=False)
                print(f"{'ID':14}{'ROLES':26}{'EXPIRES':22}{'USES LEFT':11}DESCRIPTION")
                for row in rows:
                    left = "any" if row.uses_left is None else str(row.uses_left)
                    end = "revoked" if row.revoked else "never" if row.expires is None else _time(row.expires)
                    print(f"{row.id:14}{','.join(row.roles):26}{end:22}{left:11}{row.description}")
        except Problem as problem:
            print(f"pileus token: {problem}", file=sys.stderr)
            return 1
    return 0


def _roles(text: str) -> tuple[str, ...]:
    from pileus.cluster.invitation import ROLES

    found = tuple(part.strip() for part in text.split(",") if part.strip())
    wrong = [role for role in found if role not in ROLES]
    if wrong or not found:
        raise SettingsError(f"--roles {text}: write some of {', '.join(ROLES)}")
    return found


def _hours(text: str) -> float | None:
    if text == "never":
        return None
    try:
        hours = float(text[:-1]) * _UNITS[text[-1]]
        if not 0 < hours < _MOST_HOURS:
            raise ValueError(text)
        return hours
    except (KeyError, ValueError, IndexError):
        raise SettingsError(f"--ttl {text}: write 30m, 24h, 7d or never") from None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
