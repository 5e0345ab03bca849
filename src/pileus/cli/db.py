"""`pileus db version|upgrade|migrate`: the cloud's database."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

import msgspec

from pileus.cli import running
from pileus.cli.main import read_settings, settings_arguments
from pileus.cli.progress import Steps
from pileus.settings import Settings, SettingsError, holds_password, put_password, without_password

_TARGET = "PILEUS_MIGRATE_TO"
_LARGE = 5000


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    below = sub.add_subparsers(dest="what", metavar="WHAT", required=True)
    version = below.add_parser("version", help="print the schema's version and the newest one")
    upgrade = below.add_parser("upgrade", help="bring the schema to the newest version (every start does it too)")
    migrate = below.add_parser(
        "migrate", help="move a stopped cloud from its SQLite file to an empty MariaDB or PostgreSQL database",
        description="Moves every row, compares both sides, and leaves the SQLite file as it is. May be killed and "
        "begun again.",
    )
    for each in (version, upgrade, migrate):
        settings_arguments(each)
    migrate.add_argument(
        "--to", metavar="URL", default=os.environ.get(_TARGET, ""),
        help=f"mysql://USER@HOST[,HOST]/NAME or postgresql://…; also by the environment, {_TARGET}",
    )
    migrate.add_argument(
        "--password-file", metavar="FILE", help="file with the password of the URL's user (asked for on a terminal)"
    )


def run(options: argparse.Namespace) -> int:
    """0: done; 1: it could not be done, and nothing was switched over."""
    from pileus.db.faults import Unreachable
    from pileus.db.hosts import DatabaseUrlError
    from pileus.db.move import MoveRefused

    settings = running.as_started(read_settings(options))
    try:
        if options.what == "migrate":
            return _migrate(settings, options)
        return schema(settings, options.what == "upgrade")
    except (MoveRefused, DatabaseUrlError, Unreachable, running.AlreadyRunning, OSError) as error:
        print(f"pileus db {options.what}: {error}", file=sys.stderr)
        return 1


def schema(settings: Settings, change: bool) -> int:
    """Print the schema's version; with `change` bring it to the newest one first. Raises OSError, Unreachable."""
    from pileus.db.engine import Database
    from pileus.db.migrate import current, upgrade
    from pileus.db.migrations import HEAD

    if not settings.database and not (settings.state / "pileus.db").exists():
        raise FileNotFoundError(f"there is no database in {settings.state}; `pileus up` makes one")
    database = Database(settings.database_url, pool_size=1)
    try:
        before = current(database)
        if change:
            upgrade(database)
        now = current(database)
    finally:
        database.close()
    print(f"Database: {database.shown}\nSchema:   {now or 'none'}" + (f" (was {before or 'none'})" if change else ""))
    print(f"Newest:   {HEAD}")
    return 0 if now == HEAD or not change else 1


def _migrate(settings: Settings, options: argparse.Namespace) -> int:
    from pileus.db.move import move
    from pileus.db.moved import check

    if settings.database and not settings.database.startswith("sqlite:"):
        raise SettingsError("this cloud is not on SQLite: its setting `database` names a server already")
    import sqlalchemy as sa

    file = Path(sa.make_url(settings.database_url).database or "")
    url = _target(options)
    check(file)
    lock = running.Lock(settings)  # nobody starts it meanwhile
    try:
        with Steps() as steps:
            moved = move(file, url, lambda step, done, total: steps.show(_line(step, total), done, total))
        _remember(settings, url)
    finally:
        lock.close()
    print(f"Moved {moved.rows} rows of {moved.tables} tables; both sides were read again and are the same.")
    print(_how_to_go_on(file, url))
    return 0


def _line(step: str, total: int) -> str:
    """Large tables have a line of progress of their own."""
    verb, _, _ = step.partition(" ")
    return step if total >= _LARGE else f"{verb} tables"


def _target(options: argparse.Namespace) -> str:
    """The URL to move to, its password filled in. Raises SettingsError."""
    url: str = options.to
    if "://" not in url:
        raise SettingsError(f"say where to: --to mysql://USER@HOST/NAME or postgresql://…, or {_TARGET}")
    if holds_password(url):
        if _TARGET not in os.environ:
            print("pileus db migrate: the password stands in the command's arguments, which others on this host can "
                  f"read; --password-file or {_TARGET} keep it to yourself", file=sys.stderr)
        return url
    if options.password_file:
        return put_password(url, Path(options.password_file).read_text().strip("\r\n"), "--password-file")
    account = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    if account and sys.stdin.isatty() and "unix_socket=" not in url:
        password = getpass.getpass(f"Password of {account} (empty: none): ")
        return put_password(url, password, "--to") if password else url
    return url


def _remember(settings: Settings, url: str) -> None:
    """Later commands, which look up how the cloud was started, find it where it is now."""
    file = settings.run / "settings.json"
    if file.exists():
        owner = file.stat()
        running.remember(msgspec.structs.replace(settings, database=url, database_password_file=""))
        if os.geteuid() == 0:
            os.chown(file, owner.st_uid, owner.st_gid)


def _how_to_go_on(file: Path, url: str) -> str:
    secret = holds_password(url)
    lines = [
        "Start the cloud on it from now on, on every controller:",
        f'  database = "{without_password(url)}"',
        *(['  database_password_file = "FILE"    # mode 0600; or the password in PILEUS_DATABASE'] if secret else []),
        "in /etc/pileus/pileus.toml (or PILEUS_DATABASE in the environment).",
        f"{file} was not changed. A start without the setting is refused, so that it is not used by mistake.",
    ]
    return "\n".join(lines)
