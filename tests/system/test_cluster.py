"""Controllers and agents as processes: killed, stopped, moved; nothing is lost, nothing is done twice.

PILEUS_KILLS sets how often something is killed, PILEUS_SEED repeats what an earlier run did."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import Servers
from tests.system.members import RunningAgent, RunningController, gone, until

pytestmark = pytest.mark.system

KILLS = int(os.environ.get("PILEUS_KILLS", "8"))
SEED = int(os.environ.get("PILEUS_SEED", str(int(time.time()))))


class Cluster:
    """One controller and two nodes."""

    def __init__(self) -> None:
        self.controller = RunningController()
        self.agents = [RunningAgent(name, self.controller.server) for name in ("n1", "n2")]
        self.body: dict[str, Any] = {}

    def up(self) -> None:
        """Start all, and have what servers are made of."""
        self.controller.up()
        token = self.controller.join_token()
        for agent in self.agents:
            agent.start(token)
        image, flavor = self.controller.image(bytes(1 << 20), "raw"), self.controller.flavor(64)
        self.body = {"name": "s", "imageRef": image, "flavorRef": flavor, "networks": [
            {"uuid": self.controller.network()}
        ]}

    def create(self, where: str = "") -> str:
        """A server; its id."""
        zone = {"availability_zone": f"nova:{where}"} if where else {}
        made = self.controller.ask("POST", "/compute/v2.1/servers", {"server": {**self.body, **zone}})
        return str(made.json()["server"]["id"])

    def action(self, server: str, body: dict[str, Any], version: str = "2.45") -> httpx.Response:
        """An action on a server."""
        return self.controller.ask("POST", f"/compute/v2.1/servers/{server}/action", body, ok=False,
                                   headers={"OpenStack-API-Version": f"compute {version}"})

    def settled(self, seconds: float = 90.0) -> dict[str, str]:
        """The statuses, once nothing is under way any more and the nodes have just the guests that they should."""

        def quiet() -> bool:
            detail = self.controller.ask("GET", "/compute/v2.1/servers/detail").json()["servers"]
            busy = [s for s in detail if s["OS-EXT-STS:task_state"] or s["status"] in ("BUILD", "DELETED")]
            there = {server for agent in self.agents for server in agent.guests()}
            return not busy and there == {s["id"] for s in detail if s["status"] != "ERROR"}

        until(quiet, seconds, "quiet")
        judged = self.controller.command("doctor", "--wait", "60")
        assert judged.returncode == 0, judged.stdout
        return self.controller.statuses()

    def close(self) -> None:
        """End all."""
        for agent in self.agents:
            agent.close()
        self.controller.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    found = Cluster()
    try:
        found.up()
        yield found
    finally:
        found.close()


class Load(threading.Thread):
    """Creates, deletes and snapshots until told to end; what it was promised, and what it was refused."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        super().__init__()
        self.cluster, self.chance = cluster, random.Random(seed)
        self.servers: list[str] = []
        self.snapshots: list[str] = []
        self.refused: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._once()
            except (httpx.HTTPError, AssertionError) as error:
                self.refused.append(str(error))
                time.sleep(0.1)

    def _once(self) -> None:
        roll = self.chance.random()
        if roll < 0.5 or len(self.servers) < 3:
            self.servers.append(self.cluster.create())
        elif roll < 0.8:
            server = self.servers.pop(self.chance.randrange(len(self.servers)))
            self.cluster.controller.ask("DELETE", f"/compute/v2.1/servers/{server}")
        else:
            reply = self.cluster.action(self.chance.choice(self.servers), {"createImage": {"name": "s"}})
            if reply.status_code == 202:
                self.snapshots.append(reply.json()["image_id"])
            else:
                assert reply.status_code in (404, 409), reply.text
        time.sleep(0.05)

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


