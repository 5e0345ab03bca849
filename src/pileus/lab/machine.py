"""A machine of the lab: namespaces of its own, held by a first process with whose end everything in it ends.

Network, mounts, host name, process ids and shared memory are the machine's own. `/etc`, `/run`, `/var/lib`,
`/var/log`, `/root` and `/tmp` are its own; the rest of the file system is the host's. Nothing of it has a name outside:
when the first process is killed, the kernel ends all others and takes away namespaces, interfaces and mounts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pileus
from pileus.lab.faults import LabError
from pileus.node.hypervisor.qemu.process import ProcessId, alive, identify

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NEWNET = 0x40000000
_INIT = Path(__file__).with_name("machine.sh")


class Machine:
    """One machine, by its name and the folder that holds its files."""

    def __init__(self, name: str, folder: Path, first: ProcessId | None = None) -> None:
        self.name, self.folder, self.first = name, folder, first
        self._waiting: list[subprocess.Popen[bytes] | subprocess.Popen[str]] = []  # entered it, and last as long

    # ------------------------------------------------------------------------------------ life

    @property
    def on(self) -> bool:
        """Whether it runs."""
        return self.first is not None and alive(self.first)

    def power_on(self, record: Callable[[ProcessId], None]) -> None:
        """Start it; `record` is told its first process before anything else is done in it. Raises LabError."""
        if self.on:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        words = [
            "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation",
            "private", "--", "sh", str(_INIT), self.name, str(self.folder), *_own_places(),
        ]
        pipe = subprocess.PIPE
        outer = subprocess.Popen(
            words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=plain_environment()
        )
        assert outer.stdin and outer.stdout and outer.stderr  # noqa: PT018 - all three are pipes
        self._waiting.append(outer)
        with outer.stdin, outer.stdout, outer.stderr:
            said = outer.stdout.readline().strip()
            first = identify(int(said)) if said.isdigit() else None
            if first is not None:
                record(first)
                self.first = first
                outer.stdin.write("go\n")
                outer.stdin.flush()
                said = outer.stdout.readline().strip()
            if said != "ready":
                why = outer.stderr.read().strip()
                raise LabError(f"machine {self.name} did not start: {why}; labs need root and Linux namespaces")

    def power_off(self) -> None:
        """Pull its plug: every process in it is killed at once, its interfaces go, its files stay."""
        until = time.monotonic() + 20
        while self.first is not None and alive(self.first):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.first.pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise LabError(f"machine {self.name}: its first process {self.first.pid} outlives kill -9")
            time.sleep(0.01)
        self.first = None
        while self._waiting:
            self._waiting.pop().wait(20)

    # -------------------------------------------------------------------------------------- in it

    def path(self, inside: str) -> Path:
        """Where a file of the running machine is for those outside. Raises LabError when it is off."""
        return Path(f"/proc/{self._pid()}/root{inside}")

    def words(self, *words: str, user: str = "") -> list[str]:
        """The command line that runs `words` in the machine. Raises LabError when it is off."""
        entry = ["nsenter", "-t", str(self._pid()), "-n", "-m", "-u", "-i", "-p", "--"]
        if user:
            entry += ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"]
        return [*entry, *words]

    def run(
        self, *words: str, user: str = "", timeout: float = 60.0, check: bool = True, text: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, `text` on its input. With `check`, raises LabError when it fails."""
        try:
            done = subprocess.run(
                self.words(*words, user=user), input=text, capture_output=True, text=True, check=False, timeout=timeout,
                env=plain_environment(environment), errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: {' '.join(words)} did not end within {timeout:g} s") from None
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise LabError(f"{self.name}: {' '.join(words)} failed ({done.returncode}): {said}")
        return done

    def devices(self, *lines: str) -> None:
        """Change network devices by lines of `ip -batch`, which may name processes of other machines. Raises LabError.

        Only the network is entered: `netns PID` is looked up in /proc."""
        done = subprocess.run(
            ["nsenter", "-t", str(self._pid()), "-n", "--", "ip", "-batch", "-"], input="\n".join(lines) + "\n",
            capture_output=True, text=True, check=False, timeout=60, env=plain_environment(),
        )
        if done.returncode:
            raise LabError(f"{self.name}: its network devices: {done.stderr.strip()}; asked for: {'; '.join(lines)}")

    def has_device(self, name: str) -> bool:
        """Whether it has a network device of this name."""
        with self.inside():
            return name in {device for _, device in socket.if_nameindex()}

    def spawn(
        self, *words: str, log: str, user: str = "", environment: Mapping[str, str] | None = None
    ) -> ProcessId:
        """Start a program that goes on; what it says is added to the file `log` of the machine. Raises LabError."""
        self.path(log).touch(mode=0o600)
        with self.path(log).open("ab") as file:
            outer = subprocess.Popen(
                self.words(*words, user=user), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True, env=plain_environment(environment),
            )
        self._waiting = [each for each in self._waiting if each.poll() is None] + [outer]
        until = time.monotonic() + 10
        while outer.poll() is None and time.monotonic() < until:
            for child in _children(outer.pid):
                found = identify(child)
                if found is not None:
                    return found
            time.sleep(0.005)
        raise LabError(f"{self.name}: {words[0]} did not start; {self.folder}{log} may tell why")

    def process(self, inner: int) -> ProcessId | None:
        """The process that has pid `inner` in the machine, as those outside see it; None when there is none."""
        mine = os.readlink(f"/proc/{self._pid()}/ns/pid")
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/ns/pid") == mine and _inner(name) == inner:
                    return identify(int(name))
        return None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Put the calling thread into the machine's network for the block, with all that it starts there.

        Files stay the host's, so that a test's client and its ssh are those of the host."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/proc/{self._pid()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(libc, there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _enter(libc, home)
        finally:
            os.close(home)

    def _pid(self) -> int:
        if self.first is None or not self.on:
            raise LabError(f"machine {self.name} is off")
        return self.first.pid


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _own_places() -> list[str]:
    """Folders below /root and /tmp that Pileus itself runs from."""
    source = Path(pileus.__file__).resolve().parent.parent
    places = {Path(sys.base_prefix).resolve(), Path(sys.prefix).resolve(), source}
    below = {place for place in places if place.is_relative_to("/root") or place.is_relative_to("/tmp")}
    return sorted(str(place) for place in below if not below & set(place.parents))


def plain_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What programs in a machine know of the one who starts them: nothing but where Pileus itself is."""
    known = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}
    kept = {name: os.environ[name] for name in ("TERM", "PYTHONPATH") if name in os.environ}
    return {**known, **kept, **(more or {})}


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = Path(f"/proc/{name}/stat").read_text()
                if int(stat[stat.rindex(")") + 2 :].split()[1]) == parent:
                    found.append(int(name))
    return found


def _inner(pid: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0
