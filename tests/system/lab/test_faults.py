"""Faults of a cloud of many nodes: kill -9, cut networks, a database and a bus that are away, under a load of requests.

Each test ends with `pileus doctor` finding all nodes in agreement, and prints what it measured in a line that begins
with FAULT. PILEUS_FAULTS=long does each more often; PILEUS_SEED repeats what an earlier run did."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import threading
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest
from tests.system.lab.api import Api
from tests.system.lab.building import built, guest_image
from tests.system.lab.ground import (
    FENCE,
    Street,
    Switch,
    agrees,
    create,
    deadlocks,
    host_of,
    pings,
    processes,
    server_body,
    service,
    show,
    until,
    wait_for,
)
from tests.system.lab.load import Load

from pileus.lab import Lab, LabError

pytestmark = pytest.mark.system

LONG = os.environ.get("PILEUS_FAULTS") == "long"
SEED = int(os.environ.get("PILEUS_SEED", str(int(time.time()))))
ROUNDS = 20 if LONG else 4
CUT = 20.0
long = pytest.mark.skipif(not LONG, reason="PILEUS_FAULTS=long runs it")
_MICRO = {"OpenStack-API-Version": "compute 2.80"}
_LIVE = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
_COLD = {"migrate": None}
_COMPUTES = ("compute-1", "compute-2")


def told(what: str, text: str) -> None:
    """Print a measured line."""
    print(f"\nFAULT | {what} | {text}")


def times(seconds: list[float]) -> str:
    """Median and most of some times."""
    return f"median {statistics.median(seconds):.1f} s, most {max(seconds):.1f} s"


@pytest.fixture(scope="module")
def devstack() -> Iterator[tuple[Lab, dict[str, object]]]:
    """One controller with SQLite, two compute nodes, real guests."""
    print(f"PILEUS_SEED={SEED}")
    with built("devstack", settings={"shutdown_timeout": "0.5"}) as lab:
        with Api(lab) as api:
            body = server_body(api)
        yield lab, body


@pytest.fixture(scope="module")
def ha() -> Iterator[tuple[Lab, dict[str, object]]]:
    """Three controllers, PostgreSQL, three RabbitMQ, HAProxy; fake guests."""
    with built("ha", hypervisor="fake") as lab:
        lab.node("controller-1").part("rabbitmq").wait_for_members(3)  # type: ignore[attr-defined]
        with Api(lab) as api:
            body = server_body(api)
        yield lab, body


@pytest.fixture(scope="module")
def galera() -> Iterator[tuple[Lab, dict[str, object]]]:
    """Three controllers, a member of Galera and RabbitMQ on each, HAProxy; fake guests."""
    with built("ha", database="galera", hypervisor="fake") as lab:
        with Api(lab) as api:
            body = server_body(api)
        yield lab, body


# -- agents


def test_agents_are_killed_while_servers_are_built(devstack: tuple[Lab, dict[str, object]]) -> None:
    lab, body = devstack
    chance, settled = random.Random(SEED), []
    with Api(lab) as api:
        witness = create(api, body, "witness", "compute-1")
        wait_for(api, witness)
        process = processes(witness)
        with Load(lab, body, users=2, pause=0.3) as load:
            for _ in range(ROUNDS):
                time.sleep(chance.uniform(0.1, 1.5))
                victim = lab.node(chance.choice((*_COMPUTES, *_COMPUTES, "controller")))
                victim.kill("agent")
                began = time.monotonic()
                time.sleep(chance.uniform(0.0, 1.0))
                victim.start("agent")
                settled.append(time.monotonic() - began)
        began = time.monotonic()
        alive = load.check(api)
        agrees(lab)
        told("agents killed during builds", f"{ROUNDS} kills under {len(load.requests)} requests "
             f"({load.recovery(load.requests[0].began)}); agent back: {times(settled)}; all settled "
             f"{time.monotonic() - began:.1f} s after the load")
        assert processes(witness) == process, "a running guest was touched"
        assert all(len(processes(server)) == 1 for server in alive)
        load.clear(api)
        api.ask("DELETE", "compute", f"/servers/{witness}")
        agrees(lab)


def test_agents_are_killed_while_servers_move(devstack: tuple[Lab, dict[str, object]]) -> None:
    lab, body = devstack
    chance, settled, ends = random.Random(SEED + 1), [], {"moved": 0, "stayed": 0}
    kills = ROUNDS + ROUNDS // 2
    with Api(lab) as api:
        servers = [create(api, body, f"mover{n}") for n in range(3)]
        for server in servers:
            wait_for(api, server)
        for _ in range(kills):
            before = {server: host_of(api, server) for server in servers}
            for server in servers:
                waits = show(api, server)["status"] == "VERIFY_RESIZE"
                action = {chance.choice(("confirmResize", "revertResize")): None} if waits else chance.choice(
                    (_LIVE, _LIVE, _COLD)
                )
                api.ask("POST", "compute", f"/servers/{server}/action", action, headers=_MICRO)
            time.sleep(chance.uniform(0.05, 2.5))
            victim = lab.node(chance.choice(_COMPUTES))
            victim.kill("agent")
            began = time.monotonic()
            time.sleep(chance.uniform(0.0, 1.0))
            victim.start("agent")
            for server in servers:
                wait_for(api, server, "ACTIVE", "VERIFY_RESIZE")
            agrees(lab)
            settled.append(time.monotonic() - began)
            for server in servers:
                ends["moved" if host_of(api, server) != before[server] else "stayed"] += 1
                assert len(processes(server)) == 1, "a guest runs twice, or not at all"
        told("agents killed during moves", f"{kills} kills, {len(servers)} servers on the move at each; "
             f"{ends['moved']} had moved, {ends['stayed']} had not; kill to all settled: {times(settled)}")
        for server in servers:
            api.ask("DELETE", "compute", f"/servers/{server}")
        agrees(lab)


# -- controllers


def test_the_only_controller_is_killed(devstack: tuple[Lab, dict[str, object]]) -> None:
    lab, body = devstack
    head = lab.node("controller")
    with Api(lab) as api:
        for _ in range(3 if LONG else 1):
            with Load(lab, body, users=2, pause=0.3) as load:
                time.sleep(2)
                fault = time.monotonic()
                head.kill("controller")
                head.start("controller")
                time.sleep(4)
            load.check(api)
            agrees(lab)
            told("the only controller killed, started again at once (SQLite)",
                 f"{load.recovery(fault)}; all settled after {time.monotonic() - fault:.1f} s")
            load.clear(api)
        agrees(lab)


@pytest.mark.parametrize(("name", "how"), [("controller-3", "kill"), ("controller-1", "stop")])
def test_one_controller_of_three_goes(ha: tuple[Lab, dict[str, object]], name: str, how: str) -> None:
    lab, body = ha
    with Api(lab) as api:
        for _ in range(5 if LONG else 1):
            with Load(lab, body) as load:
                time.sleep(2)
                fault = time.monotonic()
                getattr(lab.node(name), how)("controller")
                time.sleep(5)
                lab.node(name).start("controller")
                time.sleep(3)
            load.check(api)
            agrees(lab)
            told(f"one controller of three: {how}, for 5 s",
                 f"{load.recovery(fault)}; all settled after {time.monotonic() - fault:.1f} s\n{load.errors()}")
            load.clear(api)
        agrees(lab)


def test_no_transactions_wait_for_each_other(ha: tuple[Lab, dict[str, object]]) -> None:
    """Three controllers take the same locks in the same order: a circle costs PostgreSQL a second each."""
    lab, body = ha
    before = deadlocks(lab)
    with Api(lab) as api:
        with Load(lab, body, users=6, pause=0.0) as load:
            time.sleep(8)
        load.check(api)
        load.clear(api)
        agrees(lab)
    assert deadlocks(lab) == before


# -- what the controllers need


@pytest.mark.parametrize("members", [
    pytest.param(("controller-1",), marks=long, id="one"),
    pytest.param(("controller-1", "controller-2", "controller-3"), id="all"),
])
def test_rabbitmq_is_away(ha: tuple[Lab, dict[str, object]], members: tuple[str, ...]) -> None:
    lab, body = ha
    with Api(lab) as api:
        with Load(lab, body) as load:
            time.sleep(2)
            fault = time.monotonic()
            for name in members:
                lab.node(name).kill("rabbitmq")
            time.sleep(6)
            for name in members:
                lab.node(name).part("rabbitmq").start(wait=False)
            for name in members:
                lab.node(name).part("rabbitmq").wait()
            back = time.monotonic() - fault
            time.sleep(3)
        load.check(api)
        agrees(lab)
        told(f"RabbitMQ: {len(members)} of 3 killed, back after {back:.0f} s",
             f"{load.recovery(fault)}; all settled after {time.monotonic() - fault:.1f} s\n{load.errors()}")
        assert load.recovery(fault).broken == 0
        load.clear(api)
        agrees(lab)


def test_postgresql_is_stopped_and_killed(ha: tuple[Lab, dict[str, object]]) -> None:
    lab, body = ha
    with Api(lab) as api:
        for how, away in (("kill", 5.0), *((("stop", 5.0), ("kill", 30.0)) if LONG else ())):
            with Load(lab, body) as load:
                time.sleep(2)
                fault = time.monotonic()
                getattr(lab.node("database"), how)("postgresql")
                time.sleep(away)
                lab.node("database").start("postgresql")
                back = time.monotonic() - fault
                time.sleep(3)
            load.check(api)
            agrees(lab)
            told(f"PostgreSQL: {how}, back after {back:.1f} s",
                 f"{load.recovery(fault)}; all settled after {time.monotonic() - fault:.1f} s\n{load.errors()}")
            load.clear(api)
        agrees(lab)


@long
def test_a_galera_member_is_killed(galera: tuple[Lab, dict[str, object]]) -> None:
    lab, body = galera
    with Api(lab) as api:
        for name in ("controller-1", "controller-2"):
            with Load(lab, body) as load:
                time.sleep(2)
                fault = time.monotonic()
                lab.node(name).kill("galera")
                time.sleep(8)
                lab.node(name).start("galera")
                back = time.monotonic() - fault
                time.sleep(3)
            load.check(api)
            agrees(lab)
            told(f"Galera: {name} of three killed, back after {back:.0f} s",
                 f"{load.recovery(fault)}; all settled after {time.monotonic() - fault:.1f} s\n{load.errors()}")
            load.clear(api)
        agrees(lab)


# -- cut networks


def test_a_controller_is_cut_off(ha: tuple[Lab, dict[str, object]]) -> None:
    _controller_cut_off(*ha, "controller-2", "with its RabbitMQ, and all nodes connected to it")


@long
@pytest.mark.parametrize("name", ["controller-1", "controller-2"])
def test_a_controller_with_a_galera_member_is_cut_off(galera: tuple[Lab, dict[str, object]], name: str) -> None:
    """The first one's member is the one that all write to."""
    _controller_cut_off(*galera, name, "with its RabbitMQ, its Galera member, and all nodes connected to it")


