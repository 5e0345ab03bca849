"""What `pileus explain` prints, and what it answers to names that are none or several."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pileus.cli.main import main
from pileus.cloud import Cloud
from pileus.compute import decisions
from pileus.compute.decisions import Record, Refused, Tally, Weighed
from pileus.db.engine import Tx
from pileus.settings import Settings
from tests.api.compute.rows import add_server

RECORD = Record(
    action="create", wanted="64 MEMORY_MB", looked_at=30, complete=True, refused=[
        Refused("placement", "have too little memory free", 25, [("a", "needs 64 MiB of memory, 3 of 100 free")]),
        Refused("ComputeFilter", "are down", 5, [("b", "is forced down")]),
    ],
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A cloud's folder, with a server that found no node, and two of one name."""
    cloud = Cloud(Settings(state_dir=str(tmp_path), hypervisor="fake", admin_password="x", bcrypt_rounds=4))
    cloud.open()

    lost = add_server(cloud, "p", name="lost", vm_state="error", host=None)
    found = add_server(cloud, "p", name="found", host="c")
    for _ in range(2):
        add_server(cloud, "p", name="twin")

    def write(tx: Tx) -> None:
        decisions.write(tx, lost, None, RECORD, 0.0)
        weighed = [Weighed("c", 1.0, {"memory": 1.0})]
        chosen = Record(action="create", wanted="", looked_at=1, fitting=1, weighed=weighed)
        decisions.write(tx, found, "c", chosen, 0.0)

    cloud.db.run_sync(write)
    cloud.close()
    return tmp_path


def test_a_server_without_a_node(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "lost", "--state-dir", str(state)]) == 0
    text = capsys.readouterr().out
    for words in ("create: found no node", "25 have too little memory free (placement)", "and 24 more",
                  "a: needs 64 MiB of memory, 3 of 100 free", "what to do:", "raise ram_allocation_ratio",
                  "start the agents of nodes that are down"):
        assert words in text
    assert main(["explain", "lost", "--json", "--state-dir", str(state)]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)[0]["record"]["refused"][1][2] == 5


def test_a_server_with_one(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "found", "--state-dir", str(state)]) == 0
    assert "c: 1.00 (memory +1.00)" in capsys.readouterr().out


def test_names_that_are_none_or_several(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "nobody", "--state-dir", str(state)]) == 1
    assert "there is no server 'nobody'" in capsys.readouterr().err
    assert main(["explain", "twin", "--state-dir", str(state)]) == 1
    assert "2 servers are called 'twin'" in capsys.readouterr().err


def test_a_tally_names_all_of_a_few_and_some_of_many() -> None:
    for nodes, named in ((decisions.NAMED, decisions.NAMED), (1000, decisions.EXAMPLES)):
        tally = Tally(nodes)
        for number in range(nodes):
            tally.add("F", "are down", f"n{number}", "is down")
        assert [(one.count, len(one.examples)) for one in tally.all()] == [(nodes, named)]
