"""Imports: staged content and content from a URL; what the address filter lets through."""

from __future__ import annotations

import asyncio
import http.server
import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pileus.cloud import Cloud
from pileus.image import fetching, store
from pileus.web.errors import BadRequest
from pileus.work.jobs import work_once
from tests.api.image.conftest import BINARY, Images, qcow2

DIRECT = {"method": {"name": "glance-direct"}}
CONTENT = os.urandom(3 << 20)


class Served(http.server.BaseHTTPRequestHandler):
    """What the tests' web server has."""

    def do_GET(self) -> None:
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "/image")
        elif self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
        elif self.path in ("/image", "/short"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT) + (self.path == "/short")))
        elif self.path == "/bad":
            self.send_response(200)
        else:
            self.send_response(404)
        self.end_headers()
        self.wfile.write(CONTENT if self.path in ("/image", "/short") else qcow2() if self.path == "/bad" else b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def private_allowed(cloud: Cloud) -> Iterator[None]:
    usual = cloud.settings
    cloud.settings = msgspec.structs.replace(usual, import_allow_private=True)
    yield
    cloud.settings = usual


def download(uri: str) -> dict[str, Any]:
    return {"method": {"name": "web-download", "uri": uri}}


def work(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
    """Let a controller do what is to do."""
    while loop.run_until_complete(work_once(cloud, "test")):
        pass


def test_glance_direct(alice: Images, images: Images, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
    made = alice.create()
    alice("POST", f"/images/{made}/import", 409, DIRECT)
    alice("PUT", f"/images/{made}/stage", 204, content=CONTENT, headers=BINARY)
    assert alice.status(made) == "uploading"
    alice("PUT", f"/images/{made}/stage", 409, content=b"x", headers=BINARY)
    alice.upload(made, b"x", status=409)
    alice("POST", f"/images/{made}/import", 202, DIRECT)
    assert alice.status(made) == "importing"
    alice("POST", f"/images/{made}/import", 409, DIRECT)
    work(cloud, loop)
    assert alice.status(made) == "active"
    assert alice.client.get(f"/image/v2/images/{made}/file").content == CONTENT
    assert not store.staged_path(cloud, made).exists()
    task = alice("GET", f"/images/{made}/tasks", 200)["tasks"][0]
    assert (task["status"], task["type"], task["image_id"]) == ("success", "api_image_import", made)
    assert images("GET", f"/tasks/{task['id']}", 200)["status"] == "success"
    assert task["id"] in {row["id"] for row in images("GET", "/tasks", 200)["tasks"]}


def test_staged_content_that_must_not_be_opened(
    alice: Images, cloud: Cloud, loop: asyncio.AbstractEventLoop
) -> None:
    made = alice.create(disk_format="qcow2")
    alice("PUT", f"/images/{made}/stage", 204, content=qcow2(backing=True), headers=BINARY)
    alice("POST", f"/images/{made}/import", 202, DIRECT)
    work(cloud, loop)
    assert alice.status(made) == "queued"
    task = alice("GET", f"/images/{made}/tasks", 200)["tasks"][0]
    assert task["status"] == "failure"
    assert "backing file" in task["message"]
    assert not store.staged_path(cloud, made).exists()


@pytest.mark.usefixtures("private_allowed")
def test_web_download(alice: Images, cloud: Cloud, loop: asyncio.AbstractEventLoop, server: str) -> None:
    for path in ("/image", "/redirect"):
        made = alice.create()
        alice("POST", f"/images/{made}/import", 202, download(server + path))
        work(cloud, loop)
        assert alice.status(made) == "active"
        assert alice.client.get(f"/image/v2/images/{made}/file").content == CONTENT


@pytest.mark.usefixtures("private_allowed")
@pytest.mark.parametrize(("path", "why"), [
    ("/loop", "redirects"), ("/missing", "404"), ("/short", "missing"), ("/bad", "it is qcow2"),
])
def test_a_download_that_fails(
    alice: Images, cloud: Cloud, loop: asyncio.AbstractEventLoop, server: str, path: str, why: str
) -> None:
    made = alice.create()
    alice("POST", f"/images/{made}/import", 202, download(server + path))
    work(cloud, loop)
    assert alice.status(made) == "queued"
    assert why in alice("GET", f"/images/{made}/tasks", 200)["tasks"][0]["message"]
    assert not [p for p in store.folder(cloud, "incoming").iterdir() if p.name.startswith(made)]


def test_bad_imports(alice: Images) -> None:
    made = alice.create()
    bodies: tuple[dict[str, Any], ...] = (
        {}, {"method": {}}, {"method": {"name": "copy-image"}}, {"method": {"name": "web-download"}},
        {"method": {"name": 5}}, {"method": "glance-direct"}, download("http://127.0.0.1/x"),
    )
    for body in bodies:
        alice("POST", f"/images/{made}/import", 400, body)
    alice("POST", f"/images/{made}/import", 409, {**DIRECT, "stores": ["elsewhere"]})
    bare = alice("POST", "/images", 201, {})["id"]
    alice("PUT", f"/images/{bare}/stage", 204, content=b"x", headers=BINARY)
    alice("POST", f"/images/{bare}/import", 409, DIRECT)


# -- the address filter


@pytest.mark.parametrize("url", [
    "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://10.0.0.1/", "http://192.168.1.1/",
    "http://172.16.0.1/", "http://169.254.169.254/latest", "http://0.0.0.0/", "http://[fe80::1]/", "http://[fc00::1]/",
    "http://[::ffff:127.0.0.1]/", "http://[::ffff:a00:1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
    "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://100.64.0.1/", "http://224.0.0.1/",
    "http://255.255.255.255/", "http://192.0.2.1/", "http://user@8.8.8.8/", "http://8.8.8.8:22/", "ftp://8.8.8.8/",
    "file:///etc/passwd", "http://", "http:///x", "//8.8.8.8/", "http://8.8.8.8:99999/", "http://[::1", "",
    "http://8.8.8.8/\r\nX: y", "http://8.8.8.8/a b", "gopher://8.8.8.8/",
])
def test_what_the_filter_refuses(url: str) -> None:
    with pytest.raises(BadRequest):
        fetching.check(url, allow_private=False)


def test_what_the_filter_lets_through() -> None:
    place = fetching.check("https://8.8.8.8/image?x=y", allow_private=False)
    assert (place.address, place.port) == ("8.8.8.8", 443)
    assert fetching.public(ipaddress.ip_address("2001:4860:4860::8888"))


def test_a_name_is_refused_when_one_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(BadRequest, match="not a public address"):
        fetching.check("http://mixed.example/", allow_private=False)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is checked and private when it is used leads nowhere private."""
    answers = iter([["8.8.8.8"], ["127.0.0.1"], ["127.0.0.1"]])
    connected = []

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(2, 1, 6, "", (address, 80)) for address in next(answers)]

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> Any:
        connected.append(address)
        raise OSError("the test has no network")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(BadRequest):
        fetching.open_url("http://rebinding.example/", allow_private=False)
    assert connected == [("8.8.8.8", 80)]


def test_a_redirect_is_checked_again(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    checked = []
    real = fetching.check

    def check(url: str, allow_private: bool) -> fetching.Place:
        checked.append(url)
        return real(url, allow_private if len(checked) > 1 else True)

    monkeypatch.setattr(fetching, "check", check)
    with pytest.raises(BadRequest, match="does not pass filtering"):
        fetching.open_url(server + "/redirect", allow_private=False)
    assert checked == [server + "/redirect", server + "/image"]
