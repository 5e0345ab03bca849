"""Sources of bytes: buffers are full until the end, whatever the pieces are in which the bytes come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pileus.web.body import Body, Chunks, Source
from pileus.web.errors import BadRequest, TooLarge


async def _all(source: Source, size: int) -> list[bytes]:
    found, buffer = [], memoryview(bytearray(size))
    while got := await source.read_into(buffer):
        found.append(bytes(buffer[:got]))
    return found


def _body(messages: list[dict[str, Any]], straight: Any = None, length: str = "", most: int = 1000) -> Body:
    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return Body(receive, straight, length, most)


def _message(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


class Line:
    """A connection that has some bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[int | None] = []
        self.lost = False

    def straight(self, left: int | None) -> Source:
        self.asked.append(left)
        return self

    async def read_into(self, buffer: memoryview) -> int:
        if self.lost:
            raise ConnectionResetError
        size = min(len(buffer), len(self.content))
        buffer[:size] = self.content[:size]
        self.content = self.content[size:]
        return size


@pytest.mark.parametrize("sizes", [[], [0], [1], [7], [3, 4], [0, 14, 0, 1], [100], [1] * 20])
def test_pieces_of_any_size(sizes: list[int]) -> None:
    pieces = [os.urandom(size) for size in sizes]

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    found = asyncio.run(_all(Chunks(chunks()), 7))
    assert b"".join(found) == b"".join(pieces)
    assert all(len(each) == 7 for each in found[:-1])
    messages = [_message(piece, True) for piece in pieces] + [_message(b"", False)]
    assert asyncio.run(_all(_body(messages), 7)) == found


def test_what_receive_has_not_given_comes_straight() -> None:
    line = Line(b"4567890")
    body = _body([_message(b"123", True)], line.straight, "10")
    assert asyncio.run(_all(body, 4)) == [b"1234", b"5678", b"90"]
    assert line.asked == [7]


def test_so_does_what_has_no_length() -> None:
    line = Line(b"45678")
    assert asyncio.run(_all(_body([_message(b"123", True)], line.straight), 4)) == [b"1234", b"5678"]
    assert line.asked == [None]


def test_a_body_that_has_come_whole_is_not_asked_for_more() -> None:
    line = Line(b"no")
    assert asyncio.run(_all(_body([_message(b"1", False)], line.straight, "1"), 4)) == [b"1"]
    assert line.asked == []


def test_a_connection_that_ends_early() -> None:
    with pytest.raises(BadRequest, match="before the whole body"):
        asyncio.run(_all(_body([_message(b"1", True), {"type": "http.disconnect"}]), 4))
    line = Line(b"23456")
    line.lost = True
    with pytest.raises(BadRequest, match="before the whole body"):
        asyncio.run(_all(_body([_message(b"1", True)], line.straight, "10"), 4))


def test_a_body_that_is_too_large() -> None:
    with pytest.raises(TooLarge):
        asyncio.run(_all(_body([_message(b"123", True), _message(b"456", False)], most=5), 4))
    with pytest.raises(TooLarge):
        asyncio.run(_all(_body([_message(b"123", True)], Line(b"4567").straight, "7", most=6), 4))