def test_agents_and_the_controller_are_killed_while_servers_come_and_go(cluster: Cluster) -> None:
    print(f"PILEUS_SEED={SEED}")
    chance = random.Random(SEED)
    took: list[float] = []
    for _ in range(KILLS):
        with Load(cluster, chance.randrange(1 << 30)) as load:
            time.sleep(chance.uniform(0.3, 2.0))
            victim = chance.choice([*cluster.agents, None])
            if victim is None:
                cluster.controller.kill()
                cluster.controller.up()
            else:
                victim.signal(signal.SIGKILL)
                victim.start()
            time.sleep(0.5)
        began = time.monotonic()
        statuses = cluster.settled()
        took.append(time.monotonic() - began)
        assert set(statuses.values()) <= {"ACTIVE"}, statuses
        assert set(load.servers) <= set(statuses), "a server that was promised is gone"
        for image in load.snapshots:
            # A snapshot ends as an image, or not at all, when its server was deleted meanwhile.
            found = cluster.controller.ask("GET", f"/image/v2/images/{image}", ok=False)
            assert found.status_code == 404 or found.json()["status"] == "active", found.text
    print(f"settled after {max(took):.1f} s at most")


def test_a_controller_that_stands_still_for_a_while_costs_nothing(cluster: Cluster) -> None:
    """Longer than the silence after which its agents give the connection up."""
    first = cluster.create("n1")
    cluster.controller.wait(first, "ACTIVE")
    slow = {**cluster.body, "metadata": {"fake:build_delay": "5"}, "availability_zone": "nova:n1"}
    made = cluster.controller.ask("POST", "/compute/v2.1/servers", {"server": slow}).json()["server"]["id"]
    until(lambda: cluster.action(made, {"os-getConsoleOutput": {}}).status_code != 500)
    pid = cluster.controller.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(24)
    finally:
        os.kill(pid, signal.SIGCONT)
    cluster.controller.wait(made, "ACTIVE", 20)
    assert cluster.agents[0].guests() == {first: ("running", 1), made: ("running", 1)}, "a task was done twice"
    later = cluster.create("n1")
    cluster.controller.wait(later, "ACTIVE", 20)
    cluster.settled()


def test_a_controller_that_is_killed_during_a_build_hears_of_its_end(cluster: Cluster) -> None:
    slow = {**cluster.body, "metadata": {"fake:build_delay": "2"}, "availability_zone": "nova:n1"}
    made = cluster.controller.ask("POST", "/compute/v2.1/servers", {"server": slow}).json()["server"]["id"]
    time.sleep(0.5)
    cluster.controller.kill()
    until(lambda: made in cluster.agents[0].guests())
    cluster.controller.up()
    cluster.controller.wait(made, "ACTIVE", 20)
    assert cluster.agents[0].guests() == {made: ("running", 1)}


def test_a_removed_node_is_out_and_its_agent_says_so(cluster: Cluster) -> None:
    done = cluster.controller.command("node", "remove", "n2")
    assert done.returncode == 0, done.stderr
    log = cluster.agents[1].state / "pileus.log"
    until(lambda: "Node n2 is not part of this cloud" in log.read_text(), 5, "the agent is told")
    assert set(cluster.controller.nodes()) == {"n1"}
    services = cluster.controller.ask("GET", "/compute/v2.1/os-services").json()["services"]
    assert "n2" not in {s["host"] for s in services}
    agents = cluster.controller.ask("GET", "/network/v2.0/agents").json()["agents"]
    assert "n2" not in {a["host"] for a in agents}
    time.sleep(3)  # nor does it come back by itself
    assert set(cluster.controller.nodes()) == {"n1"}
    again = cluster.controller.command("node", "remove", "n2")
    assert again.returncode == 1
    assert "pileus node list" in again.stderr


