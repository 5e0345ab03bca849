"""Lanes: order within each, back-pressure, the first error, and no thread left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pileus.image.lanes import Lanes


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


def _block(number: int) -> memoryview:
    return memoryview(number.to_bytes(4, "big"))


def _number(block: memoryview) -> int:
    return int.from_bytes(block, "big")


def test_each_lane_does_all_blocks_in_order(threads: ThreadPoolExecutor) -> None:
    done: tuple[list[int], list[int]] = ([], [])

    async def main() -> None:
        lanes = Lanes(threads, [lambda b: done[0].append(_number(b)), lambda b: done[1].append(_number(b))], 4)
        for number in range(200):
            await lanes.put(_block(number))
        await lanes.end()

    asyncio.run(main())
    assert done == (list(range(200)), list(range(200)))


def test_a_slow_lane_holds_the_others_back(threads: ThreadPoolExecutor) -> None:
    gate, quick = threading.Event(), [0]

    def count(_: memoryview) -> None:
        quick[0] += 1

    async def main() -> None:
        lanes = Lanes(threads, [lambda _: gate.wait(5), count], 4)
        for number in range(3):
            await lanes.put(_block(number))
        fourth = asyncio.create_task(lanes.put(_block(3)))
        await asyncio.sleep(0.05)
        assert not fourth.done()
        gate.set()
        await fourth
        await lanes.end()

    asyncio.run(main())
    assert quick == [4]


def test_an_error_ends_it_and_its_lane_does_no_more(threads: ThreadPoolExecutor) -> None:
    tried: list[int] = []

    def fail(block: memoryview) -> None:
        tried.append(_number(block))
        if _number(block) == 5:
            raise OSError("full")

    async def main() -> None:
        lanes = Lanes(threads, [fail, lambda _: None], 4)
        try:
            for number in range(100):
                await lanes.put(_block(number))
            await lanes.end()
        finally:
            await lanes.settle()

    with pytest.raises(OSError, match="full"):
        asyncio.run(main())
    assert tried == [0, 1, 2, 3, 4, 5]


def test_who_is_cancelled_twice_still_waits_for_the_threads(threads: ThreadPoolExecutor) -> None:
    gate, ended = threading.Event(), [0]

    def slow(_: memoryview) -> None:
        gate.wait(5)
        ended[0] += 1

    async def work() -> None:
        lanes = Lanes(threads, [slow], 2)
        try:
            await lanes.put(_block(0))
            await lanes.put(_block(1))
        finally:
            await lanes.settle()

    async def main() -> None:
        task = asyncio.create_task(work())
        for _ in range(2):
            await asyncio.sleep(0.02)
            task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == [2]


def test_a_busy_lane_lets_others_have_its_thread() -> None:
    order: list[str] = []

    async def main() -> None:
        with ThreadPoolExecutor(1) as one:
            lanes = Lanes(one, [lambda _: order.append("block")], 64)
            gate = threading.Event()
            one.submit(gate.wait, 5)
            for number in range(40):
                await lanes.put(_block(number))
            one.submit(order.append, "other")
            gate.set()
            await lanes.end()

    asyncio.run(main())
    assert order.index("other") < 20
