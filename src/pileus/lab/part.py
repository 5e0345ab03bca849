"""A part: one server program on one machine of the lab, and how it is started, watched and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

from pileus.lab.faults import LabError
from pileus.lab.machine import Machine
from pileus.node.hypervisor.qemu.process import ProcessId, alive

Record = Callable[[ProcessId | None], None]


class Part:
    """One program on one machine. Those below say how; starting again after a kill is the same `start`."""

    name = ""
    user = ""
    """Who it runs as; empty: root."""
    patience = 60.0
    """Seconds until it must answer."""
    ends_by = signal.SIGTERM
    """The signal by which it ends in order."""

    def __init__(self, machine: Machine, address: str) -> None:
        self.machine, self.address = machine, address
        self.process: ProcessId | None = None
        self.record: Record = lambda process: None

    def prepare(self) -> None:
        """Make its files, at the first start."""

    def command(self) -> list[str]:
        """How it is started."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What it is told in its environment."""
        return {}

    def answers(self) -> bool:
        """Whether it does its work now."""
        raise NotImplementedError

    def pileus(self, *words: str) -> list[str]:
        """The command line of `pileus …` for this part's settings; empty when it is no part of Pileus."""
        return []

    # ------------------------------------------------------------------------------------ life

    @property
    def log(self) -> str:
        """Its log, as the machine names it."""
        return f"/var/log/{self.name}.log"

    @property
    def running(self) -> bool:
        """Whether its process lives, which does not say that it answers."""
        return self.machine.on and self.process is not None and alive(self.process)

    def start(self, wait: bool = True) -> None:
        """Start it unless it runs, and wait until it answers. Raises LabError, with the end of its log."""
        self.make_files()
        if not self.running:
            self.launch()
        if wait:
            self.wait()

    def make_files(self) -> None:
        """Prepare it, unless it has been. Raises LabError."""
        mark = self.machine.path(f"/var/lib/prepared-{self.name}")
        if not mark.exists():
            self.prepare()
            mark.touch()

    def launch(self) -> None:
        """Start its program. Raises LabError."""
        self._is(self.machine.spawn(*self.command(), log=self.log, user=self.user, environment=self.environment()))

    def wait(self) -> None:
        """Until it answers. Raises LabError, with the end of its log."""
        until = time.monotonic() + self.patience
        while not self.answers():
            if not self.running or time.monotonic() > until:
                why = "has ended" if not self.running else f"does not answer after {self.patience:.0f} s"
                raise LabError(f"{self.name} on {self.machine.name} {why}; the end of its log:\n{self.log_end()}")
            time.sleep(0.05)

    def stop(self, seconds: float = 30.0) -> None:
        """Ask it to end, and wait. Raises LabError when it does not."""
        self.signal(self.ends_by)
        until = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > until:
                raise LabError(f"{self.name} on {self.machine.name} has not stopped within {seconds:.0f} s")
            time.sleep(0.02)
        self._is(None)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        until = time.monotonic() + 10
        while self.running:
            if time.monotonic() > until:
                raise LabError(f"{self.name} on {self.machine.name} outlives kill -9")
            time.sleep(0.005)
        self._is(None)

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal; nothing happens when it does not run."""
        if self.running and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def log_end(self, lines: int = 15) -> str:
        """The last lines of its log."""
        try:
            text = (self.machine.folder / self.log.lstrip("/")).read_text(errors="replace")
        except OSError as error:
            return str(error)
        return "\n".join(text.splitlines()[-lines:])

    def listens(self, port: int) -> bool:
        """Whether something takes connections on a port of its address."""
        with self.machine.inside():
            try:
                with socket.create_connection((self.address, port), timeout=2):
                    return True
            except OSError:
                return False

    def _is(self, process: ProcessId | None) -> None:
        self.process = process
        self.record(process)
