"""HAProxy's configuration: the real HAProxy takes it, and sends requests where they belong."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pileus.cluster.balancer import Controller, Front, render
from tests.ports import free_port

_PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin")


class Fake(ThreadingHTTPServer):
    """A controller's port: says its name, and is as well as a test wants."""

    def __init__(self, name: str) -> None:
        self.name, self.well, self.takes = name, True, 0.0
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Fake

    def do_GET(self) -> None:
        health = self.path == "/healthz/ready"
        if not health:
            self.server.asked.append(self.path)
            time.sleep(self.server.takes)
        self.send_response(200 if self.server.well else 404 if health else 503)
        body = f"{self.server.name} {self.headers.get('X-Forwarded-For')}".encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # HAProxy ends its checks so
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _controllers(*fakes: Fake, services: tuple[tuple[str, ...], ...] = ()) -> list[Controller]:
    every = services or ((),) * len(fakes)
    return [
        Controller(name=fake.name, api=fake.address, cluster=fake.address, services=names)
        for fake, names in zip(fakes, every, strict=True)
    ]


@contextmanager
def _balanced(folder: Path, controllers: list[Controller]) -> Iterator[Front]:
    """A running HAProxy."""
    assert _PROGRAM, "HAProxy is missing: install it with `scripts/install-system test`"
    front = Front(bind="127.0.0.1", port=free_port(), cluster_port=free_port())
    file = folder / "haproxy.cfg"
    file.write_text(render(controllers, front))
    with subprocess.Popen([_PROGRAM, "-db", "-f", str(file)], stdout=subprocess.DEVNULL) as process:
        try:
            _until(lambda: _answers(front.port))
            yield front
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 15
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def fakes() -> Iterator[Callable[[str], Fake]]:
    with ExitStack() as stack:

        def make(name: str) -> Fake:
            fake = stack.enter_context(Fake(name))
            stack.callback(fake.shutdown)
            return fake

        yield make


@pytest.mark.parametrize("classic", [True, False])
def test_haproxy_takes_it(tmp_path: Path, classic: bool) -> None:
    assert _PROGRAM, "HAProxy is missing: install it with `scripts/install-system test`"
    controllers = [
        Controller(name="a", api="192.0.2.1:8080", cluster="192.0.2.1:8443"),
        Controller(name="b", api="[2001:db8::2]:8080", cluster="[2001:db8::2]:8443", services=("identity", "image")),
        Controller(name="c.d-e", api="192.0.2.3:8080", cluster="", services=("compute",)),
    ]
    file = tmp_path / "haproxy.cfg"
    file.write_text(render(controllers, Front(classic=classic)))
    done = subprocess.run(
        [_PROGRAM, "-c", "-f", str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout.lower(), done.stdout


def test_requests_go_to_those_who_serve_them_and_are_well(tmp_path: Path, fakes: Callable[[str], Fake]) -> None:
    auth, rest, both = fakes("auth"), fakes("rest"), fakes("both")
    controllers = _controllers(auth, rest, both, services=(("identity",), ("compute", "network"), ()))
    with _balanced(tmp_path, controllers) as front:
        who = {_get(front.port, "/identity/v3")[1].split()[0] for _ in range(20)}
        assert who == {"auth", "both"}
        assert {_get(front.port, "/image/v2/images")[1] for _ in range(5)} == {"both 127.0.0.1"}
        assert {_get(front.port, "/console/vnc_lite.html")[1].split()[0] for _ in range(20)} == {"rest", "both"}
        assert {_get(front.cluster_port, "/")[1].split()[0] for _ in range(20)} == {"auth", "rest", "both"}

        auth.well = False
        _until(lambda: {_get(front.port, "/identity/v3")[1].split()[0] for _ in range(6)} == {"both"})
        assert {_get(front.port, "/identity/v3")[0] for _ in range(6)} == {200}

        # All say that their database is away: their own words are what callers get.
        rest.well = both.well = False
        _until(lambda: {_get(front.port, "/identity/v3")[1].split()[0] for _ in range(6)} == {"auth", "both"})
        assert {_get(front.port, "/identity/v3")[0] for _ in range(6)} == {503}
        auth.well = rest.well = both.well = True
        _until(lambda: _get(front.port, "/identity/v3")[0] == 200)


def test_one_that_is_killed_costs_no_request(tmp_path: Path, fakes: Callable[[str], Fake]) -> None:
    first, second = fakes("first"), fakes("second")
    with _balanced(tmp_path, _controllers(first, second)) as front:
        assert {_get(front.port, "/network/v2.0")[1].split()[0] for _ in range(10)} == {"first", "second"}
        first.shutdown()
        first.server_close()
        assert {_get(front.port, "/network/v2.0") for _ in range(30)} == {(200, "second 127.0.0.1")}


def test_what_goes_on_is_ended_while_the_database_is_away(tmp_path: Path, fakes: Callable[[str], Fake]) -> None:
    only = fakes("only")
    with _balanced(tmp_path, _controllers(only)) as front:
        _until(lambda: _get(front.port, "/compute/v2.1") == (200, "only 127.0.0.1"))
        only.takes = 6.0  # longer than two checks that fail
        answers: list[tuple[int, str]] = []
        waiting = threading.Thread(target=lambda: answers.append(_get(front.port, "/compute/v2.1")))
        waiting.start()
        _until(lambda: len(only.asked) > 1)
        only.well = False
        time.sleep(4.5)
        only.well = True
        waiting.join()
        assert answers == [(200, "only 127.0.0.1")]
