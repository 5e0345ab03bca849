"""No volume stays between a server and freedom: what lost its task is put right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute.reconcile import reconcile
from pileus.compute.tables import block_device, server
from pileus.controller import LocalNodes
from pileus.work.tables import task
from tests.api.compute.disks import Disks, from_volume
from tests.api.compute.guests import Servers, eventually, make_image, several_nodes
from tests.api.compute.test_volume_boot import remove
from tests.api.conftest import Client


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 1) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def disks(cloud: Cloud, admin: Client) -> Disks:
    return Disks(admin, Servers(admin, make_image(cloud)))


def _lose(cloud: Cloud) -> int:
    """Forget all open tasks, and let time pass; how much the reconciler puts right."""
    def work(tx: Any) -> int:
        tx.execute(task.delete().where(task.c.state.in_(("pending", "running"))))
        tx.execute(block_device.update().values(updated=0.0))
        tx.execute(server.update().values(updated=0.0))
        return reconcile(tx, cloud)

    return cloud.db.run_sync(work)


def _states(cloud: Cloud) -> list[str]:
    return cloud.db.run_sync(lambda tx: tx.scalars(sa.select(block_device.c.state)))


@pytest.fixture
def made(disks: Disks) -> Iterator[str]:
    server_id = disks.servers.boot()
    yield server_id
    remove(disks.servers, server_id)


def test_a_volume_that_was_being_attached_is_free_again(
    cloud: Cloud, disks: Disks, made: str, nodes: LocalNodes
) -> None:
    volume = disks.make()
    with pytest.MonkeyPatch.context() as patch:
        _deafen(nodes, patch)
        assert disks.attach(made, volume).status_code == 200
        assert _states(cloud) == ["plugging"]
        assert cloud.db.run_sync(lambda tx: reconcile(tx, cloud)) == 0
        assert _lose(cloud) == 1
    assert (disks.listed(made), disks.show(volume)["status"]) == ([], "available")


def test_a_volume_that_was_being_detached_is_still_there(
    cloud: Cloud, disks: Disks, made: str, nodes: LocalNodes
) -> None:
    volume = disks.make()
    disks.attached(made, volume)
    with pytest.MonkeyPatch.context() as patch:
        _deafen(nodes, patch)
        assert disks.detach(made, volume).status_code == 202
        assert disks.show(volume)["status"] == "detaching"
        assert _lose(cloud) == 1
    assert (_states(cloud), disks.show(volume)["status"]) == (["attached"], "in-use")


def test_a_server_that_waits_for_a_volume_for_ever_is_in_error(
    cloud: Cloud, disks: Disks, nodes: LocalNodes, admin: Client
) -> None:
    volume = disks.bootable()
    with pytest.MonkeyPatch.context() as patch:
        _deafen(nodes, patch)
        asked = disks.servers.ask(imageRef="", block_device_mapping_v2=[from_volume(volume)])
        server_id = asked.json()["server"]["id"]
        assert disks.servers.show(server_id)["OS-EXT-STS:task_state"] == "block_device_mapping"
        cloud.db.run_sync(lambda tx: tx.execute(server.update().values(updated=0.0)))
        assert cloud.db.run_sync(lambda tx: reconcile(tx, cloud)) == 0  # its volume's task is still there
        assert _lose(cloud) == 1
    assert "were lost" in disks.servers.settled(server_id, "ERROR")["fault"]["message"]
    remove(disks.servers, server_id)
    disks.settled(volume, "available")
    eventually(admin, lambda: _states(cloud) == [])


def _deafen(nodes: LocalNodes, patch: pytest.MonkeyPatch) -> None:
    """Let the node take tasks, and never be heard of again."""
    (agent,) = nodes.agents.values()

    async def never(task: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    patch.setattr(agent, "perform", never)