def _controller_cut_off(lab: Lab, body: dict[str, object], name: str, what: str) -> None:
    away = 60.0 if LONG else 25.0
    with Api(lab) as api:
        _all_at(lab, name)
        with Load(lab, body) as load, _never_down(lab):
            time.sleep(2)
            fault = time.monotonic()
            lab.cut(name)
            time.sleep(away)
            lab.mend(name)
            mended = time.monotonic()
            time.sleep(5)
        load.check(api)
        agrees(lab)
        told(f"{name} of three ({what}) cut off for {away:.0f} s",
             f"{load.recovery(fault)}; all settled {time.monotonic() - mended:.1f} s after the mending\n"
             f"{load.errors()}")
        load.clear(api)
        agrees(lab)


def test_a_controller_is_cut_off_from_the_database(ha: tuple[Lab, dict[str, object]]) -> None:
    lab, body = ha
    away = 60.0 if LONG else 25.0
    database = lab.node("database").spec.address
    with Api(lab) as api:
        _all_at(lab, "controller-3")
        with Load(lab, body) as load, _never_down(lab):
            time.sleep(2)
            fault = time.monotonic()
            head = lab.node("controller-3")
            head.run("nft", "add table ip fault; add chain ip fault out { type filter hook output priority 0; }; "
                     f"add rule ip fault out ip daddr {database} drop")
            until(lambda: not _nodes_at(lab, "controller-3"), 25, "its nodes are connected to others")
            moved = time.monotonic() - fault
            time.sleep(max(0.0, away - moved))
            head.run("nft", "delete table ip fault")
            mended = time.monotonic()
            time.sleep(3)
        load.check(api)
        agrees(lab)
        told(f"a controller of three, with all nodes connected to it, cut off from the database for {away:.0f} s",
             f"nodes are connected to others after {moved:.1f} s; {load.recovery(fault)}; all settled "
             f"{time.monotonic() - mended:.1f} s after the mending\n{load.errors()}")
        load.clear(api)
        agrees(lab)


