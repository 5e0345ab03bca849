"""Structured logs: one line an event, one line a request, each with the request id that follows it everywhere."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import sys
import time
from typing import Any, TextIO

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")
"""The request or task that the running code works for."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@functools.lru_cache(maxsize=2)
def _stamp(second: int) -> str:
    """A second as it is written, worked out once for all lines in it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


class TextFormat(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO pileus.web req-… GET /compute/… status=200 ms=1.2`"""

    @staticmethod
    def line(now: float, level: str, name: str, text: str) -> str:
        """A line without extras."""
        return (
            f"{_stamp(int(now))}.{int(now % 1 * 1000):03d}Z {level} {name} {request_id.get()} {_one_line(text)}"
        )

    def format(self, record: logging.LogRecord) -> str:
        more = record.__dict__.keys() - _OWN
        extra = "".join(f" {k}={v}" for k, v in record.__dict__.items() if k in more) if more else ""
        line = self.line(record.created, record.levelname, record.name, record.getMessage()) + extra
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormat(logging.Formatter):
    """The same as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": record.created, "level": record.levelname, "logger": record.name,
            "request_id": request_id.get(), "message": record.getMessage(),
        }
        entry.update({k: v for k, v in record.__dict__.items() if k not in _OWN})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Output(logging.StreamHandler[TextIO]):
    """Where all lines go."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._waiting: list[str] = []

    def say(self, line: str) -> None:
        """Write a line that is complete: with those of the same turn of the event loop, in one go."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._waiting.append(line)
            return self.write_waiting()
        if not self._waiting:
            loop.call_soon(self.write_waiting)
        self._waiting.append(line)

    def write_waiting(self) -> None:
        """Write what waits."""
        self.acquire()
        try:
            lines, self._waiting = self._waiting, []
            if lines:
                self.stream.write("\n".join(lines) + "\n")
                self.flush()
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, behind what waits."""
        self.write_waiting()
        super().emit(record)


def info(logger: logging.Logger, text: str) -> None:
    """What `logger.info(text)` does, in a third of the time where the process logs text to one place only."""
    if not logger.isEnabledFor(logging.INFO):
        return
    handlers = logging.getLogger().handlers
    output = handlers[0] if len(handlers) == 1 and not logger.handlers else None
    if isinstance(output, Output) and isinstance(output.formatter, TextFormat):
        output.say(TextFormat.line(time.time(), "INFO", logger.name, text))
    else:
        logger.info("%s", text)


LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")
"""How loud a logger can be, the most quiet first."""

ROOT = "pileus"
"""The logger above all of the program's own."""


def levels(prefix: str = "") -> dict[str, str]:
    """The levels that count in this process for the program's loggers whose names begin so, by name."""
    return {name: logging.getLevelName(logger.getEffectiveLevel()) for name, logger in _own(prefix)}


def set_levels(prefix: str, level: str) -> None:
    """Give the same loggers this level, one of LEVELS, until the process ends. Loggers below them that are made later
    have it too."""
    for _, logger in _own(prefix):
        logger.setLevel(level)


def _own(prefix: str) -> list[tuple[str, logging.Logger]]:
    logging.getLogger(ROOT)  # so that it is there
    known = sorted(logging.root.manager.loggerDict.copy().items())
    return [
        (name, logger) for name, logger in known
        if isinstance(logger, logging.Logger) and name.startswith(prefix) and f"{name}.".startswith(f"{ROOT}.")
    ]


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def set_up(form: str, level: str, stream: TextIO | None = None) -> None:
    """Send all logs to one stream (standard error by default). `form` is text or json."""
    # What no line shows need not be found out for each (Python's logging guide, "Optimization"): half of a line's time.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Output(stream or sys.stderr)
    handler.setFormatter(JsonFormat() if form == "json" else TextFormat())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "qemu", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
