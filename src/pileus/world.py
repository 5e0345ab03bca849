"""The outside world that code may ask: the time, new ids, secrets. One object, which tests replace."""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import time
import uuid
from datetime import UTC, datetime


class World:
    """Time, randomness and ids come from here and from nowhere else, so that a test can set them."""

    def __init__(self) -> None:
        self._start = World.uuid(self)[:24]
        self._requests = itertools.count(1)

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back, for durations."""
        return time.monotonic()

    def uuid(self) -> str:
        """A new id with dashes, as compute, network, image and volume write them."""
        text = os.urandom(16).hex()
        # RFC 9562, version 4; a third of the time that `uuid.uuid4` takes, once for every request.
        variant = "89ab"[int(text[16], 16) & 3]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"

    def request_id(self) -> str:
        """`req-` and an id that no other request has: a random start of this process's own, and a count.

        A tenth of the time of a random id; who knows one learns no more than how many came before."""
        return f"req-{self._start}{next(self._requests):012x}"

    def hex_id(self) -> str:
        """A new id without dashes, as identity writes them."""
        return uuid.uuid4().hex

    def secret(self, size: int = 32) -> str:
        """A URL-safe secret made from `size` random bytes."""
        return secrets.token_urlsafe(size)


# Times are shown again and again: what is listed was made at the same moments as in the list before.
@functools.lru_cache(16384)
def iso_z(seconds: float) -> str:
    """`2026-01-31T12:00:00Z`: whole seconds, as compute, image and network print times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")[:19] + "Z"


@functools.lru_cache(4096)
def iso_micro(seconds: float, zone: str = "") -> str:
    """`2026-01-31T12:00:00.000000` with `zone` appended; identity wants "Z"."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + zone


def parse_iso(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
