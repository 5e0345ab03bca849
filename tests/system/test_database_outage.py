"""The database server of a running cloud goes away during a load of creates, and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Servers
from tests.databases import Mariadb, Postgresql
from tests.ports import free_port
from tests.unit.db.proxy import Proxy

pytestmark = pytest.mark.system

_WAIT = 4.0
_PILEUS = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "pileus"


class Cloud:
    """A process with the fake hypervisor, whose database is behind a proxy."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.port, self.token = folder, free_port(), ""
        self.environment = {**os.environ, "PILEUS_DATABASE": url, "PILEUS_ADMIN_PASSWORD": "secret"}
        with (folder / "out").open("w") as out:
            self.process = subprocess.Popen(
                [_PILEUS, "up", "--state-dir", folder, "--set", "hypervisor=fake", "--set", "public_network=", "--set",
                 f"listen=127.0.0.1:{self.port}", "--set", f"database_wait={_WAIT}"],
                env=self.environment, stdout=out, stderr=subprocess.STDOUT,
            )
        self.server: dict[str, Any] = {}

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, float]:
        """Status, headers and body, and how many seconds it took."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        media = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        headers = {"Content-Type": media, "X-Auth-Token": self.token}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                self.headers = reply.headers
                text = reply.read()
                return reply.status, json.loads(text) if text[:1] in b"{[" and text else text, time.monotonic() - began
        except urllib.error.HTTPError as error:
            with error:
                again = {"again": error.headers.get("Retry-After"), "text": error.read()}
            return error.code, again, time.monotonic() - began

    def prepare(self) -> None:
        """Wait for it, log in, and make what a server needs."""
        for _ in range(300):
            try:
                if self.ask("GET", "/healthz")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        user = {"name": "admin", "domain": {"id": "default"}, "password": "secret"}
        project = {"project": {"name": "admin", "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        token = self.ask("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": project}})[1]
        self.token = self.headers["X-Subject-Token"]
        owner = token["token"]["project"]["id"]
        many = {"instances": -1, "cores": -1, "ram": -1}
        self.ask("PUT", f"/compute/v2.1/os-quota-sets/{owner}", {"quota_set": many})
        self.ask("PUT", f"/network/v2.0/quotas/{owner}", {"quota": {"port": -1}})
        image = self.ask("POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare"})[1]
        assert self.ask("PUT", f"/image/v2/images/{image['id']}/file", b"\1" * 4096)[0] == 204
        network = self.ask("POST", "/network/v2.0/networks", {"network": {"name": "n"}})[1]["network"]["id"]
        subnet = {"network_id": network, "cidr": "10.9.0.0/16", "ip_version": 4}
        self.ask("POST", "/network/v2.0/subnets", {"subnet": subnet})
        flavor = self.ask("POST", "/compute/v2.1/flavors", {"flavor": {"name": "f", "vcpus": 1, "ram": 16, "disk": 1}})
        self.server = {
            "imageRef": image["id"], "flavorRef": flavor[1]["flavor"]["id"], "networks": [{"uuid": network}],
        }

    def create(self, name: str) -> tuple[int, Any, float]:
        """Ask for a server."""
        return self.ask("POST", "/compute/v2.1/servers", {"server": {**self.server, "name": name}})


@pytest.fixture(params=["postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, servers: Servers) -> tuple[str, str]:
    """URL of an empty database with a mark for the port, and the server's socket."""
    running = servers.get(request.param)
    assert isinstance(running, Mariadb | Postgresql)
    running.do("CREATE DATABASE outage")
    if request.param == "mariadb":
        running.do("CREATE USER outage@localhost IDENTIFIED BY 'Pa55'", "GRANT ALL ON outage.* TO outage@localhost")
        account = "outage:Pa55"
    else:
        account = "postgres:Pa55"
    return f"{request.param}://{account}@127.0.0.1:PORT/outage", str(running.folder / running.socket)


def test_a_load_of_creates_survives_an_outage(place: tuple[str, str], tmp_path: Path) -> None:
    ends: list[tuple[float, int, Any, float]] = []
    over = threading.Event()

    def load(cloud: Cloud, worker: int) -> None:
        for number in range(100_000):
            if over.is_set():
                return
            status, answer, took = cloud.create(f"s-{worker}-{number}")
            ends.append((time.monotonic(), status, answer, took))
            if status >= 400:
                time.sleep(0.2)

    with Proxy(place[1]) as proxy:
        cloud = Cloud(tmp_path, place[0].replace("PORT", str(proxy.port)))
        try:
            cloud.prepare()
            workers = [threading.Thread(target=load, args=(cloud, number)) for number in range(4)]
            for worker in workers:
                worker.start()
            time.sleep(2)
            proxy.down()
            time.sleep(_WAIT + 4)
            proxy.up()
            back = time.monotonic()
            time.sleep(5)
            over.set()
            for worker in workers:
                worker.join(60)

            # Each was done or refused with the way out; none waited much longer than it was told to.
            counts = Counter(status for _, status, _, _ in ends)
            assert set(counts) == {202, 503}, counts
            assert {answer["again"] for _, status, answer, _ in ends if status == 503} <= {"5", "15"}
            assert max(took for _, _, _, took in ends) < _WAIT + 5
            assert min(at for at, status, _, _ in ends if status == 202 and at > back) - back < 3

            # What was accepted is there once, and is finished; nothing else is, but for what nobody can know.
            accepted = {answer["server"]["id"] for _, status, answer, _ in ends if status == 202}
            unknown = sum(status == 503 and answer["again"] == "15" for _, status, answer, _ in ends)
            for _ in range(100):
                found = cloud.ask("GET", "/compute/v2.1/servers/detail?limit=1000")[1]["servers"]
                if {server["status"] for server in found} == {"ACTIVE"}:
                    break
                time.sleep(0.2)
            assert {server["status"] for server in found} == {"ACTIVE"}
            assert accepted <= {server["id"] for server in found}
            assert len(found) - len(accepted) <= unknown
            done = subprocess.run(
                [_PILEUS, "doctor", "--state-dir", tmp_path, "--wait", "20"], env=cloud.environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=90, check=False,
            )
            assert done.returncode == 0, done.stdout
        finally:
            cloud.process.terminate()
            cloud.process.wait(30)
    said = (tmp_path / "out").read_text()
    assert "Pa55" not in said
    assert "cannot be reached" in said
