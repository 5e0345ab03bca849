"""What a lab remembers between commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from pileus.lab import Lab, LabError, record
from pileus.lab.record import Choice, Record
from pileus.node.hypervisor.qemu.process import ProcessId


def test_it_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    first = ProcessId(7, 8, "boot")
    said = Record(choice=Choice(layout="ha", database="galera"), secrets={"admin": "x"}, machines={"node-1": first},
                  parts={"node-1": {"agent": first}}, cut={"node-1": ["underlay"]})
    record.save(tmp_path, said)
    assert record.load(tmp_path) == said
    assert (tmp_path / "lab.json").stat().st_mode & 0o777 == 0o600


def test_no_lab_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="pileus lab up"):
        record.load(tmp_path)


def test_two_commands_do_not_change_one_lab(tmp_path: Path) -> None:
    with record.held(tmp_path), pytest.raises(LabError, match="another command"), record.held(tmp_path):
        pass
    with record.held(tmp_path):
        pass


def test_a_lab_that_was_opened_is_the_one_that_was_made(tmp_path: Path) -> None:
    made = Lab(Choice(layout="devstack", nodes=3), tmp_path)
    record.save(tmp_path, made._record)
    opened = Lab.open(tmp_path)
    assert list(opened.nodes) == ["controller", "compute-1", "compute-2", "compute-3"]
    assert opened.secrets == made.secrets
    assert len(set(opened.secrets.values())) == len(opened.secrets)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    lab = Lab(Choice(layout="devstack"), tmp_path)
    with pytest.raises(LabError, match="no node 'compute-9'; it has controller, compute-1"):
        lab.node("compute-9")
    with pytest.raises(LabError, match="compute-1 has no part 'haproxy'; it has agent"):
        lab.node("compute-1").kill("haproxy")
    with pytest.raises(LabError, match="machine compute-1 is off"):
        lab.node("compute-1").run("true")
    with pytest.raises(LabError, match="no network 'moon'"):
        lab.cut("compute-1", ("moon",))
