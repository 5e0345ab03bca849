"""A service of a few routes, in process, without rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from pileus.auth.context import Context
from pileus.auth.policy import Policy
from pileus.cloud import Cloud
from pileus.db.engine import Tx
from pileus.web.app import App
from pileus.web.call import Call, Reply, SendFile, Stream
from pileus.web.errors import Conflict, Problem, Unauthorized
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route, Service
from pileus.web.schemas import Body, Query, since
from pileus.web.versions import Microversions
from tests.unit.kernel import bare_cloud


class Thing(Body):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=10)]
    size: Annotated[int, msgspec.Meta(ge=0)] = 0
    tag: Annotated[str | UnsetType, since(2, 5)] = UNSET


class ThingBody(Body):
    thing: Thing


class ThingQuery(Query):
    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    name: list[str] = []


def show(call: Call) -> Any:
    """Says what the kernel understood."""
    return {"params": call.params, "version": call.version, "user": call.context.user_id, "url": call.url}


def echo(call: Call) -> Any:
    """Gives the body back."""
    return call.body


def listing(call: Call) -> Any:
    """Gives the query back."""
    return call.query


def conflict(call: Call) -> Any:
    """A domain error."""
    raise Conflict("It is in use.", headers={"Retry-After": "1"})


def broken(call: Call) -> Any:
    """A mistake of ours."""
    raise KeyError("secret detail")


def twice(call: Call) -> Any:
    """Breaks a key."""
    call.tx.execute(sa.text("INSERT INTO named_lock (name) VALUES ('one'), ('one')"))


def too_big(call: Call) -> Any:
    """A number that no column takes."""
    call.tx.execute(sa.text("SELECT :n"), {"n": 2**70})


async def twice_async(call: Call) -> Any:
    """Breaks a key, in a transaction of its own."""
    await call.db.run(lambda tx: tx.execute(sa.text("INSERT INTO named_lock (name) VALUES ('one'), ('one')")))


async def upload(call: Call) -> Any:
    """Counts what comes."""
    assert call.chunks is not None
    return {"size": sum([len(chunk) async for chunk in call.chunks])}


async def stream(call: Call) -> Any:
    """A body in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two"):
            yield piece

    return Stream(pieces(), length=7)


def file(call: Call) -> Any:
    """Part of a file."""
    path = call.cloud.settings.state / "file"
    path.write_bytes(b"0123456789" * 300_000)
    return SendFile(str(path), start=1_000_005, length=1_500_000)


def moved(call: Call) -> Any:
    """A reply with a status and headers of its own."""
    return Reply(None, status=300, headers={"Location": f"{call.url}/elsewhere"})


def nothing(call: Call) -> Any:
    """No body at all."""


def faults(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    return {"fault": {"status": problem.status, "code": problem.code, "message": problem.message}}, {}


ROUTES = (
    Route("GET", "/", show, PUBLIC),
    Route("GET", "/things", listing, PUBLIC, query=ThingQuery),
    Route("POST", "/things", echo, PUBLIC, 201, body=ThingBody, max_body=4096),
    Route("GET", "/things/detail", show, PUBLIC),
    Route("GET", "/things/{id}", show, PUBLIC),
    Route("DELETE", "/things/{id}", nothing, AUTHENTICATED, 204),
    Route("PUT", "/things/{id}", show, "things:update"),
    Route("GET", "/things/{id}/parts/{part}", show, PUBLIC),
    Route("GET", "/objects/{name*}", show, PUBLIC),
    Route("GET", "/new", show, PUBLIC, since=(2, 5)),
    Route("GET", "/old", show, PUBLIC, until=(2, 4)),
    Route("GET", "/both", nothing, PUBLIC, 204, until=(2, 4)),
    Route("GET", "/both", show, PUBLIC, since=(2, 5)),
    Route("POST", "/conflict", conflict, PUBLIC),
    Route("GET", "/broken", broken, PUBLIC),
    Route("POST", "/twice", twice, PUBLIC),
    Route("POST", "/twice-async", twice_async, PUBLIC),
    Route("POST", "/too-big", too_big, PUBLIC),
    Route("PUT", "/upload", upload, PUBLIC, raw=True, media=("*/*",), max_body=1 << 21),
    Route("GET", "/stream", stream, PUBLIC),
    Route("GET", "/file", file, PUBLIC),
    Route("GET", "/moved", moved, PUBLIC),
)


class Web:
    """The application and a client of it."""

    def __init__(self, cloud: Cloud, app: App, loop: asyncio.AbstractEventLoop) -> None:
        self.cloud, self.app, self.loop = cloud, app, loop
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://cloud.test")

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.http.request(method, path, **options))

    def raw(
        self, method: str, path: bytes, headers: list[tuple[bytes, bytes]] | None = None,
        messages: list[dict[str, Any]] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """A request that no well-behaved client can be made to send: status, headers, body."""
        path, _, query = path.partition(b"?")
        scope = {
            "type": "http", "method": method, "path": "", "raw_path": path, "query_string": query,
            "headers": headers or [], "scheme": "http", "server": ("cloud.test", 80), "client": ("10.0.0.9", 1),
        }
        incoming = messages or [{"type": "http.request", "body": b"", "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self.loop.run_until_complete(self.app(scope, receive, send))
        head = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
        return sent[0]["status"], head, b"".join(m.get("body", b"") for m in sent[1:])


def _verify(tx: Tx, token: str, call: Call) -> Context:
    if token not in ("admin", "member"):
        raise Unauthorized("The token is not valid.")
    return Context(user_id=token, project_id="p1", roles=(token,))


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    cloud = bare_cloud(tmp_path_factory.mktemp("web"), max_body=2048)
    service = Service(
        name="shop", catalog_type="shop", catalog_path="", routes=ROUTES, faults=faults,
        rules={"things:update": "role:admin"}, microversions=Microversions("shop", (2, 1), (2, 9), "x-shop-version"),
    )
    cloud.policy = Policy(service.rules)
    cloud.verify_token = _verify
    loop = asyncio.new_event_loop()
    yield Web(cloud, App(cloud, [service], {}), loop)
    loop.close()
    cloud.close()
