"""Whatever is sent, no service answers with a 5xx.

PILEUS_BAD_INPUT sets the number of requests, PILEUS_BAD_INPUT_SEED which; both are printed.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from pileus.web.openapi import document
from pileus.web.versions import text
from tests.api.bad_input.ec2 import Ec2Maker
from tests.api.bad_input.inhabited import Inhabited, inhabited
from tests.api.bad_input.requests import Draw, Maker, Request

COUNT = int(os.environ.get("PILEUS_BAD_INPUT", "1500"))
SEED = int(os.environ.get("PILEUS_BAD_INPUT_SEED", "1"))
SLOW = 5.0


class Run:
    """The cloud, a fresh one whenever a request has locked everyone out, and what was found."""

    def __init__(self, folder: Path, stack: ExitStack, database: str, loop: asyncio.AbstractEventLoop) -> None:
        self.folder, self.stack, self.database, self.loop = folder, stack, database, loop
        self.clouds = 0
        self.statuses: dict[int, int] = {}
        self.findings: dict[str, str] = {}
        self.place: Inhabited
        self.fresh()

    def fresh(self) -> None:
        """Begin with a new cloud."""
        self.stack.close()
        self.clouds += 1
        folder = self.folder / str(self.clouds)
        folder.mkdir()
        # One database a module is enough: the others are files, whatever the first was.
        database = self.database if self.clouds == 1 else ""
        self.place = self.stack.enter_context(inhabited(folder, self.loop, database))

    def documents(self) -> dict[str, Any]:
        return {service.name: document(service) for service in self.place.cloud.served}

    def versions(self) -> dict[str, list[str]]:
        return {
            s.name: [text((m.lowest[0], n)) for n in range(m.lowest[1], m.highest[1] + 1)]
            + ["latest"] * m.highest[1] + ["2.9999", "x"]
            for s in self.place.cloud.served if (m := s.microversions)
        }

    def send(self, request: Request) -> None:
        """Send it and note what came of it."""
        client = self.place.callers[request.caller]
        began = time.monotonic()
        reply = client.request(
            request.method, request.path, headers=request.headers, content=request.content, follow_redirects=False
        )
        took = time.monotonic() - began
        self.statuses[reply.status_code] = self.statuses.get(reply.status_code, 0) + 1
        where = f"{request.method} {request.path.split('?')[0].split('/')[1:5]}"
        if reply.status_code >= 500:
            self.findings.setdefault(where, f"{reply.status_code} {request.line()}")
        if took > SLOW:
            self.findings.setdefault(where, f"{took:.1f} s {request.line()}")
        if reply.status_code == 401 and client.token and not self.place.alive():
            self.fresh()


def test_no_request_ends_in_a_5xx(
    tmp_path: Path, loop: asyncio.AbstractEventLoop, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    count = COUNT if not database_url else COUNT // 3
    print(f"{count} requests, PILEUS_BAD_INPUT_SEED={SEED}")
    with ExitStack() as stack:
        run = Run(tmp_path, stack, database_url, loop)
        maker = Maker(run.documents(), run.place.ids, run.versions())
        signed = Ec2Maker(lambda: run.place.keys)

        @hypothesis.seed(SEED)
        @hypothesis.settings(
            max_examples=count, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(st.data())
        def throw(data: st.DataObject) -> None:
            maker.ids = run.place.ids
            draw = Draw(data)
            # EC2 has one place for all of its actions, which would hardly ever be drawn among the others'.
            run.send(signed.request(draw, run.place.ids) if draw.number(0, 11) == 0 else maker.request(draw))

        throw()
    print(f"statuses {dict(sorted(run.statuses.items()))}, {run.clouds} clouds")
    traces = "\n".join(r.exc_text or r.getMessage() for r in caplog.records if r.exc_info)
    assert not run.findings, "\n".join([*run.findings.values(), traces[-20_000:]])
    assert sum(n for status, n in run.statuses.items() if status < 300) > count // 20, "hardly anything came through"
