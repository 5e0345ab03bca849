"""One request, as a handler sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pileus.auth.context import NOBODY, Context
from pileus.web.body import Source
from pileus.web.versions import Version

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Database, Tx
    from pileus.web.routes import Route, Service

WHOLE = "pileus.whole"
"""The ASGI extension of `web/protocol.py` that sends a whole response: call it with the status, the headers (with the
body's length) and the body. True: it is sent. False: it has to go as ASGI has it, as the caller is slow or gone, or a
header is not right."""
T = TypeVar("T")


class Reply:
    """A reply that is more than a body: another status, headers, or bytes of another type."""

    __slots__ = ("body", "headers", "media", "status")

    def __init__(
        self,
        body: Any = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        media: str = "application/json",
    ) -> None:
        self.body = body  # bytes go out as they are; anything else as JSON; None: no body
        self.status = status
        self.headers = dict(headers or {})
        self.media = media


class Stream(Reply):
    """A body sent in chunks. `length` is its size in bytes where it is known."""

    __slots__ = ("chunks", "length")

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        *,
        length: int | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        media: str = "application/octet-stream",
    ) -> None:
        super().__init__(status=status, headers=headers, media=media)
        self.chunks = chunks
        self.length = length


class SendFile(Reply):
    """A local file as the body, sent by the kernel from `start` for `length` bytes."""

    __slots__ = ("length", "path", "start")

    def __init__(
        self,
        path: str,
        *,
        start: int = 0,
        length: int,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        media: str = "application/octet-stream",
    ) -> None:
        super().__init__(status=status, headers=headers, media=media)
        self.path, self.start, self.length = path, start, length


class Call:
    """The request, its caller, and the transaction it runs in."""

    __slots__ = (
        "_tx", "base", "body", "chunks", "client", "cloud", "context", "headers", "method", "now", "params", "path",
        "query", "query_pairs", "request_id", "route", "service", "source", "version", "whole_path",
    )

    def __init__(self, cloud: Cloud, service: Service, method: str, path: str, request_id: str) -> None:
        self.cloud = cloud
        self.service = service
        self.method = method
        self.path = path  # after the service's prefix, still percent-encoded
        self.whole_path = path  # as the caller sent it, with the service's prefix where there was one
        self.request_id = request_id
        self.now = cloud.world.now()
        self.route: Route | None = None
        self.params: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.query: Any = None  # the route's query struct
        self.query_pairs: list[tuple[str, str]] = []  # as sent
        self.body: Any = None  # the route's body struct
        self.version: Version | None = None
        self.context: Context = NOBODY
        self.base = ""  # scheme and host as the caller wrote them
        self.client = ""  # the caller's address
        self.chunks: AsyncIterator[bytes] | None = None  # the body as it comes, for raw routes
        self.source: Source | None = None  # or the same body, for who has buffers of their own
        self._tx: Tx | None = None

    @property
    def tx(self) -> Tx:
        """The transaction of a plain handler."""
        if self._tx is None:
            raise RuntimeError("an async handler opens its own transaction: await call.db.run(...)")
        return self._tx

    @tx.setter
    def tx(self, value: Tx | None) -> None:
        self._tx = value

    @property
    def db(self) -> Database:
        return self.cloud.db

    def within(self, tx: Tx, work: Callable[[], T]) -> T:
        """What `work` returns, with this call in a transaction."""
        self._tx = tx
        try:
            return work()
        finally:
            self._tx = None

    async def run(self, work: Callable[[], T], *, write: bool = True) -> T:
        """The same in a transaction of its own, for async handlers. Raises what `work` and Database.run raise."""
        return await self.db.run(lambda tx: self.within(tx, work), write=write)

    @property
    def url(self) -> str:
        """The service's root as the caller reaches it, without a slash at the end."""
        return self.base + self.service.prefix

    def enforce(self, rule: str, **target: Any) -> None:
        """Raises Forbidden unless the caller passes the rule for the target's fields."""
        self.cloud.policy.enforce(self.context, rule, target)

    def allows(self, rule: str, **target: Any) -> bool:
        """Whether the caller passes the rule."""
        return self.cloud.policy.allows(self.context, rule, target)
