"""The parts of the guest image builder that need no packages."""

import io
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pileus.node.guestimage import BuildError, contents, disk, elf, packages, tree


def test_every_script_of_the_guest_is_valid_shell() -> None:
    names = [name for name in contents.SCRIPTS if name.endswith(".sh")] + ["init.sh"]
    for name in names:
        done = subprocess.run(["sh", "-n"], input=tree.script(name), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"


def test_package_data_has_no_script_that_is_not_in_the_image() -> None:
    folder = Path(tree.__file__).parent / "guest"
    assert {path.name for path in folder.iterdir()} == {*contents.SCRIPTS, "init.sh"}


def test_initramfs_archive_is_read_by_cpio_rules() -> None:
    archive = tree._cpio({"bin": (0o040755, b""), "bin/a": (0o100755, b"12345"), "l": (0o120777, b"bin/a")})
    at, names = 0, []
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data_at = (at + 110 + name_size + 3) // 4 * 4
        names.append((name, archive[data_at : data_at + size]))
        at = (data_at + size + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
    assert names == [("bin", b""), ("bin/a", b"12345"), ("l", b"bin/a"), ("TRAILER!!!", b"")]
    assert at == len(archive)


def test_libraries_of_a_program_are_those_that_the_loader_maps() -> None:
    assert "libc.so.6" in elf.needed(Path("/bin/ls").resolve())
    assert elf.needed(Path(__file__)) == []


def test_disk_has_boot_code_and_both_partitions(tmp_path: Path) -> None:
    fat, ext4, image = tmp_path / "fat", tmp_path / "ext4", tmp_path / "disk"
    fat.write_bytes(b"F" * 2**20)
    ext4.write_bytes(bytes(2**20) + b"E" * 2**20)
    disk.join(image, b"boot code", fat, ext4)
    data = image.read_bytes()
    assert len(data) == 4 * 2**20
    assert data[:9] == b"boot code"
    assert data[510:512] == b"\x55\xaa"
    assert struct.unpack_from("<B3xB3xII", data, 446) == (0x80, 0x0E, 2048, 2048)
    assert struct.unpack_from("<B3xB3xII", data, 462) == (0, 0x83, 4096, 4096)
    assert data[2**20 : 2**20 + 2] == b"FF"
    assert data[3 * 2**20 : 3 * 2**20 + 2] == b"EE"


def fake_apt(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "apt-get"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_packages_are_resolved_with_their_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path, "echo \"'http://h/a_1.deb' a_1%3a2_amd64.deb 12 SHA256:00ff\"", monkeypatch)
    assert packages.resolve(["a"]) == [packages.Package("a", "a_1%3a2_amd64.deb", 12, "SHA256:00ff")]
    with pytest.raises(BuildError, match="no download for b"):
        packages.resolve(["a", "b"])


def test_failing_apt_says_why_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path, "echo 'E: Unable to locate package a' >&2; exit 100", monkeypatch)
    with pytest.raises(BuildError, match=r"Unable to locate package a.*apt-get update"):
        packages.resolve(["a"])


def test_download_with_another_digest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_apt(tmp_path, "printf wrong > a.deb", monkeypatch)
    package = packages.Package("a", "a.deb", 5, "SHA256:" + "0" * 64)
    with pytest.raises(BuildError, match=r"a\.deb does not have the digest"):
        packages.download([package], tmp_path / "debs")


def test_member_that_leads_out_of_the_package_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("./usr/../../../escape")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive, pytest.raises(BuildError, match="leads out"):
        packages._write_member(archive, member, tmp_path / "into")
    assert not (tmp_path / "escape").exists()


def test_entry_point_explains_itself() -> None:
    command = [sys.executable, "-m", "pileus.node.guestimage"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "TARGET" in done.stderr
