"""The operators' commands on a cloud's database: `manage`, `haproxy` and `db`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pileus.cli import main, running
from pileus.cli.manage import VERBS
from pileus.cloud import Cloud
from pileus.cluster import controllers
from pileus.compute import nodes
from pileus.db.migrations import HEAD
from pileus.db.moved import note_of, write_note
from pileus.node.contract import HypervisorFacts
from pileus.settings import Settings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cloud with a controller and a node; it does not run."""
    folder = tmp_path_factory.mktemp("state")
    settings = Settings(
        state_dir=str(folder), hypervisor="fake", admin_password="x", bcrypt_rounds=4, log_level="error",
        listen="192.0.2.1:8080", node_name="head", public_url="https://cloud.example",
    )
    cloud = Cloud(settings)
    cloud.open()
    facts = HypervisorFacts(
        hypervisor_type="fake", hypervisor_version=1, accelerator="none", hostname="n1", architecture="x86_64", vcpus=4,
        memory_mib=8192, disk_gib=100,
    )
    cloud.db.run_sync(lambda tx: controllers.beat(tx, cloud, "192.0.2.1:8443", ["identity"], "1", 1.0))
    cloud.db.run_sync(lambda tx: nodes.register(tx, cloud, "n1", facts))
    cloud.close()
    settings.run.mkdir(exist_ok=True)
    running.remember(settings)
    return folder


@pytest.fixture
def run(state: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its exit status and what it printed."""

    def go(*words: str) -> tuple[int, str, str]:
        status = main.main([*words, "--state-dir", str(state)])
        out = capsys.readouterr()
        return status, out.out, out.err

    return go


@pytest.mark.parametrize("words", [verb.words for verb in VERBS])
def test_every_verb_does_something(run: Run, words: str) -> None:
    status, out, _ = run("manage", *words.split())
    assert status == 0
    assert out


def test_services_and_hosts(run: Run) -> None:
    lines = [line.split() for line in run("manage", "service", "list")[1].splitlines()]
    assert ["pileus-server", "head", "internal", "enabled", ":-)"] in [line[:5] for line in lines]
    assert ["nova-compute", "n1", "nova", "enabled", ":-)"] in [line[:5] for line in lines]
    _, out, _ = run("manage", "cell_v2", "discover_hosts", "--verbose")
    assert "cell1  n1    nova" in out
    assert "Nothing to do" in out


def test_a_verb_that_there_is_not_shows_those_there_are(run: Run) -> None:
    status, _, said = run("manage", "vm", "list")
    assert status == 2
    assert "there is no 'vm list'" in said
    assert "cell_v2 discover_hosts" in said
    status, _, said = run("manage", "network", "create")
    assert status == 2
    assert "openstack network create" in said


def test_haproxy(run: Run) -> None:
    status, out, _ = run("haproxy", "--certificate", "/etc/ssl/cloud.pem")
    assert status == 0
    assert "bind *:443 ssl crt /etc/ssl/cloud.pem" in out
    assert "server head 192.0.2.1:8080 check" in out
    assert "server head 192.0.2.1:8443 check" in out
    assert "# no controller that lives serves image" in out


def test_db_version(run: Run, state: Path) -> None:
    status, out, _ = run("db", "version")
    assert (status, out.split()) == (0, [
        "Database:", f"sqlite:///{state / 'pileus.db'}", "Schema:", HEAD, "Newest:", HEAD,
    ])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "say where to"),
        (("--to", "sqlite:////tmp/other.db"), "PostgreSQL or MariaDB"),
        (("--to", "mysql://u@127.0.0.1:1/db"), "cannot be reached"),
        (("--to", "oracle://u@h/db"), "there is no database of the kind"),
    ],
)
def test_a_move_that_cannot_be_made(run: Run, words: tuple[str, ...], what: str) -> None:
    status, _, said = run("db", "migrate", *words)
    assert status != 0
    assert what in said


def test_no_move_while_it_runs_or_after_it(run: Run, state: Path) -> None:
    lock = running.Lock(Settings(state_dir=str(state)))
    lock.write()
    assert "a cloud runs already" in run("db", "migrate", "--to", "mysql://u@127.0.0.1:1/db")[2]
    lock.close()
    write_note(state / "pileus.db", "mysql://u@db/cloud")
    try:
        assert "was moved to mysql://u@db/cloud" in run("db", "migrate", "--to", "mysql://u@127.0.0.1:1/db")[2]
    finally:
        note_of(state / "pileus.db").unlink()