def test_an_agent_holds_no_secret_of_the_controllers(cluster: Cluster, servers: Servers) -> None:
    """What a controller has, looked for in everything that an agent keeps and was started with."""
    agent, state = cluster.agents[0], cluster.controller.state
    secrets = [
        (state / "admin-password").read_bytes().strip() if (state / "admin-password").exists() else b"only for tests",
        (state / "cluster" / "key.pem").read_bytes().splitlines()[1], b"postgresql://", b"mysql://", b"amqp://",
    ]
    kept = [path for path in agent.state.rglob("*") if path.is_file()]
    assert any(path.name == "cert.pem" for path in kept)
    said = {str(path): path.read_bytes() for path in kept}
    said["command line"] = Path(f"/proc/{agent.pid}/cmdline").read_bytes()
    for name, content in said.items():
        for secret in secrets:
            assert secret not in content, f"{name} has a secret of the controllers"
    opened = {os.readlink(link) for link in Path(f"/proc/{agent.pid}/fd").iterdir() if link.is_symlink()}
    assert not [path for path in opened if str(state) in path]
    assert b"sqlalchemy" not in Path(f"/proc/{agent.pid}/maps").read_bytes(), "an agent has no use for a database"


# -- several controllers


class Pair:
    """Two controllers on one PostgreSQL, and a node that knows both."""

    def __init__(self, url: str) -> None:
        self.controllers = [RunningController(name, database=url) for name in ("c1", "c2")]
        self.agent = RunningAgent("n1", *(controller.server for controller in self.controllers))

    def up(self) -> None:
        for controller in self.controllers:
            controller.up()
        self.agent.start(self.controllers[0].join_token())

    def here(self) -> tuple[RunningController, RunningController]:
        """The controller to which the node is connected, and the other one."""

        def connected() -> tuple[RunningController, RunningController] | None:
            for one, other in (self.controllers, self.controllers[::-1]):
                if one.settings["node_name"] in self._where():
                    return one, other
            return None

        found: tuple[RunningController, RunningController] = until(connected, 20, "the node is connected")
        return found

    def _where(self) -> str:
        for controller in self.controllers:
            said = controller.nodes().get("n1", "")
            if said:
                return said
        return ""

    def close(self) -> None:
        self.agent.close()
        for controller in self.controllers:
            controller.close()


@pytest.fixture
def pair(servers: Servers) -> Iterator[Pair]:
    for url in servers.get("postgresql").empty():
        found = Pair(url)
        try:
            found.up()
            yield found
        finally:
            found.close()


def test_any_controller_reaches_a_node_and_the_node_moves_when_its_own_is_killed(pair: Pair) -> None:
    near, far = pair.here()
    image, flavor, network = far.image(bytes(1 << 20), "raw"), far.flavor(64), far.network()
    body = {"name": "s", "imageRef": image, "flavorRef": flavor, "networks": [{"uuid": network}]}

    def create(at: RunningController) -> tuple[str, float]:
        began = time.monotonic()
        made = at.ask("POST", "/compute/v2.1/servers", {"server": body}).json()["server"]["id"]
        while at.ask("GET", f"/compute/v2.1/servers/{made}").json()["server"]["status"] != "ACTIVE":
            assert time.monotonic() - began < 20
            time.sleep(0.02)
        return made, time.monotonic() - began

    until(lambda: create(far)[1] < 0.9, 20, "a request at one controller wakes the node at the other")
    server, _ = create(far)
    asked = far.ask("POST", f"/compute/v2.1/servers/{server}/action", {"os-getConsoleOutput": {}})
    assert "node:     n1" in asked.json()["output"]
    assert len(near.ask("GET", f"/image/v2/images/{image}/file").content) == 1 << 20, "stored at the other controller"
    asked = far.ask("POST", f"/compute/v2.1/servers/{server}/action", {"createImage": {"name": "snap"}},
                    headers={"OpenStack-API-Version": "compute 2.45"})
    snap = asked.json()["image_id"]
    until(lambda: far.ask("GET", f"/image/v2/images/{snap}").json()["status"] == "active", 20)
    assert far.ask("GET", f"/image/v2/images/{snap}/file").content[:4] == b"QFI\xfb"

    pid = near.pid
    began = time.monotonic()
    near.kill()
    gone(pid)
    until(lambda: far.settings["node_name"] in far.nodes().get("n1", ""), 10, "the node moves")
    print(f"the node has moved after {time.monotonic() - began:.1f} s")
    create(far)
    assert "node:     n1" in far.ask(
        "POST", f"/compute/v2.1/servers/{server}/action", {"os-getConsoleOutput": {}}
    ).json()["output"]
    near.up()
    create(near)
