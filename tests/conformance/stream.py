"""Runs Tempest through stestr, and reads the result stream that it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import subunit
import tempest
from testtools import StreamResult

from tests.conformance.results import Event

_STESTR_CONF = """[DEFAULT]
test_path={tempest}/test_discover
top_dir={top}
group_regex=([^\\.]*\\.)*
"""


class RunError(RuntimeError):
    """Tempest could not be started, or did not end in time."""


def prepare(folder: Path) -> None:
    """Set stestr up in `folder`: tests of one class stay on one worker, so that its setup runs once."""
    package = Path(next(iter(tempest.__path__)))
    text = _STESTR_CONF.format(tempest=package, top=package.parent)
    (folder / ".stestr.conf").write_text(text, encoding="utf-8")
    _call(folder, "init")


def listed(folder: Path) -> list[str]:
    """Return the full ids of every test that Tempest has. Raises RunError."""
    return [line for line in _call(folder, "list").decode().splitlines() if line.startswith("tempest.")]


def run(folder: Path, tests: tuple[str, ...], concurrency: int, seconds: int) -> None:
    """Run the tests, their lines shown as they come and kept in `folder`/run.log.

    Failing tests are no error here. Raises RunError when the run does not end within `seconds`.
    """
    chosen = folder / "tests.txt"
    chosen.write_text("".join(f"{test}\n" for test in tests), encoding="utf-8")
    command = [*_stestr(folder), "run", "--load-list", str(chosen), "--concurrency", str(concurrency)]
    # A session of its own: at the end, also of a broken run, every worker is gone.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    previous = signal.signal(signal.SIGALRM, _late)
    signal.alarm(seconds)
    try:
        assert process.stdout is not None
        with (folder / "run.log").open("w", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                if line.startswith("{"):
                    print(line, end="", flush=True)
        process.wait()
    except TimeoutError as error:
        raise RunError(f"Tempest did not end within {seconds} s; see {folder / 'run.log'}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def events(folder: Path) -> list[Event]:
    """Return the last word on every test and class fixture of the last run."""
    # Exit code 1 of `last` says that tests failed, which is no error here.
    (folder / "results.subunit").write_bytes(_call(folder, "last", "--subunit", codes=(0, 1)))
    collector = _Collector()
    with (folder / "results.subunit").open("rb") as file:
        subunit.ByteStreamToStreamResult(file, non_subunit_name="stdout").run(collector)
    return collector.events()


class _Collector(StreamResult):  # type: ignore[misc]
    """Keeps for each test its last status, and the attachments that carry the reason."""

    def __init__(self) -> None:
        super().__init__()
        self._statuses: dict[str, str] = {}
        self._reasons: dict[str, dict[str, bytes]] = {}

    def status(
        self,
        test_id: str | None = None,
        test_status: str | None = None,
        test_tags: object = None,
        runnable: bool = True,
        file_name: str | None = None,
        file_bytes: bytes | None = None,
        eof: bool = False,
        mime_type: str | None = None,
        route_code: str | None = None,
        timestamp: object = None,
    ) -> None:
        """Take one event of the stream."""
        if test_id is None:
            return
        if test_status is not None and test_status != "exists":
            self._statuses[test_id] = test_status
        if file_name in ("reason", "traceback") or (file_name or "").startswith("traceback"):
            kept = self._reasons.setdefault(test_id, {})
            kept[file_name or ""] = kept.get(file_name or "", b"") + (file_bytes or b"")

    def events(self) -> list[Event]:
        """Return what was collected; the tests that began and never ended are `inprogress`."""
        return [Event(test_id, status, self._reason(test_id)) for test_id, status in self._statuses.items()]

    def _reason(self, test_id: str) -> str:
        return "\n".join(part.decode(errors="replace") for part in self._reasons.get(test_id, {}).values())


def _late(signum: int, frame: object) -> None:
    raise TimeoutError


def _call(folder: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> bytes:
    command = [*_stestr(folder), *arguments]
    done = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, timeout=300)
    if done.returncode not in codes:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-500:]
        raise RunError(f"'stestr {' '.join(arguments)}' failed with {done.returncode}: {said}")
    return done.stdout


def _stestr(folder: Path) -> list[str]:
    return [
        str(Path(sys.executable).with_name("stestr")),
        "--config",
        str(folder / ".stestr.conf"),
        "--repo-url",
        str(folder),
    ]


def _environment(folder: Path) -> dict[str, str]:
    # stestr starts workers as `python -m …`: the one beside it, whatever is first on the PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        "PATH": path,
        "PYTHON": sys.executable,
        "TEMPEST_CONFIG_DIR": str(folder),
        "TEMPEST_CONFIG": "tempest.conf",
    }
