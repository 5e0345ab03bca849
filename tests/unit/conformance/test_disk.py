from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.disk import empty_qcow2


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-utils is not installed")
def test_qemu_finds_a_sound_empty_disk(tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(empty_qcow2(3 << 20))
    subprocess.run(["qemu-img", "check", "-q", path], check=True, timeout=10)
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path], timeout=10))
    assert (info["format"], info["virtual-size"]) == ("qcow2", 3 << 20)
    assert "backing-filename" not in info


@pytest.mark.parametrize("size", [0, 511, 1 << 30])
def test_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size {size} is not"):
        empty_qcow2(size)
