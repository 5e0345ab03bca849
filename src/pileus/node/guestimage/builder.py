"""Builds the guest image, and keeps one that is up to date."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from pileus.node.guestimage import contents, disk, packages, tree
from pileus.node.guestimage.faults import BuildError
from pileus.node.guestimage.packages import Package

Progress = Callable[[str, int, int], None]

DEFAULT_SIZE_MIB = 64
_MIB = 1024 * 1024
_STEPS = (
    "finding packages", "downloading packages", "unpacking packages", "putting the root file system together",
    "making the file systems", "compressing the image",
)  # fmt: skip


class _Steps:
    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._count = 0

    def next(self) -> None:
        if self._progress is not None:
            self._progress(_STEPS[self._count], self._count, len(_STEPS))
        self._count += 1

    def end(self) -> None:
        if self._progress is not None:
            self._progress("done", len(_STEPS), len(_STEPS))


def _candidates() -> list[Package]:
    names = [packages.kernel_package(), *contents.PROGRAMS, *contents.LIBRARIES, *contents.TOOLS]
    return packages.resolve(names)


def _sources_digest() -> str:
    digest = hashlib.sha256()
    folder = resources.files("pileus.node.guestimage")
    entries = [*folder.iterdir(), *(folder / "guest").iterdir()]
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.is_file() and entry.name.endswith((".py", ".sh", ".txt")):
            digest.update(entry.name.encode() + b"\0" + entry.read_bytes())
    return digest.hexdigest()


def _inputs_digest(sources: str, candidates: Iterable[Package]) -> str:
    lines = sorted(f"{package.file} {package.digest}" for package in candidates)
    return hashlib.sha256("\n".join([sources, *lines]).encode()).hexdigest()


def _wanted(path: str) -> bool:
    return not path.startswith(("usr/share/", "usr/include/", "usr/lib/syslinux/modules", "boot/System.map"))


def build(
    target: Path,
    cache: Path,
    progress: Progress | None = None,
    size_mib: int = DEFAULT_SIZE_MIB,
) -> Path:
    """Builds the image as a compressed qcow2 at `target`, which appears whole or not at all; returns `target`.

    Packages are kept below `cache`. `progress` gets the step, its number and the count of steps.
    The disk has `size_mib` MiB; its root grows with the disk that the image is put on. Needs apt, dpkg and
    qemu-img on the host, and no root. Raises BuildError.
    """
    steps = _Steps(progress)
    steps.next()
    return _build(target, cache, _candidates(), steps, size_mib)


def _build(target: Path, cache: Path, candidates: list[Package], steps: _Steps, size_mib: int) -> Path:
    steps.next()
    debs = packages.download(candidates, cache / "debs")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="guest-build-") as name:
        work = Path(name)
        steps.next()
        for deb in debs.values():
            packages.unpack(deb, work / "parts", _wanted)
        steps.next()
        parts = tree.Parts(work / "parts")
        tree.make_root(parts, work / "root")
        initramfs = tree.make_initramfs(parts)
        steps.next()
        raw = _make_disk(parts, work, initramfs, size_mib)
        steps.next()
        draft = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            disk.Toolbox(parts).host("qemu-img", "convert", "-c", "-O", "qcow2", str(raw), str(draft))
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    steps.end()
    return target


def _make_disk(parts: tree.Parts, work: Path, initramfs: bytes, size_mib: int) -> Path:
    tools = disk.Toolbox(parts)
    fat, ext4, raw = work / "fat.img", work / "ext4.img", work / "disk.raw"
    _, kernel = parts.kernel()
    disk.make_fat(tools, fat, kernel, initramfs)
    root_size = size_mib * _MIB - _MIB - fat.stat().st_size
    used = sum(path.lstat().st_size for path in (work / "root").rglob("*"))
    if root_size < used + 10 * _MIB:
        raise BuildError(f"{size_mib} MiB are too small: the guest needs {(used + fat.stat().st_size) // _MIB + 11}")
    disk.make_ext4(tools, ext4, work / "root", root_size)
    disk.join(raw, parts.find("lib/syslinux/mbr/mbr.bin").read_bytes(), fat, ext4)
    return raw


def cached(cache: Path, progress: Progress | None = None) -> Path:
    """The image `guest.qcow2` in the folder `cache`, built only when the builder or a Debian package changed.

    Several processes may ask at once: one builds, the others wait. When apt cannot be asked, an image that this
    builder made earlier is good enough. Raises BuildError when there is none and it cannot be built.
    """
    cache.mkdir(parents=True, exist_ok=True)
    image, stamp = cache / "guest.qcow2", cache / "guest.inputs"
    with (cache / "guest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sources = _sources_digest()
        built_from = stamp.read_text().split() if stamp.exists() and image.exists() else ["", ""]
        steps = _Steps(progress)
        steps.next()
        try:
            candidates = _candidates()
        except BuildError:
            if built_from[0] == sources:
                return image
            raise
        inputs = [sources, _inputs_digest(sources, candidates)]
        if built_from != inputs:
            stamp.unlink(missing_ok=True)
            _build(image, cache, candidates, steps, DEFAULT_SIZE_MIB)
            stamp.write_text("\n".join(inputs))
        return image
