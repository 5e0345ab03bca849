"""Bodies over real sockets: whole, in pieces, cut off, refused, followed by other requests, with and without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from uvicorn.server import ServerState

from pileus.web import files
from pileus.web.body import STRAIGHT, Body
from pileus.web.call import WHOLE
from pileus.web.errors import Problem
from pileus.web.protocol import Protocol

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNKED = b"PUT / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
Test = Callable[["Server"], Coroutine[Any, Any, None]]


class Server:
    """Answers each request with the size and digest of its body; a few paths do something else."""

    def __init__(self) -> None:
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self.problems: asyncio.Queue[str] = asyncio.Queue()
        self.read = 0  # bytes of the body that is read
        self.slow = asyncio.Event()
        self.file = Path()
        self.whole: list[bool] = []  # which replies went in one go
        self.sent: asyncio.Queue[Exception | None] = asyncio.Queue()  # how files went

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if "reply" in headers:
            return await self.answer(headers["reply"], scope, send)
        if scope["method"] == "GET":
            return await self.send_file(headers, scope, send)
        body = Body(receive, scope["extensions"][STRAIGHT], headers.get("content-length", ""), 1 << 40)
        status, text = 200, b""
        try:
            text = await self.digest(scope["path"], body)
        except Problem as problem:
            self.problems.put_nowait(problem.message)
            status = problem.status
        head = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": text})

    async def answer(self, how: str, scope: Any, send: Any) -> None:
        """As many bytes as the path says, in one go or as ASGI has it."""
        text = b"x" * int(scope["path"][1:])
        head = [(b"content-length", str(len(text)).encode()), (b"x-kind", b"a\r\nx-more: b" if how == "bad" else b"a")]
        if scope["method"] == "HEAD":
            text = b""
        self.whole.append(how != "asgi" and scope["extensions"][WHOLE](200, head, text))
        if not self.whole[-1]:
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": text})

    async def send_file(self, headers: dict[str, str], scope: Any, send: Any) -> None:
        """Answer with as much of the file as the request says."""
        at, length = (int(word) for word in headers["part"].split())
        kernel = scope["extensions"].get(files.FILE)
        assert (kernel is None) == (self.tls is not None)
        with open(self.file, "rb") as file:  # noqa: ASYNC230
            try:
                head = [(b"content-length", str(length).encode())]
                await send({"type": "http.response.start", "status": 200, "headers": head})
                await files.send_body(send, kernel, file.fileno(), at, length)
            except Exception as error:
                self.sent.put_nowait(error)
                raise
            self.sent.put_nowait(None)

    async def digest(self, path: str, body: Body) -> bytes:
        """Reads the body as the path has it."""
        state, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(100_000))
        while got := await body.read_into(buffer):
            state.update(buffer[:got])
            self.read = size = size + got
            if path == "/early":
                return b"enough"
            if path == "/slow":
                await self.slow.wait()
        return f"{size} {state.hexdigest()}".encode()

    async def connect(self) -> Connection:
        """A connection to it."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls)


@contextlib.asynccontextmanager
async def serving(tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> AsyncIterator[Server]:
    """The server on a port of its own; `tls` are the server's context and the client's."""
    server, state = Server(), ServerState()
    config = uvicorn.Config(
        server.app, interface="asgi3", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    made = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config, state, {}), "127.0.0.1", 0, ssl=tls[0] if tls else None
    )
    server.port = made.sockets[0].getsockname()[1]
    server.tls = tls[1] if tls else None
    try:
        yield server
    finally:
        made.close()


@pytest.fixture(params=["uvloop", "asyncio", "uvloop with TLS"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Test], None]:
    """Runs a test with a server."""

    def run(test: Test) -> None:
        tls = contexts(tmp_path) if "TLS" in request.param else None

        async def main() -> None:
            async with serving(tls) as server:
                await asyncio.wait_for(test(server), 20)

        factory = uvloop.new_event_loop if "uvloop" in request.param else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for the server and for its client, with a certificate that is good for this test."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    both = folder / "both.pem"
    both.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(both)
    client = ssl.create_default_context(cafile=str(both))
    client.check_hostname = False
    return server, client


def head(length: int, path: str = "/", *more: str) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "Host: test", f"Content-Length: {length}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def told(content: bytes) -> bytes:
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}".encode()


