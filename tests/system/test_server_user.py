"""`pileus server` started by root runs as its own account, and what root does later does not shut it out."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cache import CHECKOUT, reachable
from tests.ports import free_port
from tests.system.running import RunningCloud, environment

from pileus.cli.controlling import _PROGRAM

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not reachable(CHECKOUT), reason="in this checkout, as below /root, no other account can run it"),
]

ACCOUNT = "pileus-test-srv"
_READABLE = """
set -eu
prefix=$1; shift
held=$(mktemp -d /var/tmp/pileus-prefix-XXXXXX)
mount --bind "$prefix" "$held"
top=/$(echo "$prefix" | cut -d/ -f2)
if [ "$top" = /root ]; then mount -t tmpfs -o mode=755 none /root; fi
mkdir -p "$prefix"
mount --bind "$held" "$prefix"
umount -l "$held"; rmdir "$held"
exec "$@"
"""
"""Runs a command where this Python can be read by every account, in a mount namespace of its own."""


class Place:
    """A state folder, and commands run in a namespace in which the account can read Python."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="pileus-test-", dir="/var/tmp"))
        self.state.chmod(0o755)
        self.port, self.cluster_port = free_port(), free_port()

    def words(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "pileus.cli.main", *words, "--state-dir", str(self.state)]
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", _READABLE, "sh", sys.base_prefix, *command]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words), capture_output=True, text=True, check=False, timeout=120, env=environment()
        )

    def server(self, *more: str) -> subprocess.CompletedProcess[str]:
        sets = {
            "listen": f"127.0.0.1:{self.port}", "cluster_listen": f"127.0.0.1:{self.cluster_port}",
            "hypervisor": "fake", "server_user": ACCOUNT, "bcrypt_rounds": "4", "public_network": "",
        }
        given = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
        return self.run("server", "-d", *given, *more)

    @property
    def pid(self) -> int:
        return int((self.state / "run" / "pileus.pid").read_text())


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place()
    made = False
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        made = True
    try:
        yield found
    finally:
        found.run("down")
        log = found.state / "pileus.log"
        print(log.read_text(errors="replace")[-5000:] if log.exists() else "")
        shutil.rmtree(found.state, ignore_errors=True)
        if made:
            with contextlib.suppress(KeyError):
                pwd.getpwnam(ACCOUNT)
                subprocess.run(["userdel", ACCOUNT], check=False, capture_output=True)


def _ids(pid: int, name: str) -> set[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return set(next(line for line in lines if line.startswith(f"{name}:")).split()[1:])


def _owners(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}


def test_the_server_is_its_own_account_and_stays_so(place: Place) -> None:
    done = place.server()
    assert done.returncode == 0, done.stderr
    account = pwd.getpwnam(ACCOUNT)
    assert _ids(place.pid, "Uid") == {str(account.pw_uid)}
    assert _ids(place.pid, "Gid") == {str(account.pw_gid)}
    assert _ids(place.pid, "Groups") == set()
    assert _ids(place.pid, "CapEff") == {"0" * 16}

    for words in (("token", "create"), ("token", "list"), ("node", "list"), ("doctor",), ("status",)):
        said = place.run(*words)
        assert said.returncode == 0, (words, said.stdout, said.stderr)
    foreign = {name for name, owner in _owners(place.state).items() if owner != account.pw_uid}
    assert not foreign, f"the server cannot write {foreign}"

    private = ("pileus.db", "pileus.db-wal", "clouds.yaml", "openrc", "pileus.log", "admin-password",
               "cluster/key.pem", "run/settings.json", "run/control.sock")
    for name in private:
        path = place.state / name
        if path.exists():
            assert stat.filemode(path.stat().st_mode).endswith("------"), f"{name} can be read by others"
    assert (place.state / "cluster" / "key.pem").exists()
    assert (place.state / "pileus.db").exists()

    assert place.run("down").returncode == 0
    made = place.state / "made-by-root"
    made.write_text("as by a root of an earlier release")
    done = place.server()
    assert done.returncode == 0, done.stderr
    assert made.stat().st_uid == account.pw_uid
    assert place.run("token", "create").returncode == 0


def test_root_gives_the_account_nothing_through_links(place: Place) -> None:
    """The account could put links into its folder, and wait for root to start the server again."""
    assert place.server().returncode == 0
    assert place.run("down").returncode == 0
    outside = Path(tempfile.mkdtemp(prefix="pileus-test-", dir="/var/tmp"))
    try:
        treasure = outside / "shadow"
        treasure.write_text("root's own")
        treasure.chmod(0o600)
        (place.state / "link").symlink_to(treasure)
        (place.state / "folder").symlink_to(outside)
        os.link(treasure, place.state / "hard")
        assert place.server().returncode == 0
        assert treasure.stat().st_uid == 0
        assert outside.stat().st_uid == 0
    finally:
        shutil.rmtree(outside)


def test_where_the_account_cannot_read_python_the_server_says_so(place: Place) -> None:
    if all(os.stat(parent).st_mode & 0o001 for path in _PROGRAM for parent in Path(path).resolve().parents):
        pytest.skip("every account can read this Python")
    plain = RunningCloud.__new__(RunningCloud)
    plain.state = place.state
    done = subprocess.run(
        plain.words("server", "--set", f"server_user={ACCOUNT}", "--set", f"listen=127.0.0.1:{place.port}"),
        capture_output=True, text=True, check=False, timeout=60, env=environment(),
    )
    assert done.returncode == 1
    assert "cannot read" in done.stderr
    assert "--set server_user=root" in done.stderr
