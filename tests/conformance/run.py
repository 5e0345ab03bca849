"""Runs Tempest against a fresh cloud and reports per service; `make conformance` calls it.

The last line is `N passed, N failed, N skipped`; the exit code is 0 only if none failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from tests.conformance import cloud, config, disk, lab, results, selection, stream
from tests.conformance.rest import CloudError, Session

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main() -> int:
    """Run what the command line asks for. Returns 0 if none failed, 1 if some did, 2 if it could not run."""
    options = _options()
    folder = (
        options.logs or ROOT / ".cache" / "conformance" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    )
    folder.mkdir(parents=True, mode=0o700)
    # A killed run has to take its cloud with it.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        outcomes = _run(options, folder)
    except (CloudError, selection.SelectionError, stream.RunError) as error:
        print(f"conformance: {error}\nconformance: logs are in {folder}", file=sys.stderr)
        return 2
    text = results.report(outcomes)
    (folder / "report.txt").write_text(text + "\n", encoding="utf-8")
    print(f"\nlogs: {folder}\n{text}")
    return 1 if any(outcome.verdict == "failed" for outcome in outcomes) else 0


def _run(options: argparse.Namespace, folder: Path) -> list[results.Outcome]:
    stream.prepare(folder)
    (folder / "tempest.conf").touch(mode=0o600)
    chosen = selection.select(options.tests, stream.listed(folder))
    if options.list:
        print("\n".join(chosen.tests))
        print(f"{len(chosen.tests)} tests, {len(chosen.missing)} missing: {' '.join(chosen.missing)}")
        raise SystemExit(1 if chosen.missing else 0)
    image = folder / "guest.qcow2"
    if options.image:
        shutil.copy(options.image, image)
    elif options.hypervisor == "fake":
        image.write_bytes(disk.empty_qcow2())
    else:
        cloud.build_guest(image, folder)
    # A short path: sockets below it have names of at most 107 bytes.
    state = Path(tempfile.mkdtemp(prefix="pileus-"))
    # QEMU, an unprivileged user, has to pass; what is secret in there is not readable to it.
    state.chmod(0o755)
    try:
        with _cloud(options, state, folder) as administrator:
            facts = cloud.furnish(Session(administrator), image)
            flags = config.read_flags(HERE / "features.conf")
            if options.any_format:
                flags.set("image-feature-enabled", "image_format_enforcement", "false")
            text = config.render(flags, facts, options.hypervisor, folder, image)
            (folder / "tempest.conf").write_text(text, encoding="utf-8")
            # Some tests have their tags by the configuration, and so their ids.
            chosen = selection.select(options.tests, stream.listed(folder))
            stream.run(folder, chosen.tests, options.concurrency, options.timeout)
    finally:
        if state.exists():
            print(f"conformance: the cloud's state is in {state}; 'pileus destroy --state-dir {state}' removes it")
    return results.judge(chosen, stream.events(folder))


def _cloud(options: argparse.Namespace, state: Path, logs: Path) -> AbstractContextManager[config.Administrator]:
    extra = {"image_format_match": "false"} if options.any_format else {}
    if options.layout:
        return lab.running(state, options.layout, options.nodes, options.hypervisor, logs, options.keep, extra)
    return cloud.running(state, options.hypervisor, options.database, logs, options.keep, extra)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", help="a file with a test id a line, or a regular expression")
    parser.add_argument("--hypervisor", choices=("fake", "qemu"), default="fake")
    parser.add_argument("--layout", help="a lab of many machines (`pileus lab`) in the place of one process")
    parser.add_argument("--nodes", type=int, default=0, help="compute nodes of the lab (default: as many as it has)")
    parser.add_argument("--concurrency", type=int, default=2, help="workers (default %(default)s)")
    parser.add_argument("--timeout", type=int, default=7200, help="seconds for all (default %(default)s)")
    parser.add_argument("--image", type=Path, help="a qcow2 to boot, instead of building the guest image")
    parser.add_argument(
        "--logs", type=Path, help="a new folder for the logs (default: in .cache/conformance)"
    )
    parser.add_argument(
        "--any-format", action="store_true",
        help="a cloud that takes image data of another format than it claims, as some tests upload it",
    )
    parser.add_argument("--keep", action="store_true", help="leave the cloud up at the end")
    parser.add_argument("--list", action="store_true", help="only list the chosen tests")
    options = parser.parse_args()
    # Not an option of the command line, because the URL may hold a password.
    options.database = os.environ.get("DATABASE", "")
    return options


def _terminated(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
