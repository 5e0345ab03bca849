"""Progress of long work: a bar per step on a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Steps:
    """Shows steps as they come; each closes the one before."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._step = ""
        self._task: TaskID | None = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> Steps:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._finish()
            self._bar.stop()

    def show(self, step: str, done: int, total: int) -> None:
        """`step` is at `done` of `total`; a total of 0 is not known."""
        if step != self._step:
            self._finish()
            self._step = step
            if self._bar:
                self._task = self._bar.add_task(step, total=total or None)
            else:
                print(f"  {step} …", file=sys.stderr, flush=True)
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total or None)

    def _finish(self) -> None:
        if self._bar and self._task is not None:
            total = self._bar.tasks[-1].total or 1
            self._bar.update(self._task, completed=total, total=total)
        self._task = None
