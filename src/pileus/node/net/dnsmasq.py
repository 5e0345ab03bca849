"""dnsmasq processes: one for a network that is served here, one for a router that announces IPv6.

A process outlives the agent. It is found again by its pid file and known by its command line, which
names its folder; a pid that now belongs to another program is never touched.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
from pathlib import Path

import msgspec

from pileus.node.contract import NodeFault
from pileus.node.net.dhcp import TAG, DhcpFiles
from pileus.node.net.namespaces import CommandFailed, identity, run


def require_user(user: str, folder: Path) -> None:
    """See that dnsmasq's unprivileged user is there and can read below `folder`; raises NodeFault."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise NodeFault(f"the user {user!r}, as whom DHCP servers run, does not exist; install dnsmasq-base") from None
    for parent in [folder, *folder.parents]:
        facts = parent.stat()
        if not facts.st_mode & 0o001 and facts.st_uid != entry.pw_uid:
            raise NodeFault(f"{parent} is closed to user {user!r}, who must read DHCP files in {folder}: chmod o+x it")


class Dnsmasq:
    """The dnsmasq of one namespace, with its files in `folder`."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._files: DhcpFiles | None = None

    def pid(self) -> int | None:
        """The process that serves the namespace now; None if there is none."""
        pid = self._process()
        try:
            here = pid is not None and Path(f"/proc/{pid}/ns/net").stat().st_ino == identity(self._namespace)
        except OSError:
            return None
        return pid if here else None

    def _process(self) -> int | None:
        """Our process, wherever it runs: its namespace may have been deleted under it."""
        try:
            pid = int((self._folder / "pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"--conf-file={self._folder / 'config'}".encode() in words else None

    def ensure(self, files: DhcpFiles) -> dict[str, str]:
        """Make the process serve these files; returns, by port id, options that could not be used."""
        pid = self.pid()
        if pid is not None and files == self._files:
            return files.problems
        self._folder.mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o755)
        restart = pid is None or self._read("config") != files.config or self._moved(files)
        tagged = TAG in self._read("hosts")
        changed = [self._write(name, getattr(files, name)) for name in ("hosts", "options", "addresses")]
        # An earlier process may have written the files and ended before it said so.
        again = self._files is None or any(changed)
        restart = restart or (again and tagged)
        owners = self._owners(files, restart)
        if restart:
            self.stop()
            self._write("owners", msgspec.json.encode(owners).decode())
            self._write("config", files.config)
            problems = self._start(files)
        else:
            problems = files.problems
            self._write("owners", msgspec.json.encode(owners).decode())
            if pid is not None and again:
                os.kill(pid, signal.SIGHUP)
        self._files = files
        return problems

    def _start(self, files: DhcpFiles) -> dict[str, str]:
        command = ("dnsmasq", f"--conf-file={self._folder / 'config'}")
        try:
            run(self._namespace, command)
        except CommandFailed as failure:
            if files.options == files.plain_options:
                raise
            # A tenant's option must not take DHCP away from the whole network.
            self._write("options", files.plain_options)
            run(self._namespace, command)
            asking = {line.partition(",")[0].removeprefix("tag:port-") for line in files.options.splitlines()}
            return files.problems | {
                port: f"extra DHCP options are left out, because dnsmasq refused some: {failure}"
                for port in asking
                if not port.startswith("tag:")
            }
        return files.problems

    def _moved(self, files: DhcpFiles) -> bool:
        """Whether an address has a new owner: dnsmasq keeps the old lease in memory until it ends."""
        before = self._before()
        return any(before.get(address, mac) != mac for address, mac in files.owners.items())

    def _before(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._read("owners"), type=dict[str, str])
        except msgspec.DecodeError:
            return {}

    def _owners(self, files: DhcpFiles, restart: bool) -> dict[str, str]:
        return files.owners if restart else self._before() | files.owners

    def stop(self) -> None:
        """End the process, if it runs, and wait for its end."""
        pid = self._process()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 3
        while (pid := self._process()) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        self._files = None

    def remove(self) -> None:
        """End the process and delete its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> bool:
        """Replace a file whole; whether it differed."""
        path = self._folder / name
        if path.exists() and self._read(name) == text:
            return False
        new = path.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o644)
        new.rename(path)
        return True
