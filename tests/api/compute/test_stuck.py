"""Nothing stays stuck: what is not done in time ends in an error that says why, and can be deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import nodes
from pileus.compute.reconcile import reconcile
from pileus.compute.tables import server as server_table
from pileus.controller import LocalLink
from pileus.node.contract import GuestReport, TaskResult
from pileus.settings import Settings
from pileus.work import tasks
from pileus.work.tables import task
from tests.api.compute.guests import Servers, make_image, working_nodes
from tests.api.conftest import PASSWORD, Client


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One in which nothing may take longer than half a second."""
    cloud = Cloud(Settings(
        state_dir=str(tmp_path_factory.mktemp("cloud")), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4,
        log_level="error", listen="cloud.test:80", public_url="http://cloud.test", build_timeout=0.5,
    ))
    cloud.open()
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def servers(cloud: Cloud, admin: Client, loop: asyncio.AbstractEventLoop) -> Iterator[Servers]:
    image = make_image(cloud)
    with working_nodes(cloud, loop):
        yield Servers(admin, image)


def _made(servers: Servers, **metadata: str) -> str:
    reply = servers.ask(metadata={f"fake:{name}": value for name, value in metadata.items()})
    assert reply.status_code == 202, reply.text
    made: str = reply.json()["server"]["id"]
    return made


def test_a_build_that_hangs_ends_in_error_and_can_be_deleted(servers: Servers, admin: Client) -> None:
    made = _made(servers, hang="build")
    shown = servers.settled(made, "ERROR")
    assert "not done by its deadline" in shown["fault"]["message"]
    assert admin.delete(f"/compute/v2.1/servers/{made}").status_code == 204
    servers.gone(made)


def test_a_delete_while_building_does_not_wait_for_the_build(servers: Servers, admin: Client) -> None:
    made = _made(servers, build_delay="30")
    admin.loop.run_until_complete(asyncio.sleep(0.05))
    assert admin.delete(f"/compute/v2.1/servers/{made}").status_code == 204
    servers.gone(made)


def test_an_action_that_hangs_leaves_the_server_usable(servers: Servers, admin: Client) -> None:
    made = _made(servers, hang="pause")
    servers.settled(made, "ACTIVE")
    assert servers.act(made, "pause").status_code == 202
    servers.settled(made, "ACTIVE")
    assert servers.act(made, "os-stop").status_code == 202
    servers.settled(made, "SHUTOFF")
    admin.delete(f"/compute/v2.1/servers/{made}")
    servers.gone(made)


def test_a_delete_that_hangs_ends_in_error_and_can_be_asked_for_again(servers: Servers, admin: Client) -> None:
    made = _made(servers, hang="destroy")
    servers.settled(made, "ACTIVE")
    admin.delete(f"/compute/v2.1/servers/{made}")
    shown = servers.settled(made, "ERROR")
    assert "server.destroy" in shown["fault"]["message"]
    assert admin.delete(f"/compute/v2.1/servers/{made}").status_code == 204


def test_a_result_that_comes_twice_counts_once(cloud: Cloud, servers: Servers, admin: Client) -> None:
    made = _made(servers)
    servers.settled(made, "ACTIVE")
    last: Any = cloud.db.run_sync(lambda tx: tx.first(
        sa.select(task).where(task.c.resource == f"server:{made}").order_by(task.c.seq.desc()).limit(1)
    ))
    late = TaskResult(task_id=last.id, node=last.node, ok=False, error="late")
    assert not cloud.db.run_sync(lambda tx: tasks.finish(tx, cloud, late))
    assert servers.show(made)["status"] == "ACTIVE"


def test_a_server_whose_task_is_lost_is_put_right(cloud: Cloud, servers: Servers, admin: Client) -> None:
    made = _made(servers)
    servers.settled(made, "ACTIVE")
    lost = server_table.update().where(server_table.c.id == made).values(task_state="deleting", updated=0.0)
    cloud.db.run_sync(lambda tx: tx.execute(lost))
    assert cloud.db.run_sync(lambda tx: reconcile(tx, cloud)) == 1
    servers.gone(made)


def test_a_snapshot_that_was_stored_before_a_kill_is_not_stored_again(
    cloud: Cloud, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    image = make_image(cloud)
    # The node makes the snapshot anew, for its task was not ended; the image has its content already.
    loop.run_until_complete(LocalLink(cloud, "n1").image_store(image, tmp_path / "never read"))


def test_a_guest_that_crashes_leaves_a_stopped_server_and_says_so(
    cloud: Cloud, servers: Servers, admin: Client
) -> None:
    made = _made(servers)
    servers.settled(made, "ACTIVE")
    node = servers.show(made)["OS-EXT-SRV-ATTR:host"]
    report = GuestReport(node=node, server_id=made, power="crashed")
    busy = server_table.update().where(server_table.c.id == made)
    cloud.db.run_sync(lambda tx: tx.execute(busy.values(task_state="pausing")))
    assert cloud.db.run_sync(lambda tx: nodes.guest_changed(tx, cloud, report)), "to be told again"
    cloud.db.run_sync(lambda tx: tx.execute(busy.values(task_state=None)))
    assert not cloud.db.run_sync(lambda tx: nodes.guest_changed(tx, cloud, report))
    assert servers.show(made)["status"] == "SHUTOFF"
    path = f"/compute/v2.1/servers/{made}/os-instance-actions"
    newest = admin.get(path, version="2.84").json()["instanceActions"][0]
    assert (newest["action"], newest["message"]) == ("stop", "Error")
    shown = admin.get(f"{path}/{newest['request_id']}", version="2.84").json()["instanceAction"]
    assert f"the guest crashed on node {node}" in shown["events"][0]["details"]
