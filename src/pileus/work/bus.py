"""The bus: wakes whoever waits for a node's work, in this process and, by a carrier, on the other controllers."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol


class Carrier(Protocol):
    """Takes wakes and questions to the other controllers of the cloud: over their own links, or through RabbitMQ.

    It may lose any of them: every row is found by a look at the database once a second too."""

    def publish(self, topic: str) -> None:
        """Wake `topic` on every other controller. Never blocks and never raises."""
        ...

    async def ask(self, controller: str, node: str, question: str, arguments: dict[str, Any]) -> Any:
        """Have the controller to which the node is connected ask it. Raises what `Cloud.ask` raises."""
        ...

    async def run(self) -> None:
        """Carry, until cancelled."""
        ...


class Bus:
    """Topics are node names, and "" for the controllers. Carries no data: the rows are the truth."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.carrier: Carrier | None = None

    def wake(self, topic: str) -> None:
        """Something is there for `topic`. Call on the event loop's thread."""
        self.wake_here(topic)
        if self.carrier is not None:
            self.carrier.publish(topic)

    def wake_here(self, topic: str) -> None:
        """The same, for this process alone."""
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
                async with asyncio.timeout(timeout):  # not wait_for: a wake at that moment would undo a cancellation
                    await self._event.wait()
            except TimeoutError:
                return False
        self._event.clear()
        return True

    def close(self) -> None:
        self._bus.drop(self._topic, self._event)
