import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pileus.node.contract import ConfigDriveFile, NodeFault, ServerSpec
from pileus.node.hypervisor.qemu import configdrive, console, process
from pileus.node.hypervisor.qemu.files import GuestFiles, Record
from pileus.node.hypervisor.qemu.imagetool import Fresh
from pileus.node.hypervisor.qemu.settings import Account, account

SPEC = ServerSpec(id="s", name="s", hostname="s", project_id="p", vcpus=1, memory_mib=1, root_gib=1)


def test_spec_and_record_come_back_and_are_private(tmp_path: Path) -> None:
    files = GuestFiles(tmp_path)
    record = Record(power="running", process=process.identify(os.getpid()), slots={"nic-a": 0})
    files.write(SPEC, record)
    assert files.read_spec() == SPEC
    assert files.read_record() == record
    assert files.spec.stat().st_mode & 0o777 == 0o600
    files.spec.write_text("{cut o")
    assert files.read_spec() is None


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    with pytest.raises(NodeFault, match="107 are possible"):
        GuestFiles(deep).make(Account())


def test_a_fresh_file_has_its_name_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "disk"
    with pytest.raises(RuntimeError), Fresh(target, Account()):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with Fresh(target, Account()) as fresh:
        fresh.write_text("all")
        assert not target.exists()
    assert target.read_text() == "all"


def test_a_process_is_known_by_more_than_its_pid() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()", "a-marker-of-its-own"], stdin=subprocess.PIPE)
    try:
        found = process.identify(child.pid)
        assert found is not None
        assert process.alive(found)
        assert not process.alive(process.ProcessId(found.pid, found.started + 1, found.boot_id))
        assert not process.alive(process.ProcessId(found.pid, found.started, "another boot"))
        while not process.arguments(child.pid):  # Popen returns a moment before the kernel tells them
            time.sleep(0.001)
        assert process.find({"a-marker-of-its-own"}) == {"a-marker-of-its-own": [child.pid]}
        process.kill(process.ProcessId(found.pid, found.started + 1, found.boot_id))
        assert process.alive(found)
        process.kill(found)
        assert child.wait(5) == -9
        assert process.started_at(child.pid) is None
    finally:
        child.kill()
        child.communicate()


def test_a_tool_is_ended_at_its_limits() -> None:
    with pytest.raises(NodeFault, match="signal"):
        process.run_limited([sys.executable, "-c", "while True: pass"], Account(), cpu=1)
    with pytest.raises(NodeFault, match="MemoryError"):
        process.run_limited([sys.executable, "-c", "bytearray(1 << 30)"], Account(), cpu=5, memory=256 << 20)


def test_an_unknown_account_is_named_with_the_way_out() -> None:
    with pytest.raises(NodeFault, match="useradd --system"):
        account("pileus-nobody-at-all")


def test_console_lines_are_counted_as_nova_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert console.read(log, None, 100) == b""
    log.write_bytes(b"one\ntwo\nthree\n")
    assert console.read(log, None, 100) == b"one\ntwo\nthree\n"
    assert console.read(log, 2, 100) == b"three\n"
    assert console.read(log, 0, 100) == b""
    assert console.read(log, None, 6) == b"three\n"


def test_a_log_keeps_its_tail_while_it_is_written(tmp_path: Path) -> None:
    log, limit = tmp_path / "log", 64 << 10
    with open(log, "ab", buffering=0) as writer:
        writer.write(b"x" * (200 << 10) + b"tail one\n")
        assert console.trim(log, limit)
        writer.write(b"tail two\n")
    assert log.stat().st_blocks * 512 <= limit
    kept = console.read(log, None, limit)
    assert kept.endswith(b"tail one\ntail two\n")
    assert b"\0" not in kept
    assert len(kept) >= limit // 2
    assert not console.trim(log, limit)


def test_a_link_in_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/hostname")
    with pytest.raises(OSError, match="symbolic"):
        console.read(tmp_path / "log", None, 100)


@pytest.mark.skipif(shutil.which("genisoimage") is None, reason="needs genisoimage")
def test_the_config_drive_has_the_label_and_the_files(tmp_path: Path) -> None:
    files = [
        ConfigDriveFile(path="openstack/latest/meta_data.json", content=b'{"uuid": "x"}'),
        ConfigDriveFile(path="openstack/content/0000", content=b"\x00\xff"),
    ]
    target = tmp_path / "disk.config"
    configdrive.write(target, files, Account())
    assert [path.name for path in tmp_path.iterdir()] == ["disk.config"]
    assert target.stat().st_mode & 0o777 == 0o600
    image = target.read_bytes()
    assert image[32768 + 40 : 32768 + 72].rstrip() == b"config-2"
    assert b'{"uuid": "x"}' in image
    with pytest.raises(NodeFault, match="leaves the drive"):
        configdrive.write(target, [ConfigDriveFile(path="../x", content=b"")], Account())
