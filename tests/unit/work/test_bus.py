"""The bus only wakes, but loses no wake."""

from __future__ import annotations

import asyncio

from pileus.work.bus import Bus


def test_a_wake_reaches_those_who_wait_for_the_topic_alone() -> None:
    async def main() -> None:
        bus = Bus()
        one, two, other = bus.subscribe("node"), bus.subscribe("node"), bus.subscribe("other")
        bus.wake("node")
        assert await one.wait(0)
        assert await two.wait(0)
        assert not await other.wait(0)

    asyncio.run(main())


def test_a_wake_between_two_waits_is_not_lost_and_counts_once() -> None:
    async def main() -> None:
        bus = Bus()
        place = bus.subscribe("")
        bus.wake("")
        bus.wake("")
        assert await place.wait(0)
        assert not await place.wait(0)

    asyncio.run(main())


def test_a_wake_at_the_end_of_the_timeout_is_there_for_the_next_wait() -> None:
    async def main() -> None:
        bus = Bus()
        place = bus.subscribe("")
        for _ in range(200):
            asyncio.get_running_loop().call_later(0.001, bus.wake, "")
            assert await place.wait(0.001) or await place.wait(1)

    asyncio.run(main())


def test_a_closed_place_is_forgotten() -> None:
    async def main() -> None:
        bus = Bus()
        first, second = bus.subscribe("node"), bus.subscribe("node")
        first.close()
        first.close()
        bus.wake("node")
        assert await second.wait(0)
        second.close()
        bus.wake("node")
        assert not bus._waiting

    asyncio.run(main())