async def reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
    return int(lines[0].split()[1]), await reader.readexactly(length)


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_000, 100_001, 3_456_789])
def test_one_after_another_on_a_connection(run: Callable[[Test], None], size: int) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        for _ in range(3):
            content = os.urandom(size)
            writer.write(head(size))
            await writer.drain()
            writer.write(content)
            assert await reply(reader) == (200, told(content))
        writer.write(head(2) + b"ok")  # little as it is, the server wakes up for it
        assert await reply(reader) == (200, told(b"ok"))
        writer.close()

    run(test)


def test_all_at_once_on_a_connection(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        contents = [os.urandom(size) for size in (700_000, 10, 300_000, 0, 1_000_001)]
        for content in contents:
            writer.write(head(len(content)) + content)
        for content in contents:
            assert await reply(reader) == (200, told(content))
        writer.close()

    run(test)


def test_chunks(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        for sizes in ([1, 65536, 3, 400_000], [65536] * 40, [], [5], [250_000] * 8):
            pieces = [os.urandom(size) for size in sizes]
            writer.write(CHUNKED)
            for piece in pieces:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
            assert await reply(reader) == (200, told(b"".join(pieces)))
        writer.close()

    run(test)


def test_bytes_that_come_one_by_one(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        for byte in head(5) + b"12345":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.001)
        assert await reply(reader) == (200, told(b"12345"))
        writer.close()

    run(test)


def test_a_caller_that_waits_to_be_asked(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        content = os.urandom(500_000)
        writer.write(head(len(content), "/", "Expect: 100-continue"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(content)
        assert await reply(reader) == (200, told(content))
        writer.close()

    run(test)


def test_a_reply_before_the_body_has_come(run: Callable[[Test], None]) -> None:
    """The rest of the body is thrown away, and the connection is good for more."""

    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(head(2_000_000, "/early") + bytes(150_000))
        assert await reply(reader) == (200, b"enough")
        writer.write(bytes(1_850_000) + head(4) + b"more")
        assert await reply(reader) == (200, told(b"more"))
        writer.close()

    run(test)


@pytest.mark.parametrize("come", [0, 10, 150_000, 999_999])
@pytest.mark.parametrize("form", ["closed", "reset"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_cut_off(run: Callable[[Test], None], come: int, form: str, chunked: bool) -> None:
    async def test(server: Server) -> None:
        _, writer = await server.connect()
        writer.write((CHUNKED + b"f4240\r\n" if chunked else head(1_000_000)) + bytes(come))
        await writer.drain()
        await asyncio.sleep(0.05)
        if form == "closed":
            writer.close()
        else:
            writer.transport.abort()
        assert "before the whole body" in await server.problems.get()
        assert await healthy(server)

    run(test)


def test_who_sends_faster_than_is_read_waits(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        size = 64 << 20
        sending = asyncio.create_task(_send(writer, head(size, "/slow"), size))
        await asyncio.sleep(0.3)
        assert server.read == 100_000
        assert not sending.done()
        server.slow.set()
        status, text = await reply(reader)
        assert (status, text.split()[0]) == (200, str(size).encode())
        await sending
        writer.close()

    run(test)


def test_chunks_that_are_none(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(CHUNKED + b"186a0\r\n" + bytes(100_000) + b"\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"nonsense\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert await healthy(server)

    run(test)


async def _send(writer: asyncio.StreamWriter, first: bytes, size: int) -> None:
    writer.write(first)
    for _ in range(size >> 20):
        writer.write(bytes(1 << 20))
        await writer.drain()


async def healthy(server: Server) -> bool:
    reader, writer = await server.connect()
    writer.write(head(2) + b"ok")
    answer = await reply(reader)
    writer.close()
    return answer == (200, told(b"ok"))



def asked(at: int, length: int) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: test\r\nPart: {at} {length}\r\n\r\n".encode()


@pytest.mark.parametrize("length", [0, 1, 30_000, 9_000_000])
def test_files_one_after_another_on_a_connection(run: Callable[[Test], None], tmp_path: Path, length: int) -> None:
    content = os.urandom(length + 777)

    async def test(server: Server) -> None:
        server.file = tmp_path / "file"
        server.file.write_bytes(content)
        reader, writer = await server.connect()
        writer.write(asked(700, length) * 2)  # the second waits until the first is answered
        for _ in range(2):
            assert await reply(reader) == (200, content[700 : 700 + length])
        writer.write(head(3) + b"abc" + asked(0, length))
        assert await reply(reader) == (200, told(b"abc"))
        assert await reply(reader) == (200, content[:length])
        for _ in range(3):
            assert await server.sent.get() is None
        writer.close()

    run(test)


def test_a_file_waits_for_a_slow_caller(run: Callable[[Test], None], tmp_path: Path) -> None:
    content = os.urandom(20_000_000)

    async def test(server: Server) -> None:
        server.file = tmp_path / "file"
        server.file.write_bytes(content)
        reader, writer = await server.connect()
        writer.write(asked(0, len(content)))
        await asyncio.sleep(0.3)
        assert server.sent.empty()
        assert await reply(reader) == (200, content)
        writer.close()

    run(test)


def test_the_caller_of_a_file_goes_away(run: Callable[[Test], None], tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        server.file = tmp_path / "file"
        server.file.write_bytes(bytes(20_000_000))
        reader, writer = await server.connect()
        writer.write(asked(0, 20_000_000))
        await reader.readexactly(100_000)
        writer.transport.abort()
        assert await server.sent.get() is None
        reader, writer = await server.connect()
        writer.write(asked(3, 4))
        assert await reply(reader) == (200, bytes(4))
        writer.close()

    run(test)


def test_a_file_that_is_too_short_ends_the_connection(run: Callable[[Test], None], tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        server.file = tmp_path / "file"
        server.file.write_bytes(bytes(500_000))
        reader, writer = await server.connect()
        writer.write(asked(0, 500_001))
        with pytest.raises(asyncio.IncompleteReadError):
            await reply(reader)
        assert isinstance(await server.sent.get(), OSError)
        writer.close()

    run(test)


# -- replies in one go


def wanted(method: str, size: int, how: str, *more: str) -> bytes:
    return "\r\n".join([f"{method} /{size} HTTP/1.1", "Host: test", f"Reply: {how}", *more, "", ""]).encode()


async def whole(reader: asyncio.StreamReader, length: int) -> tuple[list[bytes], bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    return [line for line in lines if not line.lower().startswith(b"date:")], await reader.readexactly(length)


@pytest.mark.parametrize("size", [0, 5, 200_000])
def test_a_reply_in_one_go_is_as_asgis(run: Callable[[Test], None], size: int) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        for method, length in (("GET", size), ("HEAD", 0), ("GET", size)):
            found = []
            for how in ("asgi", "whole"):
                writer.write(wanted(method, size, how))
                found.append(await whole(reader, length))
            assert found[0] == found[1]
        assert server.whole == [False, True] * 3
        writer.close()
        ends = []
        for how in ("asgi", "whole"):
            reader, writer = await server.connect()
            writer.write(wanted("GET", size, how, "Connection: close"))
            ends.append((await whole(reader, size), await reader.read()))
            writer.close()
        assert ends[0] == ends[1]
        assert b"connection: close" in ends[1][0][0]

    run(test)


def test_requests_at_once_are_answered_in_order_in_one_go(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(b"".join(wanted("GET", size, "whole") for size in range(1, 30)))
        for size in range(1, 30):
            assert await reply(reader) == (200, b"x" * size)
        assert server.whole == [True] * 29
        writer.close()

    run(test)


def test_a_header_that_breaks_lines_is_not_sent(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(wanted("GET", 5, "bad"))
        assert await reader.read() == b""
        assert server.whole == [False]
        writer.close()

    run(test)


def test_a_slow_caller_of_replies_in_one_go_is_waited_for(run: Callable[[Test], None]) -> None:
    async def test(server: Server) -> None:
        reader, writer = await server.connect()
        count, size = 60, 500_000
        writer.write(b"".join(wanted("GET", size, "whole") for _ in range(count)))
        while not server.whole or server.whole[-1]:  # until one has to wait
            assert len(server.whole) < count
            await asyncio.sleep(0.01)
        for _ in range(count):
            assert await reply(reader) == (200, b"x" * size)
        writer.close()

    run(test)
