"""What users do to a cloud while it is killed under their hands: each load is a thread that goes on until told."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from types import TracebackType
from typing import Any

import httpx
from tests.system.running import RunningCloud

_SERVERS = "/compute/v2.1/servers"
_IMAGES = "/image/v2/images"


class Load:
    """Creates servers named `load` and deletes them, as quickly as the cloud answers."""

    alive = 3

    def __init__(self, cloud: RunningCloud, body: dict[str, Any], seed: int) -> None:
        self.cloud, self.body = cloud, {**body, "name": "load"}
        self.random = random.Random(seed)
        self.accepted: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            # The program is killed under its hands: what fails then is meant to.
            with contextlib.suppress(httpx.TransportError):
                listed = self.cloud.ask("GET", f"{_SERVERS}/detail?name=^load$", ok=False)
                if listed.status_code == 200:
                    self.step(listed.json()["servers"])
            time.sleep(0.02)

    def step(self, servers: list[dict[str, Any]]) -> None:
        """Do one thing."""
        if len(servers) < self.alive:
            self.do("create", "POST", _SERVERS, {"server": self.body})
        else:
            self.do("delete", "DELETE", f"{_SERVERS}/{self.random.choice(servers)['id']}")

    def do(self, what: str, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """One request; what the cloud took is counted. The reply's body, None if it was refused."""
        reply = self.cloud.ask(method, path, body, ok=False, **options)
        assert reply.status_code < 500 or reply.status_code == 503, f"{what}: {reply.status_code} {reply.text}"
        if reply.status_code >= 400:
            return None
        self.accepted[what] = self.accepted.get(what, 0) + 1
        return reply.json() if reply.content else {}


_ACTIONS: dict[str, list[tuple[str, Any]]] = {
    "ACTIVE": [
        ("os-stop", None), ("reboot", {"type": "HARD"}), ("reboot", {"type": "SOFT"}), ("pause", None),
        ("suspend", None), ("createImage", {"name": "load"}), ("rebuild", {}), ("rescue", {}), ("shelve", None),
    ],
    "SHUTOFF": [("os-start", None), ("createImage", {"name": "load"}), ("rebuild", {})],
    "PAUSED": [("unpause", None), ("suspend", None)],
    "SUSPENDED": [("resume", None)],
    "RESCUE": [("unrescue", None)],
    "SHELVED_OFFLOADED": [("unshelve", None)],
}


class ActionLoad(Load):
    """Does to servers whatever their status allows, uploads images, and now and then creates and deletes."""

    def step(self, servers: list[dict[str, Any]]) -> None:
        chance = self.random.random()
        if len(servers) < self.alive or chance < 0.1:
            super().step(servers)
        elif chance < 0.25:
            self._image()
        else:
            server = self.random.choice(servers)
            choices = _ACTIONS.get(server["status"], []) if server["OS-EXT-STS:task_state"] is None else []
            if choices:
                action, value = self.random.choice(choices)
                value = {"imageRef": self.body["imageRef"]} if action == "rebuild" else value
                self.do(action, "POST", f"{_SERVERS}/{server['id']}/action", {action: value})

    def _image(self) -> None:
        """Upload one, or delete one: uploads and snapshots have the same name."""
        listed = self.cloud.ask("GET", f"{_IMAGES}?name=load", ok=False)
        images = listed.json()["images"] if listed.status_code == 200 else []
        if len(images) > self.alive:
            self.do("delete image", "DELETE", f"{_IMAGES}/{self.random.choice(images)['id']}")
            return
        new = {"name": "load", "disk_format": "raw", "container_format": "bare"}
        made = self.do("create image", "POST", _IMAGES, new)
        if made is not None:
            kind = {"Content-Type": "application/octet-stream"}
            self.do("upload", "PUT", f"{_IMAGES}/{made['id']}/file", content=bytes(8 << 20), headers=kind)
