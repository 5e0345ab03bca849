"""The guest's screen in a browser, through noVNC, and its serial port."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cache import CACHE
from tests.system.browser import page
from tests.system.running import RunningCloud
from websockets.sync.client import connect

from pileus.node.guestimage import cached

pytestmark = pytest.mark.system


_REFUSED = r"403|4401|rejected"
_SIZE = "(c => c ? c.width : 0)(document.querySelector('canvas'))"
_LIT = """(() => {
  const c = document.querySelector('canvas');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let lit = 0;
  for (let i = 0; i < d.length; i += 4) if (d[i] + d[i + 1] + d[i + 2] > 200) lit++;
  return lit;
})()"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    cloud = RunningCloud(namespace_prefix="tvnc", public_network="")
    try:
        cloud.up()
        yield cloud
    finally:
        cloud.close()


@pytest.fixture(scope="module")
def server(cloud: RunningCloud) -> str:
    """A guest at its login prompt."""
    image = cloud.image(cached(CACHE).read_bytes(), "qcow2")
    body = {"name": "screen", "imageRef": image, "flavorRef": cloud.flavor(128, 1), "networks": "none"}
    headers = {"OpenStack-API-Version": "compute 2.37"}
    made = cloud.ask("POST", "/compute/v2.1/servers", {"server": body}, headers=headers)
    server: str = made.json()["server"]["id"]
    cloud.wait(server, "ACTIVE")
    until = time.monotonic() + 240
    while "login:" not in console_log(cloud, server):
        assert time.monotonic() < until, console_log(cloud, server)
        time.sleep(0.3)
    return server


def console_log(cloud: RunningCloud, server: str) -> str:
    """What the guest has written to its serial console."""
    reply = cloud.ask("POST", f"/compute/v2.1/servers/{server}/action", {"os-getConsoleOutput": {}})
    output: str = reply.json()["output"]
    return output


def console_url(cloud: RunningCloud, server: str, kind: str = "novnc") -> str:
    """A URL that opens the guest's screen or its serial port."""
    body = {"remote_console": {"protocol": "vnc" if kind == "novnc" else kind, "type": kind}}
    headers = {"OpenStack-API-Version": "compute 2.6"}
    reply = cloud.ask("POST", f"/compute/v2.1/servers/{server}/remote-consoles", body, headers=headers)
    url: str = reply.json()["remote_console"]["url"]
    return url


def test_the_page_shows_the_screen_and_takes_keys(cloud: RunningCloud, server: str, tmp_path: Path) -> None:
    with page() as browser:
        browser.go(console_url(cloud, server))
        browser.until(f"{_SIZE} >= 640")
        browser.until(f"{_LIT} > 300")
        before = browser.value(_LIT)
        browser.value("document.querySelector('canvas').focus()")
        browser.type("\nnobody\n")
        # A name and the question for its password appear: more of the screen is lit.
        browser.until(f"{_LIT} > {before} + 60")
        browser.picture(tmp_path / "screen.png")
    assert (tmp_path / "screen.png").stat().st_size > 1000


def test_a_wrong_token_opens_nothing(cloud: RunningCloud, server: str) -> None:
    url = f"ws://127.0.0.1:{cloud.port}/console/websockify?token=guessed"
    with pytest.raises(Exception, match=_REFUSED), connect(url) as socket:
        socket.recv(timeout=5)


def test_a_page_of_another_origin_opens_nothing(cloud: RunningCloud, server: str) -> None:
    token = console_url(cloud, server).rsplit("token=", 1)[1]
    url = f"ws://127.0.0.1:{cloud.port}/console/websockify?token={token}"
    with connect(url, subprotocols=["binary"]) as socket:  # type: ignore[list-item]
        assert socket.recv(timeout=5)[:3] in (b"RFB", "RFB")
    with pytest.raises(Exception, match=_REFUSED), connect(url, origin="http://evil.test") as socket:  # type: ignore[arg-type]
        socket.recv(timeout=5)


def test_tokens_are_not_logged(cloud: RunningCloud, server: str) -> None:
    token = console_url(cloud, server).rsplit("token=", 1)[1]
    with connect(f"ws://127.0.0.1:{cloud.port}/console/websockify?token={token}") as socket:
        socket.recv(timeout=5)
    assert token not in (cloud.state / "pileus.log").read_text()




def test_the_serial_port_takes_what_is_typed(cloud: RunningCloud, server: str) -> None:
    url = console_url(cloud, server, "serial")
    with connect(url) as socket:
        socket.send(b"somebody\n")
        heard, until = b"", time.monotonic() + 60
        while b"somebody" not in heard or b"assword" not in heard:
            assert time.monotonic() < until, heard
            piece = socket.recv(timeout=60)
            heard += piece if isinstance(piece, bytes) else piece.encode()


def test_a_token_opens_only_the_console_that_it_is_for(cloud: RunningCloud, server: str) -> None:
    token = console_url(cloud, server, "serial").rsplit("token=", 1)[1]
    screen = f"ws://127.0.0.1:{cloud.port}/console/websockify?token={token}"
    with pytest.raises(Exception, match=_REFUSED), connect(screen) as socket:
        socket.recv(timeout=5)
