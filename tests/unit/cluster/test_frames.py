"""Frames: what is none ends the connection, and nothing else."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from pileus.cluster import frames
from pileus.cluster.frames import Broken, Call, Data, Failure, Frame, Hello, Push, Reply

ALL: list[Frame] = [
    Hello("join", {"name": "n1", "roles": ["compute"], "deep": {"a": [1, None, b"x"]}}), Call(1, "finish", b"{}"),
    Reply(1, b"\x00\xff"), Failure(0, "forbidden", "not for nodes"), Push("task", b"x"), Data(b"bytes"), Data(),
]


def _read(data: bytes, largest: int = frames.LARGEST, *, end: bool = True, patience: float = 10.0) -> Frame:
    async def read() -> Frame:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        if end:
            reader.feed_eof()
        return await asyncio.wait_for(frames.read(reader, largest), patience)

    return asyncio.run(read())


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("frame", ALL)
def test_a_frame_arrives_as_it_was_sent(frame: Frame) -> None:
    assert _read(frames.encode(frame)) == frame


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, -1])
def test_a_frame_that_was_cut_off_is_the_end(cut: int) -> None:
    with pytest.raises(Broken, match="has ended"):
        _read(frames.encode(ALL[0])[:cut])


def test_a_frame_that_does_not_come_to_its_end_is_waited_for() -> None:
    with pytest.raises(TimeoutError):
        _read(frames.encode(ALL[0])[:-1], end=False, patience=0.05)


def test_a_frame_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(Broken, match="a frame of 4294967295 bytes was announced; 65536 is the most"):
        _read(b"\xff\xff\xff\xff", frames.LARGEST_HELLO, end=False)
    assert _read(frames.encode(Data(bytes(60_000))), frames.LARGEST_HELLO) == Data(bytes(60_000))


def test_a_frame_that_the_other_side_would_not_take_is_not_sent() -> None:
    with pytest.raises(ValueError, match="too many for one frame"):
        frames.encode(Data(bytes(frames.LARGEST + 1)))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xc0", b"\x93\x01\x02\x03", msgspec.msgpack.encode({"type": "nonsense"}),
        msgspec.msgpack.encode({"type": "hello"}), msgspec.msgpack.encode({"type": "call", "id": "one", "method": "m"}),
        msgspec.msgpack.encode({"type": "hello", "purpose": 5}), b"\x82\xa4type\xa5hello\xa7purpose\xa1\xff",
        b"\x83\xa4type\xa5hello\xa7purpose\xa1x\xa9arguments\x81\xa1a" + b"\x91" * 50_000 + b"\xc0",
        b"\x83\xa4type\xa5hello\xa7purpose\xa1x\xa9arguments\x81\xa1a\xdd\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    with pytest.raises(Broken, match="no frame of this protocol"):
        _read(_framed(body))


def test_whatever_is_sent_there_is_a_frame_or_an_end() -> None:
    chance = random.Random(3)
    originals = [frames.encode(frame)[4:] for frame in ALL]

    async def read_all() -> None:
        for _ in range(3000):
            body = bytearray(chance.choice(originals))
            for _ in range(chance.randint(1, 4)):
                body[chance.randrange(len(body))] = chance.randrange(256)
            reader = asyncio.StreamReader()
            reader.feed_data(_framed(bytes(body)))
            reader.feed_eof()
            try:
                await frames.read(reader)
            except Broken:
                continue

    asyncio.run(read_all())
