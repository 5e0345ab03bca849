"""`pileus explain`: why a server is on its node, or on none."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pileus.cli import controlling, running
from pileus.cli.main import read_settings, settings_arguments

if TYPE_CHECKING:
    from pileus.db.engine import Tx


def arguments(sub: argparse.ArgumentParser) -> None:
    """The command's options."""
    sub.add_argument("server", help="id or name of a server; by its id also one that is deleted")
    sub.add_argument("--json", action="store_true", help="print the decisions as JSON")
    settings_arguments(sub)


def run(options: argparse.Namespace) -> int:
    """0: printed; 1: there is no such server, or more than one of that name."""
    settings = running.as_started(read_settings(options))
    with controlling.opened(settings) as cloud:
        status, text = cloud.db.run_sync(lambda tx: _explain(tx, options.server, options.json), write=False)
    print(text, file=sys.stderr if status else sys.stdout)
    return status


def _explain(tx: Tx, wanted: str, as_json: bool) -> tuple[int, str]:
    import msgspec

    from pileus.compute import decisions, explain

    rows = explain.find(tx, wanted)
    if not rows:
        return 1, f"pileus explain: there is no server '{wanted}'; `openstack server list --all-projects` lists them"
    if len(rows) > 1:
        ids = "\n".join(f"  {row.id}  {row.vm_state}  {row.host or '-'}" for row in rows[:20])
        return 1, f"pileus explain: {len(rows)} servers are called '{wanted}': name one by its id\n{ids}"
    if as_json:
        return 0, msgspec.json.encode(decisions.of(tx, rows[0].id)).decode()
    return 0, "\n".join(explain.lines(tx, rows[0]))
