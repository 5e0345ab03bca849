"""Threads whose caller is cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pileus.threads import to_its_end


def test_who_is_cancelled_waits_for_the_thread() -> None:
    began, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        may_end.wait(10)
        ended.set()

    async def main() -> None:
        work = asyncio.create_task(to_its_end(write))
        await asyncio.to_thread(began.wait, 10)
        work.cancel()
        await asyncio.sleep(0.01)
        assert not work.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert ended.is_set()

    asyncio.run(main())
