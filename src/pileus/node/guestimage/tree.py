"""The guest's file trees: the root file system and the initramfs, put together in a scratch folder."""

import gzip
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from pileus.node.guestimage import contents, elf
from pileus.node.guestimage.faults import BuildError

_LIBRARY_FOLDER = "usr/lib/x86_64-linux-gnu"


class Parts:
    """Unpacked packages below `folder`; finds files without regard to whether a package uses /usr."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules = {path.stem.replace("-", "_"): path for path in folder.glob("**/lib/modules/**/*.ko")}

    def find(self, path: str) -> Path:
        """The unpacked file "bin/lsblk", from /bin or /usr/bin. Raises BuildError when no package has it."""
        for candidate in (self.folder / path, self.folder / "usr" / path):
            if candidate.exists():
                return candidate.resolve()
        raise BuildError(f"no package contains {path}: the packages differ from those of Debian 12")

    def library(self, name: str) -> Path:
        """The file of a shared library by its DT_NEEDED name."""
        return self.find(f"lib/x86_64-linux-gnu/{name}")

    def module(self, name: str) -> Path:
        """The file of a kernel module."""
        try:
            return self._modules[name.replace("-", "_")]
        except KeyError:
            raise BuildError(f"the kernel package has no module {name}") from None

    def kernel(self) -> tuple[str, Path]:
        """The version and the image of the kernel."""
        found = sorted(self.folder.glob("boot/vmlinuz-*"))
        if not found:
            raise BuildError("the kernel package has no boot/vmlinuz-*")
        return found[0].name.removeprefix("vmlinuz-"), found[0]


def script(name: str) -> str:
    """The text of one of the guest's own files in the package data."""
    return (resources.files("pileus.node.guestimage") / "guest" / name).read_text()


def _copy(source: Path, target: Path, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(target: Path, text: str, mode: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def _link(target: Path, to: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(to)


def _applets(busybox: Path) -> list[str]:
    return subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()


def _rename_nc(busybox: Path) -> None:
    """Gives the applet nc the name nd (the table stays sorted), so that the shell finds the full netcat as nc.

    The shell of Debian's busybox runs an applet without looking at PATH, and its nc has neither UDP nor -k.
    """
    data = busybox.read_bytes()
    if data.count(b"\0nc\0netstat\0") != 1:
        raise BuildError("the applet table of busybox is not as in Debian 12, and its nc cannot be replaced")
    busybox.write_bytes(data.replace(b"\0nc\0netstat\0", b"\0nd\0netstat\0"))


def _with_dependencies(parts: Parts, names: Iterable[str]) -> list[Path]:
    found: dict[str, Path] = {}
    queue = list(names)
    while queue:
        name = queue.pop().replace("-", "_")
        if name not in found:
            found[name] = parts.module(name)
            depends = re.search(rb"\0depends=([^\0]*)\0", found[name].read_bytes())
            queue += [other for other in (depends[1].decode() if depends else "").split(",") if other]
    return sorted(found.values())


def _add_libraries(parts: Parts, root: Path) -> None:
    queue = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    while queue:
        for name in elf.needed(queue.pop()):
            target = root / _LIBRARY_FOLDER / name
            beside_program = root / "usr/libexec/sudo" / name
            if not target.exists() and not beside_program.exists():
                _copy(parts.library(name), target, 0o755)
                queue.append(target)
    loader = parts.library("ld-linux-x86-64.so.2")
    _copy(loader, root / "usr/lib64/ld-linux-x86-64.so.2", 0o755)
    # login, sudo and wget resolve names through these when the C library has them as modules.
    for name in ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"):
        _copy(parts.library(name), root / _LIBRARY_FOLDER / name, 0o755)


def _add_modules(parts: Parts, root: Path, busybox: Path) -> None:
    version, _ = parts.kernel()
    folder = root / "usr/lib/modules" / version
    for module in _with_dependencies(parts, contents.MODULES):
        _copy(module, folder / "kernel" / module.name, 0o644)
    done = subprocess.run(
        [busybox, "depmod", "-b", str(root), version], capture_output=True, text=True, check=False
    )
    if done.returncode or not (folder / "modules.dep").exists():
        raise BuildError(f"depmod failed for kernel {version}: {done.stderr.strip()}")


def make_root(parts: Parts, root: Path) -> None:
    """Fills the empty folder `root` with the guest's root file system. Raises BuildError when a part is missing."""
    for folder in contents.FOLDERS:
        (root / folder).mkdir(parents=True)
    for programs in contents.PROGRAMS.values():
        for source, target in programs.items():
            _copy(parts.find(source), root / target, 0o644 if target.startswith("etc/") else 0o755)
    for path, to in contents.LINKS.items():
        _link(root / path, to)
    for name, target in contents.SCRIPTS.items():
        _write(root / target, script(name), 0o755)
    for path, text in contents.FILES.items():
        _write(root / path, text, 0o755 if path in contents.EXECUTABLE else 0o644)
    busybox = root / "usr/bin/busybox"
    _rename_nc(busybox)
    for applet in _applets(busybox):
        if not (root / "usr/bin" / applet).exists():
            _link(root / "usr/bin" / applet, "busybox")
    _add_libraries(parts, root)
    _add_modules(parts, root, busybox)


def make_initramfs(parts: Parts) -> bytes:
    """The compressed initramfs: busybox, the modules of the root disk, and init."""
    files: dict[str, tuple[int, bytes]] = {}
    for folder in ("bin", "modules", "proc", "sys", "dev", "newroot"):
        files[folder] = (stat.S_IFDIR | 0o755, b"")
    files["init"] = (stat.S_IFREG | 0o755, script("init.sh").encode())
    files["bin/busybox"] = (stat.S_IFREG | 0o755, parts.find("bin/busybox").read_bytes())
    for applet in ("sh", "mount", "insmod", "cat", "sleep", "dd", "sync", "blockdev", "switch_root", "ls", "dmesg"):
        files[f"bin/{applet}"] = (stat.S_IFLNK | 0o777, b"busybox")
    for name in contents.BOOT_MODULES:
        files[f"modules/{name}.ko"] = (stat.S_IFREG | 0o644, parts.module(name).read_bytes())
    return gzip.compress(_cpio(files), 9, mtime=0)


def _cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """An archive in cpio's "newc" form, which the kernel's initramfs documentation describes."""
    archive = bytearray()

    def add(number: int, name: str, mode: int, data: bytes) -> None:
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        archive.extend(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0")
        archive.extend(b"\0" * (-len(archive) % 4) + data)
        archive.extend(b"\0" * (-len(archive) % 4))

    for number, (name, (mode, data)) in enumerate(files.items(), 1):
        add(number, name, mode, data)
    add(0, "TRAILER!!!", 0, b"")
    return bytes(archive)
