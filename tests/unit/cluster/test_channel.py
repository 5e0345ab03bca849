"""Calls both ways over one connection: none is lost, none waits for ever, and a dead end is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pileus.cluster import channel, frames
from pileus.cluster.channel import Channel
from pileus.cluster.frames import Broken, Call, Data, Push, Reply
from pileus.cluster.streams import Streams
from pileus.node.contract import GuestGone, NodeFault
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound, OverQuota, Unavailable

Answer = Callable[[str, bytes], Awaitable[bytes]]


async def _echo(method: str, body: bytes) -> bytes:
    return method.encode() + b":" + body


async def _streams() -> tuple[Streams, Streams]:
    here, there = socket.socketpair()
    return await asyncio.open_connection(sock=here), await asyncio.open_connection(sock=there)



class Wire:
    """Two ends, both running."""

    def __init__(self, ends: list[Channel], told: list[tuple[str, bytes]], running: list[asyncio.Task[None]]) -> None:
        self.ends, self.told, self.running = ends, told, running


@contextlib.asynccontextmanager
async def _wire(answer: Answer = _echo, other: Answer = _echo) -> AsyncIterator[Wire]:
    one, two = await _streams()
    told: list[tuple[str, bytes]] = []
    ends = [
        Channel(*one, answer, lambda topic, body: told.append((topic, body))),
        Channel(*two, other, lambda topic, body: told.append((topic, body))),
    ]
    running = [asyncio.create_task(end.run()) for end in ends]
    await asyncio.sleep(0)
    try:
        yield Wire(ends, told, running)
    finally:
        for end in ends:
            end.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*running)


def test_both_sides_ask_and_answer() -> None:
    async def run() -> None:
        async with _wire() as wire:
            answers = await asyncio.gather(wire.ends[0].call("a", b"1"), wire.ends[1].call("b", b"2"))
            assert answers == [b"a:1", b"b:2"]

    asyncio.run(run())


def test_many_calls_at_once_get_each_its_own_answer_in_whatever_order() -> None:
    async def slow(method: str, body: bytes) -> bytes:
        await asyncio.sleep(0.01 if body[0] % 2 else 0.0)
        return body

    async def run() -> None:
        async with _wire(other=slow) as wire:
            asked = [number.to_bytes(2, "little") for number in range(1000)]
            assert await asyncio.gather(*(wire.ends[0].call("m", body) for body in asked)) == asked

    asyncio.run(run())


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (NodeFault("no disk"), NodeFault), (GuestGone("s1"), GuestGone), (Conflict("c"), Conflict),
        (Unavailable("u"), Unavailable), (Forbidden("f"), Forbidden), (OverQuota("q"), Forbidden),
        (NotFound("n"), NotFound), (BadRequest("b"), BadRequest), (ConnectionError("the database"), Unavailable),
    ],
)
def test_an_error_is_raised_on_the_other_side(raised: Exception, kind: type[Exception]) -> None:
    async def fail(method: str, body: bytes) -> bytes:
        raise raised

    async def run() -> None:
        async with _wire(other=fail) as wire:
            with pytest.raises(kind):
                await wire.ends[0].call("m")
            with pytest.raises(kind):  # and the connection goes on
                await wire.ends[0].call("m")

    asyncio.run(run())


def test_the_inside_of_an_error_that_nobody_foresaw_stays_inside() -> None:
    async def fail(method: str, body: bytes) -> bytes:
        raise RuntimeError("password=hunter2")

    async def run() -> None:
        async with _wire(other=fail) as wire:
            with pytest.raises(NodeFault) as caught:
                await wire.ends[0].call("m")
            assert "hunter2" not in str(caught.value)
            assert "RuntimeError" in str(caught.value)

    asyncio.run(run())


def test_a_call_that_waits_when_the_connection_ends_fails() -> None:
    async def never(method: str, body: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    async def run() -> None:
        async with _wire(other=never) as wire:
            waiting = asyncio.create_task(wire.ends[0].call("m"))
            await asyncio.sleep(0.01)
            wire.ends[1].close()
            with pytest.raises(Broken):
                await asyncio.wait_for(waiting, 2)
            await asyncio.wait_for(asyncio.gather(*wire.running), 2)
            with pytest.raises(Broken):
                await wire.ends[0].call("m")

    asyncio.run(run())


def test_what_was_sent_before_an_end_at_once_is_not_done_any_more() -> None:
    done: list[str] = []

    async def remember(method: str, body: bytes) -> bytes:
        done.append(method)
        return b""

    async def run() -> None:
        (reader, writer), (_, far) = await _streams()
        line = Channel(reader, writer, remember, lambda topic, body: done.append(topic))
        running = asyncio.create_task(line.run())
        await asyncio.sleep(0)
        for number in range(50):
            far.write(frames.encode(Call(number, "finish")) + frames.encode(Push("guest")))
        line.close()
        await asyncio.wait_for(running, 2)
        await asyncio.sleep(0.01)
        far.close()
        assert done == []

    asyncio.run(run())


def test_an_answer_that_nobody_waits_for_is_let_be() -> None:
    async def run() -> None:
        (reader, writer), (far_reader, far) = await _streams()
        line = Channel(reader, writer, _echo, lambda topic, body: None)
        running = asyncio.create_task(line.run())
        far.write(frames.encode(Reply(99, b"x")) + frames.encode(Call(1, "m", b"y")))
        assert await frames.read(far_reader) == Reply(1, b"m:y")
        line.close()
        await running
        far.close()

    asyncio.run(run())


@pytest.mark.parametrize("garbage", [frames.encode(Data(b"x")), b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1"])
def test_what_has_no_place_on_a_channel_ends_it(garbage: bytes) -> None:
    async def run() -> None:
        (reader, writer), (far_reader, far) = await _streams()
        line = Channel(reader, writer, _echo, lambda topic, body: None)
        far.write(garbage)
        await asyncio.wait_for(line.run(), 2)
        assert line.closed
        assert await far_reader.read() == b""
        far.close()

    asyncio.run(run())


def test_what_is_told_and_cannot_be_taken_does_not_end_the_connection() -> None:
    def confused(topic: str, body: bytes) -> None:
        raise ValueError("what is this?")

    async def run() -> None:
        one, two = await _streams()
        line = Channel(*one, _echo, confused)
        other = Channel(*two, _echo, lambda topic, body: None)
        running = [asyncio.create_task(each.run()) for each in (line, other)]
        other.push("task", b"of a later release")
        assert await other.call("m") == b"m:"
        line.close()
        await asyncio.gather(*running)

    asyncio.run(run())


def test_a_silent_connection_is_ended_and_one_that_lives_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ALIVE", 0.02)
    monkeypatch.setattr(channel, "SILENT", 0.1)

    async def run() -> None:
        async with _wire() as wire:
            (reader, writer), (_, far) = await _streams()
            silent = Channel(reader, writer, _echo, lambda topic, body: None)
            waiting = asyncio.create_task(silent.call("m"))
            await asyncio.wait_for(silent.run(), 2)
            with pytest.raises(Broken):
                await waiting
            far.close()
            assert not any(end.closed for end in wire.ends)
            assert wire.told == []

    asyncio.run(run())


def test_a_process_that_stood_still_reads_what_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "ALIVE", 0.02)
    monkeypatch.setattr(channel, "SILENT", 0.1)

    async def run() -> None:
        async with _wire() as wire:
            import time

            await asyncio.sleep(0.03)
            time.sleep(0.3)  # noqa: ASYNC251 - the whole process stands
            await asyncio.sleep(0.05)
            assert not any(end.closed for end in wire.ends)

    asyncio.run(run())


def test_it_is_found_out_at_once_whether_the_other_side_answers() -> None:
    async def run() -> None:
        async with _wire() as wire:
            assert await wire.ends[0].answers(1.0)
            (reader, writer), (_, far) = await _streams()
            alone = Channel(reader, writer, _echo, lambda topic, body: None)
            assert not await alone.answers(0.05)
            alone.close()
            assert not await alone.answers(0.05)
            far.close()

    asyncio.run(run())


def test_who_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MOST_BEHIND", 1 << 20)

    async def run() -> None:
        (reader, writer), (_, far) = await _streams()
        line = Channel(reader, writer, _echo, lambda topic, body: None)
        for _ in range(100):
            line.push("network", bytes(1 << 17))
            if line.closed:
                break
        assert line.closed
        far.close()

    asyncio.run(run())


def test_who_asks_and_never_reads_the_answers_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "AT_ONCE", 4)
    begun = 0

    async def large(method: str, body: bytes) -> bytes:
        nonlocal begun
        begun += 1
        return bytes(1 << 20)

    async def run() -> None:
        (reader, writer), (_, far) = await _streams()
        line = Channel(reader, writer, large, lambda topic, body: None)
        running = asyncio.create_task(line.run())
        for number in range(1000):
            far.write(frames.encode(Call(number, "console_log")))
        await asyncio.sleep(0.2)
        assert begun <= 8
        far.close()
        line.close()
        await asyncio.wait_for(running, 2)

    asyncio.run(run())


def test_an_answer_that_is_too_large_is_an_error_and_not_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LARGEST", 1 << 16)

    async def large(method: str, body: bytes) -> bytes:
        return bytes(1 << 16) if method == "large" else b"small"

    async def run() -> None:
        async with _wire(other=large) as wire:
            with pytest.raises(NodeFault):
                await wire.ends[0].call("large")
            assert await wire.ends[0].call("small") == b"small"

    asyncio.run(run())


def test_a_node_whose_controller_was_cut_off_is_heard_by_another_before_it_counts_as_down() -> None:
    """The worst case: cut just before a heartbeat and just after a word of the controller, written a turn later."""
    from pileus.cluster import heartbeats
    from pileus.node import agent
    from pileus.node.contract import DEAD_AFTER

    last_written = agent._HEARTBEAT + heartbeats.EVERY
    assert last_written + channel.SILENT + heartbeats.EVERY + 3.0 < DEAD_AFTER
