"""Users who create and delete servers while a lab suffers a fault: what each request came to, and what that says.

Nothing may be lost: a create that was accepted has its server, a delete that was accepted has none, and what was
refused with "nothing was changed" has changed nothing."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any

import httpx
import msgspec
from tests.system.lab.api import Api

from pileus.lab import Lab

_MOST = 90.0  # seconds until the first requests, and until all that was begun has ended
_NOTHING = "nothing was changed"


class Request(msgspec.Struct, frozen=True):
    """One request: `how` is done, refused (with a clear error), or broken (no answer, or none that says what was)."""

    what: str
    server: str  # the name at a create, the id at a delete
    began: float
    ended: float
    how: str
    said: str = ""


class Recovery(msgspec.Struct, frozen=True):
    """What users saw of a fault; seconds from it."""

    done: int
    refused: int
    broken: int
    first: float  # until the first request that was made after the fault was done
    last: float  # until the last answer that was an error; 0: there was none
    gap: float  # the longest time in which nothing was done

    def __str__(self) -> str:
        return (f"{self.done} done, {self.refused} refused, {self.broken} broken; first success after "
                f"{self.first:.1f} s, last error after {self.last:.1f} s, longest without success {self.gap:.1f} s")


class Load:
    """In a `with` block: so many users at work. It begins when each of them has had a success."""

    def __init__(self, lab: Lab, body: dict[str, Any], *, users: int = 3, alive: int = 4, pause: float = 0.1) -> None:
        self.lab, self.body, self.alive, self.pause = lab, body, alive, pause
        self.requests: list[Request] = []
        self.made: dict[str, str] = {}  # name of each server by its id
        self.deleted: set[str] = set()
        self.maybe_deleted: set[str] = set()
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._ready = threading.Barrier(users + 1, timeout=_MOST)
        self._prefix = f"load{random.randrange(1 << 30):x}-"
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(users)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_MOST)
            assert not thread.is_alive(), "a request has no answer"
        assert not self.wrong, "\n".join(self.wrong[:5])

    # ------------------------------------------------------------------------------------- one user

    def _run(self, user: int) -> None:
        try:
            with Api(self.lab) as api:
                api.http.timeout = httpx.Timeout(60.0)
                mine: list[str] = []
                self._step(api, user, 0, mine)
                assert mine, "the first server was refused"
                self._ready.wait()
                number = 0
                while not self._stop.is_set():
                    number += 1
                    self._step(api, user, number, mine)
                    time.sleep(self.pause)
        except BaseException as error:
            self.wrong.append(f"user {user}: {error!r}")
            self._ready.abort()

    def _step(self, api: Api, user: int, number: int, mine: list[str]) -> None:
        """Create a server, or delete the oldest of one's own."""
        if len(mine) < self.alive:
            name = f"{self._prefix}{user}-{number}"
            how, reply = self._ask(api, "create", name, "POST", "/servers", {"server": {**self.body, "name": name}})
            if how == "done" and reply is not None:
                server = reply.json()["server"]["id"]
                self.made[server] = name
                mine.append(server)
            return
        server = mine.pop(0)
        how, reply = self._ask(api, "delete", server, "DELETE", f"/servers/{server}")
        if how == "done":
            self.deleted.add(server)
        elif how == "broken":
            self.maybe_deleted.add(server)
        else:
            mine.append(server)

    def _ask(
        self, api: Api, what: str, server: str, method: str, path: str, body: Any = None
    ) -> tuple[str, httpx.Response | None]:
        began, reply = time.monotonic(), None
        try:
            reply = api.send(method, "compute", path, body)
            how, said = _outcome(reply)
        except httpx.TransportError as error:
            how, said = "broken", repr(error)
        if how == "wrong":
            self.wrong.append(f"{what} {server}: {said}")
        self.requests.append(Request(what, server, began, time.monotonic(), how, said))
        return how, reply

    # ------------------------------------------------------------------------------------- what came of it

    def recovery(self, fault: float) -> Recovery:
        """What users saw of a fault at a moment of `time.monotonic`. Fails when nothing was done after it."""
        hows = Counter(request.how for request in self.requests)
        after = [r.ended - fault for r in self.requests if r.how == "done" and r.began >= fault]
        assert after, f"nothing was done after the fault: {self.errors()}"
        errors = [r.ended - fault for r in self.requests if r.how != "done" and r.ended >= fault]
        ends = sorted(r.ended for r in self.requests if r.how == "done")
        gap = max((b - a for a, b in itertools.pairwise(ends) if b >= fault), default=0.0)
        return Recovery(hows["done"], hows["refused"], hows["broken"], min(after), max(errors, default=0.0), gap)

    def errors(self) -> str:
        """The kinds of errors that there were, with how often."""
        found = Counter(f"{r.how} {r.what}: {r.said[:200]}" for r in self.requests if r.how != "done")
        return "\n".join(f"{count} x {text}" for text, count in found.most_common())

    def check(self, api: Api, *, seconds: float = _MOST, fine: tuple[str, ...] = ("ACTIVE",)) -> dict[str, str]:
        """Wait until all that was begun has ended, and compare; the status of each server that is there."""
        until = time.monotonic() + seconds
        while True:
            listed = {
                s["id"]: s for s in api.ask("GET", "compute", f"/servers/detail?name=^{self._prefix}")["servers"]
            }
            busy = [s["id"] for s in listed.values() if s["OS-EXT-STS:task_state"] or s["status"] == "BUILD"]
            if not busy and not self.deleted & listed.keys():
                break
            assert time.monotonic() < until, f"stuck: {[(listed[s]['status'], s) for s in busy]}"
            time.sleep(0.2)
        lost = self.made.keys() - self.deleted - self.maybe_deleted - listed.keys()
        assert not lost, f"accepted, and not there: {lost}"
        perhaps = {r.server for r in self.requests if r.what == "create" and r.how == "broken"}
        extra = {s["name"] for s in listed.values() if s["id"] not in self.made} - perhaps
        assert not extra, f"there, though nobody was told that it was accepted: {extra}"
        bad = {s["id"]: (s["status"], s.get("fault")) for s in listed.values() if s["status"] not in fine}
        assert not bad, bad
        return {s["id"]: s["status"] for s in listed.values()}

    def clear(self, api: Api, seconds: float = _MOST) -> None:
        """Delete what there is, and wait until it is gone."""
        path, until = f"/servers?name=^{self._prefix}", time.monotonic() + seconds
        for server in api.ask("GET", "compute", path)["servers"]:
            api.send("DELETE", "compute", f"/servers/{server['id']}")
        while left := api.ask("GET", "compute", path)["servers"]:
            assert time.monotonic() < until, f"cannot be deleted: {left}"
            time.sleep(0.2)


def _outcome(reply: httpx.Response) -> tuple[str, str]:
    """What an answer says: done, refused, broken, or wrong where the cloud should not have said so."""
    said = f"{reply.status_code} {reply.text}"
    if reply.status_code < 400:
        return "done", said
    if reply.status_code not in (502, 503, 504):
        return "wrong", said
    return ("refused" if reply.status_code == 503 and _NOTHING in reply.text.lower() else "broken"), said