def _all_at(lab: Lab, name: str) -> None:
    """Have every node connected to this controller."""
    others = [node for node in lab.nodes.values() if "controller" in node.parts and node.spec.name != name]
    for other in others:
        other.stop("controller")
    until(lambda: _nodes_at(lab, name) == {n for n in lab.nodes if n.startswith("node-")}, 30, f"all are at {name}")
    for other in others:
        other.start("controller")


def _nodes_at(lab: Lab, name: str) -> set[str]:
    """The nodes that are connected to a controller, as any controller that has a database knows."""
    for head in lab.nodes.values():
        if "controller" in head.parts and head.part("controller").running:
            with contextlib.suppress(LabError):
                rows = [line.split() for line in head.pileus("node", "list").splitlines()]
                return {row[0] for row in rows if row[0].startswith("node-") and row[4] == name}
    raise AssertionError("no controller says which nodes there are")


@contextlib.contextmanager
def _never_down(lab: Lab) -> Iterator[None]:
    """In a `with` block no node may count as down: what looks at them may have them fenced."""
    nodes, stop, down = [n for n in lab.nodes if n.startswith("node-")], threading.Event(), []
    looks: list[int] = []

    def look() -> None:
        with Api(lab) as api:
            while not stop.wait(0.5):
                with contextlib.suppress(httpx.HTTPError):
                    reply = api.send("GET", "compute", "/os-services?binary=nova-compute")
                    services = reply.json()["services"] if reply.status_code == 200 else []
                    looks.append(reply.status_code)
                    down.extend(s["host"] for s in services if s["host"] in nodes and s["state"] != "up")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join(60)
    assert looks.count(200) > 5, looks
    assert not down, f"counted as down, though they are well: {set(down)}"


