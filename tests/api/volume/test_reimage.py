"""os-reimage (3.68): an image is written over a volume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from pileus.node.contract import NodeFault
from tests.api.compute.disks import Disks
from tests.api.compute.guests import Servers, make_image, several_nodes
from tests.api.conftest import Client


@pytest.fixture(scope="module", autouse=True)
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 1) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def disks(cloud: Cloud, admin: Client) -> Disks:
    return Disks(admin, Servers(admin, make_image(cloud)))


def _ask(disks: Disks, volume_id: str, version: str = "3.68", **value: Any) -> Any:
    body = {"os-reimage": {"image_id": disks.servers.image_id, **value}}
    return disks.client.post(f"/volume/v3/volumes/{volume_id}/action", body, version=version)


def test_a_volume_gets_an_image(disks: Disks) -> None:
    volume = disks.make()
    assert disks.show(volume)["bootable"] == "false"
    assert _ask(disks, volume).status_code == 202
    found = disks.settled(volume, "available")
    assert (found["bootable"], found["volume_image_metadata"]["image_id"]) == ("true", disks.servers.image_id)


def test_what_cannot_be_is_refused(cloud: Cloud, disks: Disks) -> None:
    volume = disks.make()
    assert _ask(disks, volume, version="3.67").status_code == 404
    assert _ask(disks, volume, image_id="11111111-1111-1111-1111-111111111111").status_code == 400
    assert "needs 5 GiB" in _ask(disks, volume, image_id=make_image(cloud, min_disk=5)).text
    server_id = disks.servers.boot()
    disks.attached(server_id, volume)
    assert _ask(disks, volume).status_code == 400


def test_a_volume_that_could_not_be_overwritten_is_in_error_and_can_be_again(
    disks: Disks, nodes: LocalNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(order: Any) -> None:
        raise NodeFault("the disk is full")

    volume = disks.make()
    (agent,) = nodes.agents.values()
    with monkeypatch.context() as patch:
        patch.setattr(agent.storage, "reimage", broken)
        assert _ask(disks, volume).status_code == 202
        disks.settled(volume, "error")
    assert _ask(disks, volume).status_code == 202
    disks.settled(volume, "available")
