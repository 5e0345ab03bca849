"""Debian packages as the raw material: found by apt, kept in a cache folder, unpacked without dpkg's database."""

import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from pileus.node.guestimage.faults import BuildError

KERNEL_METAPACKAGE = "linux-image-cloud-amd64"
_URI_LINE = re.compile(r"^'[^']+' (?P<file>\S+) (?P<size>\d+) (?P<hash>[A-Za-z0-9]+:[0-9a-f]+)$", re.MULTILINE)
_ALGORITHMS = {"SHA256": "sha256", "SHA512": "sha512", "SHA1": "sha1", "MD5Sum": "md5"}


class Package(msgspec.Struct, frozen=True):
    """One .deb as apt's signed index describes it; digest is "<algorithm>:<hex>"."""

    name: str
    file: str
    size: int
    digest: str


def _run(*command: str, cwd: Path | None = None) -> str:
    if shutil.which(command[0]) is None:
        raise BuildError(
            f"{command[0]} is not installed: the guest image is built from Debian packages, "
            "on Debian, with apt and dpkg"
        )
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(
            f"{' '.join(command[:3])} failed: {done.stderr.strip()[-800:]}; "
            "check the package sources and run apt-get update"
        )
    return done.stdout


def kernel_package() -> str:
    """The package with the kernel itself, which the metapackage of Debian's cloud kernel depends on."""
    text = _run("apt-cache", "depends", KERNEL_METAPACKAGE)
    found = re.search(r"Depends: (linux-image-\S+)", text)
    if found is None:
        raise BuildError(
            f"{KERNEL_METAPACKAGE} is not in the package lists: "
            "add a Debian 12 (amd64) source and run apt-get update"
        )
    return found[1]


def resolve(names: Iterable[str]) -> list[Package]:
    """The candidates of the named packages with their digests, from apt's lists; nothing is downloaded.

    Raises BuildError when apt does not know one of them.
    """
    wanted = list(names)
    by_name: dict[str, Package] = {}
    for found in _URI_LINE.finditer(_run("apt-get", "--print-uris", "download", *wanted)):
        name = found["file"].split("_", 1)[0]
        by_name[name] = Package(name, found["file"], int(found["size"]), found["hash"])
    missing = [name for name in wanted if name not in by_name]
    if missing:
        raise BuildError(f"apt names no download for {', '.join(missing)}; run apt-get update")
    return [by_name[name] for name in wanted]


def _intact(package: Package, path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != package.size:
        return False
    kind, _, expected = package.digest.partition(":")
    if kind not in _ALGORITHMS:
        raise BuildError(f"apt describes {package.file} with the digest {kind}, which is not known here")
    with path.open("rb") as file:
        return hashlib.file_digest(file, _ALGORITHMS[kind]).hexdigest() == expected


def download(packages: Iterable[Package], folder: Path) -> dict[str, Path]:
    """The .deb files in `folder` by package name; fetches those that are missing or damaged.

    Raises BuildError when a download fails or does not have the digest of the index.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = list(packages)
    absent = [package for package in wanted if not _intact(package, folder / package.file)]
    if absent:
        for package in absent:
            (folder / package.file).unlink(missing_ok=True)
        _run("apt-get", "download", "-q", *(package.name for package in absent), cwd=folder)
        for package in absent:
            if not _intact(package, folder / package.file):
                raise BuildError(f"the download of {package.file} does not have the digest of apt's index")
    return {package.name: folder / package.file for package in wanted}


def _inside(folder: Path, name: str) -> Path:
    path = folder / name.removeprefix("./")
    if ".." in path.parts or not path.is_relative_to(folder):
        raise BuildError(f"the path {name} in a package leads out of it")
    return path


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    path = _inside(into, member.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        path.unlink(missing_ok=True)
        path.symlink_to(member.linkname)
    elif member.islnk():
        path.write_bytes(_inside(into, member.linkname).read_bytes())
        path.chmod(member.mode & 0o777)
    elif (content := archive.extractfile(member)) is not None:
        with path.open("wb") as file:
            shutil.copyfileobj(content, file, 1024 * 1024)
        path.chmod(member.mode & 0o777)


def unpack(deb: Path, into: Path, wanted: Callable[[str], bool]) -> None:
    """Writes those files of a .deb whose path ("usr/bin/sudo") is wanted below `into`; links inside are kept.

    Owners and set-id bits are not taken over: the file system image sets them.
    """
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    if not member.isdir() and wanted(member.name.removeprefix("./")):
                        _write_member(archive, member, into)
        except tarfile.TarError as error:
            process.kill()
            raise BuildError(f"{deb.name} cannot be unpacked: {error}; delete it and build again") from error
    if process.returncode:
        raise BuildError(f"dpkg-deb cannot read {deb.name}; delete it and build again")