def test_a_node_is_cut_off_for_a_while(devstack: tuple[Lab, dict[str, object]]) -> None:
    lab, body = devstack
    with Api(lab) as api:
        witness = create(api, body, "witness", "compute-2")
        wait_for(api, witness)
        process = processes(witness)
        with Load(lab, body, users=2, pause=0.5) as load:
            time.sleep(2)
            fault = time.monotonic()
            lab.cut("compute-2")
            time.sleep(CUT)
            lab.mend("compute-2")
            mended = time.monotonic()
            time.sleep(2)
        load.check(api)
        agrees(lab)
        told(f"a compute node cut off for {CUT:.0f} s",
             f"{load.recovery(fault)}; all settled {time.monotonic() - mended:.1f} s after the mending")
        assert processes(witness) == process, "a running guest was touched"
        load.clear(api)
        api.ask("DELETE", "compute", f"/servers/{witness}")
        agrees(lab)
        _doctor_sees_other_nodes(lab)
        agrees(lab)


def _doctor_sees_other_nodes(lab: Lab) -> None:
    """The judge can fail: what is on a node that is no controller, and should not be, is found."""
    stray = lab.node("compute-2").machine.path(f"/var/lib/pileus-agent/instances/{uuid.uuid4()}")
    stray.mkdir()
    with pytest.raises(LabError, match=f"{stray.name}: is on compute-2, and there is no such server"):
        agrees(lab, wait=0.0)
    stray.rmdir()


def test_a_node_is_lost_for_ever() -> None:
    """First without a fence that works: nothing is copied, and it comes back as it was. Then with one."""
    guest_image()  # before the thread is where nothing can be downloaded
    settings = {"ha_evacuate": "true", "ha_grace": "0", "fence_command": FENCE, "shutdown_timeout": "0.5"}
    with built("ha", settings=settings) as lab, Api(lab) as api, Switch(lab).running() as switch:
        street = Street(api)
        (near, near_address), (far, far_address) = street.boot("near", "node-1"), street.boot("far", "node-2")
        for address in (near_address, far_address):
            until(lambda address=address: pings(lab, address), 90, f"{address} answers")  # type: ignore[misc]
        agrees(lab)
        lost = _router_node(api, street)
        stays, goes = ((near, near_address), (far, far_address))[:: 1 if lost == "node-2" else -1]
        _cut_without_fence(lab, api, switch, street, lost, stays, goes)
        lost = _router_node(api, street)
        stays, goes = ((near, near_address), (far, far_address))[:: 1 if lost == "node-2" else -1]
        _cut_with_fence(lab, api, switch, street, lost, stays, goes)


