"""The embedded bus: wakes whoever waits for a node's work, in this process."""

from __future__ import annotations

import asyncio


class Bus:
    """Topics are node names, and "" for the controllers. Carries no data: the rows are the truth."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def wake(self, topic: str) -> None:
        """Something is there for `topic`. Call on the event loop's thread."""
        for event in self._waiting.get(topic, ()):
            event.set()

    def subscribe(self, topic: str) -> Subscription:
        """A place to wait at; close it when done."""
        event = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(event)
        return Subscription(self, topic, event)

    def drop(self, topic: str, event: asyncio.Event) -> None:
        waiting = self._waiting.get(topic)
        if waiting:
            waiting.discard(event)
            if not waiting:
                del self._waiting[topic]


class Subscription:
    """One waiter."""

    def __init__(self, bus: Bus, topic: str, event: asyncio.Event) -> None:
        self._bus, self._topic, self._event = bus, topic, event

    async def wait(self, timeout: float | None) -> bool:
        """Until woken, or `timeout` seconds; whether woken. A wake between two waits is not lost."""
        if not self._event.is_set():
            try:
                await asyncio.wait_for(self._event.wait(), timeout)
            except TimeoutError:
                return False
        self._event.clear()
        return True

    def close(self) -> None:
        self._bus.drop(self._topic, self._event)
