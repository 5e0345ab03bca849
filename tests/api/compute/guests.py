"""A cloud whose fake node works: what specifications of servers need beside the application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from pileus.auth.context import Context
from pileus.cloud import Cloud
from pileus.cluster import watch
from pileus.controller import LocalLink, LocalNodes
from pileus.image import images
from pileus.image.tables import image
from pileus.node import assemble
from tests.api.conftest import Client

_PATIENCE = 500


def make_image(cloud: Cloud, **values: Any) -> str:
    """A public image that can be booted; the fake hypervisor never reads its bytes."""

    def write(tx: Any) -> str:
        owner = Context(user_id="nobody", project_id="nobody")
        made = images.create_for_snapshot(tx, cloud, owner, name="tiny", properties={}, min_disk=0, min_ram=0)
        facts = {
            "status": "active", "visibility": "public", "size": 1 << 20, "virtual_size": 1 << 20,
            "found_format": "qcow2", "os_hash_value": "0" * 128, "os_hash_algo": "sha512",
        }
        tx.execute(image.update().where(image.c.id == made).values(**{**facts, **values}))
        return made

    return cloud.db.run_sync(write)


@contextlib.contextmanager
def working_nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    """The cloud's fake nodes, at work until the end."""
    nodes = LocalNodes(cloud)
    nodes.agents.update(assemble.make_agents(cloud.settings, lambda name: LocalLink(cloud, name), lambda ref: None))
    runs = [loop.create_task(agent.run()) for agent in nodes.agents.values()]
    runs.append(loop.create_task(watch.run(cloud, nodes.here)))

    async def ready() -> None:
        for agent in nodes.agents.values():
            await asyncio.wait_for(agent.ready.wait(), 10)

    loop.run_until_complete(ready())
    try:
        yield nodes
    finally:
        for run in runs:
            run.cancel()
        loop.run_until_complete(asyncio.gather(*runs, return_exceptions=True))


@contextlib.contextmanager
def several_nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop, count: int) -> Iterator[LocalNodes]:
    """So many fake nodes at work, and the controllers' own jobs, until the end."""
    cloud.settings = msgspec.structs.replace(cloud.settings, fake_nodes=count, node_name="node")
    with working_nodes(cloud, loop) as nodes:
        jobs = loop.create_task(cloud.run_jobs("test"))
        yield nodes
        jobs.cancel()
        loop.run_until_complete(asyncio.gather(jobs, return_exceptions=True))


def eventually(client: Client, test: Callable[[], Any]) -> Any:
    """What `test` returns once it is true. Fails after a while."""
    for _ in range(_PATIENCE):
        found = test()
        if found:
            return found
        client.loop.run_until_complete(asyncio.sleep(0.01))
    raise AssertionError("it did not happen in time")


class Servers:
    """Servers as a user has them: made, acted upon, waited for."""

    def __init__(self, client: Client, image_id: str, flavor: str = "1") -> None:
        self.client, self.image_id, self.flavor = client, image_id, flavor

    def ask(self, *, hints: dict[str, Any] | None = None, version: str = "2.37", **fields: Any) -> Any:
        """POST /servers, whatever it answers."""
        fields.setdefault("networks", "none")
        server = {"name": "one", "imageRef": self.image_id, "flavorRef": self.flavor, **fields}
        body: dict[str, Any] = {"server": {k: v for k, v in server.items() if v is not None}}
        if hints:
            body["os:scheduler_hints"] = hints
        return self.client.post("/compute/v2.1/servers", body, version=version)

    def boot(self, **options: Any) -> str:
        """A server that is ACTIVE; its id."""
        reply = self.ask(**options)
        assert reply.status_code == 202, reply.text
        server_id: str = reply.json()["server"]["id"]
        self.settled(server_id, "ACTIVE")
        return server_id

    def show(self, server_id: str, version: str = "2.96") -> dict[str, Any]:
        reply = self.client.get(f"/compute/v2.1/servers/{server_id}", version=version)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()["server"]
        return found

    def settled(self, server_id: str, status: str) -> dict[str, Any]:
        """The server once it has this status and nothing goes on any more."""

        def test() -> Any:
            found = self.show(server_id)
            return found if found["status"] == status and found["OS-EXT-STS:task_state"] is None else None

        found: dict[str, Any] = eventually(self.client, test)
        return found

    def act(self, server_id: str, action: str, value: Any = None, version: str = "2.96") -> Any:
        """POST …/action."""
        return self.client.post(f"/compute/v2.1/servers/{server_id}/action", {action: value}, version=version)

    def gone(self, server_id: str) -> None:
        """Wait until the server is not found."""
        path = f"/compute/v2.1/servers/{server_id}"
        eventually(self.client, lambda: self.client.get(path).status_code == 404)
