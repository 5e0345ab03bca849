"""How the store gathers what comes."""

from __future__ import annotations

import asyncio

import pytest

from pileus.image import store


class Slow:
    """A source of so many bytes, at so many a second of a clock of its own."""

    def __init__(self, size: int, rate: float) -> None:
        self.left, self.rate, self.time = size, rate, 0.0

    async def read_into(self, buffer: memoryview) -> int:
        size = min(self.left, len(buffer))
        self.left -= size
        self.time += size / self.rate
        return size


async def _gather(source: Slow) -> tuple[list[int], float]:
    sizes, longest, before = [], 0.0, 0.0
    async for block in store.blocks(source, lambda: source.time):
        sizes.append(len(block))
        longest, before = max(longest, source.time - before), source.time
    return sizes, longest


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 5 << 20, (64 << 20) + 12345])
def test_all_of_it_comes(size: int) -> None:
    sizes, _ = asyncio.run(_gather(Slow(size, 1e9)))
    assert sum(sizes) == size
    assert all(0 < each <= 2 << 20 for each in sizes)
    assert all(each % 4096 == 0 for each in sizes[:-1])  # O_DIRECT
    assert sizes[6:-1] == [2 << 20] * len(sizes[6:-1])  # soon in large pieces


@pytest.mark.parametrize("rate", [2_000, 20_000, 200_000])
def test_who_waits_for_a_slow_source_is_called_often(rate: int) -> None:
    _, longest = asyncio.run(_gather(Slow(rate * 600, rate)))
    assert longest < 45  # half of a transfer's lease
