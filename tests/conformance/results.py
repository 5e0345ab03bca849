"""What came of each chosen test, and the report of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.conformance.selection import Selection, name_of

Verdict = Literal["passed", "failed", "skipped"]

SERVICES = ("identity", "image", "compute", "network", "volume", "object_storage", "scenario", "other")

_STATES: dict[str, Verdict] = {
    "success": "passed",
    "skip": "skipped",
    "fail": "failed",
    # An expected failure is one of Tempest's own; a pass against expectation is a change to look at.
    "xfail": "passed",
    "uxsuccess": "failed",
}
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(:|$)(?<!^Details:)")
_FIXTURE = re.compile(r"^(setUpClass|tearDownClass|setUpModule|tearDownModule) \((?P<scope>[^)]+)\)$")


@dataclass(frozen=True)
class Event:
    """The last word on one test id or class fixture in the result stream: subunit's status and the reason."""

    test_id: str
    status: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """The verdict on one test."""

    name: str
    verdict: Verdict
    reason: str


def service_of(name: str) -> str:
    """Return the service that a test is counted under, one of SERVICES."""
    parts = [part for part in name.split(".") if part not in ("tempest", "serial_tests")]
    service = parts[1] if parts[0] == "api" and len(parts) > 1 else parts[0]
    return service if service in SERVICES else "other"


def judge(selection: Selection, events: Iterable[Event]) -> list[Outcome]:
    """Return exactly one outcome for every chosen test, and one for every class teardown that failed.

    A test without a result of its own takes that of its class's setup, and is failed when there is none:
    nothing that was asked for may drop out of the count.
    """
    own: dict[str, Event] = {}
    setups: dict[str, Event] = {}
    teardowns: list[Outcome] = []
    for event in events:
        fixture = _FIXTURE.match(event.test_id)
        if fixture is None:
            own[name_of(event.test_id)] = event
        elif event.test_id.startswith("setUp"):
            setups[fixture["scope"]] = event
        elif _STATES.get(event.status) != "passed":
            teardowns.append(Outcome(event.test_id, "failed", event.reason))
    outcomes = [_outcome(name_of(test), own, setups) for test in selection.tests]
    outcomes += [
        Outcome(name, "failed", "missing: Tempest has no test of this name") for name in selection.missing
    ]
    return outcomes + teardowns


def _outcome(name: str, own: dict[str, Event], setups: dict[str, Event]) -> Outcome:
    if name in own:
        event = own[name]
        verdict = _STATES.get(event.status, "failed")
        return Outcome(
            name, verdict, event.reason or ("" if verdict == "passed" else f"ended as '{event.status}'")
        )
    class_name = name.rpartition(".")[0]
    setup = setups.get(class_name) or setups.get(class_name.rpartition(".")[0])
    if setup is None:
        return Outcome(name, "failed", "no result: the run ended before it")
    verdict = "skipped" if _STATES.get(setup.status) == "skipped" else "failed"
    return Outcome(name, verdict, f"{setup.test_id.partition(' ')[0]}: {setup.reason}")


def report(outcomes: Sequence[Outcome]) -> str:
    """Return the table per service, the failed and skipped with their reasons, and the closing line."""
    lines = [f"{'service':<16}{'passed':>8}{'failed':>8}{'skipped':>9}"]
    counts = Counter((_place(outcome), outcome.verdict) for outcome in outcomes)
    for service in SERVICES:
        passed, failed, skipped = (counts[service, verdict] for verdict in ("passed", "failed", "skipped"))
        if passed or failed or skipped:
            lines.append(f"{service:<16}{passed:>8}{failed:>8}{skipped:>9}")
    for verdict in ("failed", "skipped"):
        chosen = [outcome for outcome in outcomes if outcome.verdict == verdict]
        if chosen:
            lines += ["", f"{verdict}:"]
            lines += [f"  {outcome.name}: {headline(outcome.reason)}" for outcome in chosen]
    total = Counter(outcome.verdict for outcome in outcomes)
    lines += ["", f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped"]
    return "\n".join(lines)


def headline(reason: str) -> str:
    """Return the one line of a reason or traceback that says most: the exception and its message."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    if not lines:
        return "no reason given"
    if not any(line.startswith("Traceback ") for line in lines):
        return lines[0][:300]
    start = max(i for i, line in enumerate(lines) if line.startswith("Traceback "))
    raised = next((line for line in lines[start + 1 :] if _RAISED.match(line)), lines[-1])
    details = next((line for line in lines[start + 1 :] if line.startswith("Details: ")), "")
    return f"{raised} {details}".strip()[:300]


def _place(outcome: Outcome) -> str:
    fixture = _FIXTURE.match(outcome.name)
    return service_of(fixture["scope"] if fixture else outcome.name)
