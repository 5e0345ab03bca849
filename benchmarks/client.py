"""A small HTTP/1.1 client over asyncio with kept connections: little enough that the server is what is measured."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit


class Answer:
    """A reply: status, headers in lower case, body (empty when it was counted only)."""

    __slots__ = ("body", "headers", "size", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes, size: int) -> None:
        self.status, self.headers, self.body, self.size = status, headers, body, size

    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """Connections to one server; as many as are in use at once."""

    def __init__(self, base: str) -> None:
        parts = urlsplit(base)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(
        self, method: str, path: str, token: str | None = None, body: Any = None, *,
        headers: dict[str, str] | None = None, count_only: bool = False,
    ) -> Answer:
        """One request. `body` is JSON, or bytes as they are."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}", f"Content-Length: {len(data)}"]
        if data:
            lines.append(f"Content-Type: {kind}")
        if token:
            lines.append(f"X-Auth-Token: {token}")
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(
            self.host, self.port, limit=1 << 22
        )
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        view = memoryview(data)
        for at in range(0, len(view), 1 << 20):
            writer.write(view[at : at + (1 << 20)])
            await writer.drain()
        answer = await _read(reader, count_only)
        if answer.headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer

    async def ok(self, method: str, path: str, token: str | None = None, body: Any = None, **more: Any) -> Answer:
        """The same; raises RuntimeError unless the status is below 400."""
        answer = await self.ask(method, path, token, body, **more)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body[:300]!r}")
        return answer


async def _read(reader: asyncio.StreamReader, count_only: bool) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    if "content-length" not in headers and "chunked" in headers.get("transfer-encoding", ""):
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        body = b"".join(parts)
        return Answer(status, headers, body, len(body))
    length = int(headers.get("content-length", "0"))
    if not count_only:
        return Answer(status, headers, await reader.readexactly(length) if length else b"", length)
    left = length
    while left:
        left -= len(await reader.read(min(left, 1 << 20)))
    return Answer(status, headers, b"", length)


async def rate(work: Callable[[], Awaitable[object]], clients: int = 16, seconds: float = 4.0) -> float:
    """How often a second `work` is done by so many clients, each one after another."""
    for _ in range(20):
        await work()
    count = 0
    end = time.perf_counter() + seconds

    async def client() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await work()
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return count / (time.perf_counter() - began)


async def in_turns(
    *works: Callable[[], Awaitable[object]], rounds: int = 12, seconds: float = 0.5
) -> list[list[float]]:
    """The rates of several works, round by round: a machine that is slower for a while is so for all of them."""
    return [[await rate(work, seconds=seconds) for work in works] for _ in range(rounds)]


def of_first(rounds: list[list[float]], number: int) -> float:
    """The median of what the rate of a work was of the first one's, in the same round."""
    return statistics.median(round[number] / round[0] for round in rounds)


def rates(rounds: list[list[float]], number: int) -> str:
    """The medians of a work's rates, and of the first one's, which is bare."""
    columns = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return f"{columns[number]:,.0f}/s; bare {columns[0]:,.0f}/s"


async def drain(works: list[Callable[[], Awaitable[object]]], clients: int = 16) -> float:
    """How often a second, when so many clients do these once each."""
    todo = iter(works)
    began = time.perf_counter()

    async def client() -> None:
        for work in todo:
            await work()

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(works) / (time.perf_counter() - began)


async def median(work: Callable[[], Awaitable[object]], times: int = 15) -> float:
    """The median time of `work` in milliseconds, one after another, the first one not counted."""
    await work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)
