"""A headless Chromium, driven over its own debugging protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--no-first-run", "--window-size=1000,700",
    "--remote-debugging-port=0",
)


class Page:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result

    def go(self, url: str) -> None:
        """Load a page."""
        self.command("Page.enable")
        self.command("Page.navigate", url=url)

    def value(self, script: str) -> Any:
        """What a JavaScript expression gives."""
        result = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)["result"]
        return result.get("value")

    def until(self, script: str, seconds: float = 20.0) -> Any:
        """The expression's value once it is true. Fails the test when it does not become so."""
        end = time.monotonic() + seconds
        while not (value := self.value(script)):
            assert time.monotonic() < end, f"{script} is {value!r} after {seconds} s; the page says: {self.text()}"
            time.sleep(0.2)
        return value

    def text(self) -> str:
        """What the page shows as text."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def type(self, text: str) -> None:
        """Press keys, one after another."""
        for character in text:
            name = "Enter" if character == "\n" else character
            key = {"key": name, "text": "\r" if character == "\n" else character}
            if character == "\n":
                key |= {"code": "Enter", "windowsVirtualKeyCode": 13}  # type: ignore[dict-item]
            self.command("Input.dispatchKeyEvent", type="keyDown", **key)
            self.command("Input.dispatchKeyEvent", type="keyUp", **key)
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """Save what it looks like."""
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def page() -> Iterator[Page]:
    """A browser with one empty page."""
    with tempfile.TemporaryDirectory() as profile:
        browser = subprocess.Popen(
            ["chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile), browser)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as reply:
                target = next(t for t in json.load(reply) if t["type"] == "page")
            with connect(target["webSocketDebuggerUrl"], max_size=64 << 20) as socket:
                yield Page(socket)
        finally:
            browser.terminate()
            browser.wait(10)


def _port(profile: Path, browser: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 30
    file = profile / "DevToolsActivePort"
    while not file.exists() or not file.read_text():
        assert browser.poll() is None, "chromium has ended"
        assert time.monotonic() < end, "chromium has not opened its debugging port"
        time.sleep(0.1)
    return file.read_text().split()[0]