def _router_node(api: Api, street: Street) -> str:
    agents = api.ask("GET", "network", f"/v2.0/routers/{street.router}/l3-agents")["agents"]
    return str(agents[0]["host"])


def _cut_without_fence(
    lab: Lab, api: Api, switch: Switch, street: Street, lost: str, stays: tuple[str, str], goes: tuple[str, str]
) -> None:
    switch.working = False
    before = {server: processes(server) for server, _ in (stays, goes)}
    fault = time.monotonic()
    lab.cut(lost)
    down = until(lambda: service(api, lost) == "down", 40, f"{lost} is down")
    floating = down + until(lambda: pings(lab, stays[1]), 60, "the floating address answers at another network node")
    new = create(api, street.body, "new")
    assert wait_for(api, new)["OS-EXT-SRV-ATTR:host"] != lost
    until(lambda: bool(switch.asked), 60, "the switch is asked")
    time.sleep(3)
    assert host_of(api, goes[0]) == lost
    assert {server: processes(server) for server, _ in (stays, goes)} == before, "a guest was copied"
    agrees(lab, lost)
    lab.mend(lost)
    mended = time.monotonic()
    until(lambda: service(api, lost) == "up", 30, f"{lost} is up again")
    until(lambda: pings(lab, goes[1]), 30, "the guest of the node that was cut off answers again")
    agrees(lab)
    told(f"a node with a router cut off for {mended - fault:.0f} s, no fence",
         f"down after {down:.1f} s, floating addresses of others answer after {floating:.1f} s; all settled "
         f"{time.monotonic() - mended:.1f} s after the mending")
    assert down <= 30.5
    assert {server: processes(server) for server, _ in (stays, goes)} == before, "a running guest was touched"
    api.ask("DELETE", "compute", f"/servers/{new}")
    agrees(lab)


def _cut_with_fence(
    lab: Lab, api: Api, switch: Switch, street: Street, lost: str, stays: tuple[str, str], goes: tuple[str, str]
) -> None:
    switch.working = True
    seen = show(api, goes[0])
    ports = api.ask("GET", "network", f"/v2.0/ports?device_id={goes[0]}")["ports"]
    fault = time.monotonic()
    lab.cut(lost)
    down = until(lambda: service(api, lost) == "down", 40, f"{lost} is down")
    until(lambda: host_of(api, goes[0]) != lost, 90, "its server is on another node")
    after = wait_for(api, goes[0])
    built_again = time.monotonic() - fault
    until(lambda: pings(lab, stays[1]), 60, "the floating address of another node's server answers")
    until(lambda: pings(lab, goes[1]), 90, "its server answers at its floating address")
    answers = time.monotonic() - fault
    assert not lab.node(lost).machine.on, "it was not switched off"
    assert len(processes(goes[0])) == 1
    assert (after["name"], after["addresses"]) == (seen["name"], seen["addresses"])
    moved = api.ask("GET", "network", f"/v2.0/ports?device_id={goes[0]}")["ports"]
    assert [p["id"] for p in moved] == [p["id"] for p in ports]
    agrees(lab, lost)
    with pytest.raises(LabError, match="was not judged"):
        agrees(lab, wait=0.0)
    told("a node with a router cut off for ever, with a fence",
         f"down after {down:.1f} s, its server ACTIVE elsewhere after {built_again:.1f} s and answers at its floating "
         f"address after {answers:.1f} s")
    lab.mend(lost)
    lab.node(lost).boot()
    api.ask("PUT", "compute", "/os-services/force-down",
            {"host": lost, "binary": "nova-compute", "forced_down": False}, headers={
                "OpenStack-API-Version": "compute 2.11"})
    until(lambda: service(api, lost) == "up", 30, f"{lost} is up again")
    agrees(lab)
    assert pings(lab, goes[1])
    for server, _ in (stays, goes):
        api.ask("DELETE", "compute", f"/servers/{server}")
    agrees(lab)
