"""What is done to servers: every action's end, what refuses it, and what the log says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import metadata, reconcile
from pileus.compute import servers as domain
from pileus.compute.tables import node, server
from pileus.controller import LocalNodes
from pileus.node.contract import GuestReport
from pileus.placement import allocations
from pileus.work.jobs import work_once
from tests.api.compute.guests import Servers, make_image, working_nodes
from tests.api.compute.people import join
from tests.api.conftest import Client

BASE = "/compute/v2.1/servers"


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with working_nodes(cloud, loop) as nodes:
        async def store(image_id: str, file: object) -> None:
            make = sa.text("UPDATE image_image SET status='active', size=1, virtual_size=1, found_format='qcow2', "
                           "os_hash_value='0' WHERE id=:i")
            await cloud.db.run(lambda tx: tx.execute(make, {"i": image_id}))

        for agent in nodes.agents.values():
            agent.link.image_store = store  # type: ignore[method-assign]
        yield nodes


@pytest.fixture(scope="module")
def guests(cloud: Cloud, admin: Client) -> Servers:
    project = admin.get("/identity/v3/projects?name=admin").json()["projects"][0]["id"]
    admin.put(f"/compute/v2.1/os-quota-sets/{project}", {"quota_set": {"ram": -1, "instances": -1, "cores": -1}})
    return Servers(admin, make_image(cloud))


@pytest.fixture(scope="module")
def one(guests: Servers) -> str:
    return guests.boot(name="acted-upon")


def test_power(guests: Servers, one: str) -> None:
    for action, value, status in (
        ("os-stop", None, "SHUTOFF"), ("os-start", None, "ACTIVE"), ("reboot", {"type": "SOFT"}, "ACTIVE"),
        ("reboot", {"type": "HARD"}, "ACTIVE"), ("pause", None, "PAUSED"), ("unpause", None, "ACTIVE"),
        ("suspend", None, "SUSPENDED"), ("resume", None, "ACTIVE"), ("rescue", None, "RESCUE"),
        ("unrescue", None, "ACTIVE"),
    ):
        reply = guests.act(one, action, value)
        assert reply.status_code == (200 if action == "rescue" else 202), reply.text
        guests.settled(one, status)


def test_an_action_that_does_not_fit_is_409(guests: Servers, one: str) -> None:
    for action in ("os-start", "unpause", "resume", "unrescue", "confirmResize", "revertResize", "unshelve"):
        reply = guests.act(one, action)
        assert reply.status_code == 409, action
        assert "vm_state active" in reply.json()["conflictingRequest"]["message"]


def test_wrong_actions_are_400_and_old_ones_404(guests: Servers, one: str) -> None:
    assert guests.act(one, "nonsense").status_code == 400
    assert guests.act(one, "reboot", {"type": "maybe"}).status_code == 400
    assert guests.act(one, "addFixedIp", {"networkId": "x"}).status_code == 404
    assert guests.client.post(f"{BASE}/{one}/action", {}).status_code == 400
    assert guests.client.post(f"{BASE}/{one}/action", {"os-stop": None, "os-start": None}).status_code == 400


def test_a_locked_server_refuses_its_owner(cloud: Cloud, anonymous: Client, guests: Servers) -> None:
    person = join(cloud, anonymous)
    own = Servers(person.client, guests.image_id)
    server_id = own.boot()
    assert own.act(server_id, "lock", {"locked_reason": "mine"}).status_code == 202
    shown = own.show(server_id)
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    assert own.act(server_id, "os-stop").status_code == 409
    assert own.client.delete(f"{BASE}/{server_id}").status_code == 409
    assert own.act(server_id, "unlock").status_code == 202
    guests.act(server_id, "lock")
    assert own.act(server_id, "unlock").status_code == 403
    assert guests.act(server_id, "unlock").status_code == 202
    assert own.client.delete(f"{BASE}/{server_id}").status_code == 204


def _held(cloud: Cloud, server_id: str) -> dict[str, int]:
    found = cloud.db.run_sync(lambda tx: allocations.of_consumer(tx, server_id))
    return next(iter(found.values()))


def test_resize_holds_the_larger_until_it_is_confirmed(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    assert guests.act(server_id, "resize", {"flavorRef": "2"}).status_code == 202
    guests.settled(server_id, "VERIFY_RESIZE")
    assert _held(cloud, server_id)["MEMORY_MB"] == 2048
    assert guests.act(server_id, "revertResize").status_code == 202
    assert guests.settled(server_id, "ACTIVE")["flavor"]["original_name"] == "m1.tiny"
    assert _held(cloud, server_id)["MEMORY_MB"] == 512
    guests.act(server_id, "os-stop")
    guests.settled(server_id, "SHUTOFF")
    guests.act(server_id, "resize", {"flavorRef": "3"})
    guests.settled(server_id, "VERIFY_RESIZE")
    assert guests.act(server_id, "confirmResize").status_code == 204
    assert guests.settled(server_id, "SHUTOFF")["flavor"]["ram"] == 4096
    assert guests.act(server_id, "resize", {"flavorRef": "1"}).status_code == 400
    assert guests.act(server_id, "resize", {"flavorRef": "nothing"}).status_code == 400


def test_resize_without_room_leaves_the_server_as_it_is(cloud: Cloud, guests: Servers) -> None:
    guests.client.post("/compute/v2.1/flavors", {"flavor": {
        "id": "vast", "name": "vast", "ram": 90_000_000, "vcpus": 1, "disk": 1,
    }})
    server_id = guests.boot()
    before = _held(cloud, server_id)
    assert guests.act(server_id, "resize", {"flavorRef": "vast"}).status_code == 202
    assert guests.settled(server_id, "ACTIVE")["flavor"]["original_name"] == "m1.tiny"
    assert _held(cloud, server_id) == before
    newest = guests.client.get(f"{BASE}/{server_id}/os-instance-actions").json()["instanceActions"][0]
    assert (newest["action"], newest["message"]) == ("resize", "Error")


def test_rebuild_keeps_the_power_and_takes_the_new(guests: Servers) -> None:
    server_id = guests.boot()
    guests.act(server_id, "os-stop")
    guests.settled(server_id, "SHUTOFF")
    reply = guests.act(server_id, "rebuild", {"imageRef": guests.image_id, "name": "again", "metadata": {"k": "v"}},
                        version="2.1")
    assert reply.status_code == 202
    assert reply.json()["server"]["adminPass"]
    shown = guests.settled(server_id, "SHUTOFF")
    assert (shown["name"], shown["metadata"]) == ("again", {"k": "v"})


def test_an_image_of_a_server(guests: Servers, one: str) -> None:
    old = guests.act(one, "createImage", {"name": "snap", "metadata": {"k": "v"}}, version="2.44")
    assert old.status_code == 202
    assert old.headers["location"].rpartition("/")[2]
    guests.settled(one, "ACTIVE")
    new = guests.act(one, "createImage", {"name": "snap"}, version="2.45")
    guests.settled(one, "ACTIVE")
    image = guests.client.get(f"/image/v2/images/{new.json()['image_id']}").json()
    assert (image["name"], image["status"], image["instance_uuid"]) == ("snap", "active", one)


def test_backups_rotate(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    for number in range(3):
        asked = {"name": f"backup-{number}", "backup_type": "daily", "rotation": 2}
        assert guests.act(server_id, "createBackup", asked).status_code == 202
        guests.settled(server_id, "ACTIVE")
        assert guests.client.loop.run_until_complete(work_once(cloud, "test"))
    found = guests.client.get("/image/v2/images?image_type=backup&sort=name").json()["images"]
    assert sorted(image["name"] for image in found) == ["backup-1", "backup-2"]


def test_a_shelved_server_uses_no_node(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    assert guests.act(server_id, "shelve").status_code == 202
    shown = guests.settled(server_id, "SHELVED_OFFLOADED")
    assert shown["OS-EXT-SRV-ATTR:host"] is None
    assert not cloud.db.run_sync(lambda tx: allocations.of_consumer(tx, server_id))
    assert guests.act(server_id, "unshelve").status_code == 202
    assert guests.settled(server_id, "ACTIVE")["OS-EXT-SRV-ATTR:host"]
    images = guests.client.get("/image/v2/images").json()["images"]
    assert not [image for image in images if image["name"] == "one-shelved"]


def test_consoles(cloud: Cloud, guests: Servers, one: str) -> None:
    from pileus.compute import consoles

    reply = guests.act(one, "os-getConsoleOutput", {"length": 3})
    assert reply.status_code == 200
    assert len(reply.json()["output"].splitlines()) <= 3
    asked = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    url = guests.client.post(f"{BASE}/{one}/remote-consoles", asked, version="2.6").json()["remote_console"]["url"]
    token = url.rpartition("token=")[2]
    now = cloud.world.now()
    found = cloud.db.run_sync(lambda tx: consoles.find(tx, token, now))
    assert found is not None
    assert found.server_id == one
    assert cloud.db.run_sync(lambda tx: consoles.find(tx, token, now + consoles.LIFETIME + 1)) is None
    assert cloud.db.run_sync(lambda tx: consoles.find(tx, "guess", now)) is None


def test_a_guest_that_stops_by_itself(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    host = guests.show(server_id)["OS-EXT-SRV-ATTR:host"]

    def tell(where: str, power: str) -> None:
        cloud.db.run_sync(lambda tx: domain.power_changed(
            tx, cloud, GuestReport(node=where, server_id=server_id, power=power)
        ))

    tell("another-node", "shutdown")
    assert guests.show(server_id)["status"] == "ACTIVE"
    tell(host, "shutdown")
    assert guests.show(server_id)["status"] == "SHUTOFF"
    tell(host, "running")
    assert guests.show(server_id)["status"] == "ACTIVE"


def test_what_lost_its_task_is_repaired(cloud: Cloud, guests: Servers) -> None:
    first, second = guests.boot(), guests.boot()
    for server_id, task_state in ((first, "powering-off"), (second, "deleting")):
        stuck = server.update().where(server.c.id == server_id).values(task_state=task_state, updated=1.0)
        cloud.db.run_sync(lambda tx, s=stuck: tx.execute(s))  # type: ignore[misc]
    assert cloud.db.run_sync(lambda tx: reconcile.reconcile(tx, cloud)) == 2
    assert guests.show(first)["OS-EXT-STS:task_state"] is None
    guests.gone(second)


def test_a_server_on_a_dead_node_can_be_deleted_but_not_stopped(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot()
    down = node.update().values(forced_down=True)
    cloud.db.run_sync(lambda tx: tx.execute(down))
    try:
        assert guests.act(server_id, "os-stop").status_code == 409
        assert guests.show(server_id)["host_status"] == "DOWN"
        assert guests.client.delete(f"{BASE}/{server_id}").status_code == 204
        assert guests.client.get(f"{BASE}/{server_id}").status_code == 404
    finally:
        cloud.db.run_sync(lambda tx: tx.execute(node.update().values(forced_down=False)))


def test_what_a_guest_learns_of_itself(cloud: Cloud, guests: Servers) -> None:
    server_id = guests.boot(user_data="aGVsbG8=", metadata={"role": "web"})

    def ask(path: str) -> tuple[int, str, bytes]:
        return cloud.db.run_sync(lambda tx: metadata.answer(tx, cloud, server_id, None, path))

    assert ask("/openstack/latest/user_data")[2] == b"hello"
    assert b'"meta":{"role":"web"}' in ask("/openstack/latest/meta_data.json")[2]
    assert ask("/latest/meta-data/placement/availability-zone")[2] == b"nova"
    assert ask("/latest/meta-data/nothing")[0] == 404
    assert ask("/openstack/2000-01-01")[0] == 404
    post = [cloud.db.run_sync(
        lambda tx: metadata.post(tx, cloud, server_id, "/openstack/2013-10-17/password", b"c2VjcmV0")
    )[0] for _ in range(2)]
    assert post == [200, 409]
    path = f"{BASE}/{server_id}/os-server-password"
    assert guests.client.get(path).json() == {"password": "c2VjcmV0"}
    assert guests.client.delete(path).status_code == 204
    assert guests.client.get(path).json() == {"password": ""}


def test_server_groups_keep_servers_apart(guests: Servers) -> None:
    body = {"server_group": {"name": "apart", "policy": "anti-affinity"}}
    group = guests.client.post("/compute/v2.1/os-server-groups", body, version="2.64").json()["server_group"]["id"]
    guests.boot(hints={"group": group})
    second = guests.ask(hints={"group": group}).json()["server"]["id"]
    assert "anti-affinity" in guests.settled(second, "ERROR")["fault"]["message"]
    assert guests.ask(hints={"group": "11111111-1111-1111-1111-111111111111"}).status_code == 400


def test_a_crash_dump_is_asked_of_the_guest(
    guests: Servers, one: str, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (agent,) = nodes.agents.values()
    refused = guests.act(one, "trigger_crash_dump", version="2.17")
    assert refused.status_code == 409
    assert "fake guest" in refused.text
    assert guests.act(one, "trigger_crash_dump", version="2.16").status_code == 404
    assert guests.act(one, "trigger_crash_dump", {}, version="2.17").status_code == 400
    interrupted: list[str] = []

    async def inject(server_id: str) -> None:
        interrupted.append(server_id)

    monkeypatch.setattr(agent.hypervisor, "inject_nmi", inject)
    assert guests.act(one, "trigger_crash_dump", version="2.17").status_code == 202
    assert interrupted == [one]
    log = guests.client.get(f"{BASE}/{one}/os-instance-actions").json()["instanceActions"]
    assert log[0]["action"] == "trigger_crash_dump"
    assert log[0]["message"] is None


def test_no_crash_dump_of_a_guest_that_is_off(guests: Servers, cloud: Cloud, one: str) -> None:
    guests.act(one, "os-stop")
    guests.settled(one, "SHUTOFF")
    assert guests.act(one, "trigger_crash_dump").status_code == 409
    guests.act(one, "os-start")
    guests.settled(one, "ACTIVE")


def test_nodes_tell_how_long_they_have_run(guests: Servers, nodes: LocalNodes) -> None:
    client, base = guests.client, "/compute/v2.1/os-hypervisors"
    (name,) = nodes.agents
    old = next(h for h in client.get(base).json()["hypervisors"] if h["hypervisor_hostname"] == name)
    found = client.get(f"{base}/{old['id']}/uptime").json()["hypervisor"]
    assert {k: found[k] for k in old} == old
    assert " up 0 min,  load average: " in found["uptime"]
    detail = client.get(base + "/detail", version="2.88").json()["hypervisors"]
    (item,) = [h for h in detail if h["hypervisor_hostname"] == name]
    assert " up 0 min,  load average: " in item["uptime"]
    assert item["host_ip"] == "127.0.0.1"
    one = client.get(f"{base}/{item['id']}", version="2.88").json()["hypervisor"]
    assert " up 0 min," in one["uptime"]
    assert client.get(f"{base}/{item['id']}/uptime", version="2.88").status_code == 404
