"""Several controllers, each with a store of its own: images are had from any, kept on enough, and gone from all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.cluster import controllers
from pileus.image import copies, repair, replicate, store
from pileus.image.tables import image_copy
from pileus.settings import Settings
from pileus.web.app import App
from pileus.web.errors import NotFound, Unavailable
from pileus.work.jobs import work_once
from tests.api.conftest import PASSWORD, Client
from tests.api.image.conftest import BINARY, Images
from tests.conftest import Servers

DATA = os.urandom(3 << 20)


class Controllers:
    """Clouds on one database, with a state folder each."""

    def __init__(self, folder: Path, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.clouds = {name: self._make(folder / name, url, name) for name in "abc"}
        self.down: set[str] = set()
        self.alive()

    def _make(self, folder: Path, url: str, name: str) -> Cloud:
        cloud = Cloud(Settings(
            state_dir=str(folder), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
            listen="cloud.test:80", public_url="http://cloud.test", database=url, node_name=name, image_extra_size=0,
        ))
        cloud.open()
        return cloud

    def alive(self) -> None:
        """A sign of life of all that are not down."""
        for name in self.clouds.keys() - self.down:
            cloud = self.clouds[name]
            cloud.db.run_sync(lambda tx, c=cloud: controllers.beat(tx, c, f"{c.controller}:1", ["image"], "1", 1.0))

    def kill(self, name: str) -> None:
        """It gives no sign any more, and its port is closed."""
        self.down.add(name)
        self.clouds[name].db.run_sync(lambda tx: controllers.gone(tx, name))

    async def bytes_of(self, cloud: Cloud, name: str, image_id: str, kind: str = "image") -> AsyncIterator[bytes]:
        """What the cluster port does."""
        if name in self.down:
            raise Unavailable(f"Controller {name} cannot be reached.")
        path = copies.place(self.clouds[name], image_id, kind)
        if not path.is_file():
            raise NotFound("not here")
        async for block in store.read_file(self.clouds[name], path):
            yield block

    def look(self, *names: str, absent: float = 0.0) -> None:
        """One look of the background work of each."""
        for name in names or self.clouds:
            self.loop.run_until_complete(replicate.once(self.clouds[name], absent))

    def have(self, image_id: str, kind: str = "image") -> set[str]:
        """Who has the file; the rows must say the same."""
        files = {name for name, cloud in self.clouds.items() if copies.place(cloud, image_id, kind).exists()}
        rows = set(self.clouds["a"].db.run_sync(lambda tx: tx.scalars(
            sa.select(image_copy.c.controller).where(image_copy.c.image_id == image_id, image_copy.c.kind == kind)
        )))
        assert files == rows
        return files


@pytest.fixture(params=["sqlite", "postgresql"])
def trio(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path, loop: asyncio.AbstractEventLoop,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Controllers]:
    urls = iter([f"sqlite:///{tmp_path / 'pileus.db'}"])
    if request.param != "sqlite":
        urls = servers.get(request.param).database()
    for url in urls:
        made = Controllers(tmp_path, url, loop)
        monkeypatch.setattr("pileus.cluster.peers.image_bytes", made.bytes_of)
        yield made
        for cloud in made.clouds.values():
            cloud.db.close()


@pytest.fixture
def at(trio: Controllers) -> dict[str, Images]:
    """The administrator at each controller."""
    first = Client(App(trio.clouds["a"], trio.clouds["a"].served, {}), trio.loop).login("admin", PASSWORD, "admin")
    return {
        name: Images(Client(App(cloud, cloud.served, {}), trio.loop, first.token))
        for name, cloud in trio.clouds.items()
    }


def _content(images: Images, image_id: str) -> bytes:
    reply: httpx.Response = images.client.get(f"/image/v2/images/{image_id}/file")
    assert reply.status_code == 200, reply.text
    return reply.content


def _uploaded(images: Images) -> str:
    made = images.create()
    images.upload(made, DATA)
    return made


def test_an_image_is_had_from_any_controller_and_copied_once(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    assert trio.have(made) == {"a"}
    assert _content(at["b"], made) == DATA
    assert trio.have(made) == {"a", "b"}
    trio.look()
    assert trio.have(made) == {"a", "b"}


def test_many_who_ask_at_once_fetch_once(
    trio: Controllers, at: dict[str, Images], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, fetched = _uploaded(at["a"]), []

    async def counted(*words: Any) -> AsyncIterator[bytes]:
        fetched.append(words)
        async for block in trio.bytes_of(*words):
            yield block

    monkeypatch.setattr("pileus.cluster.peers.image_bytes", counted)

    async def ask() -> list[Path]:
        return list(await asyncio.gather(*(copies.here(trio.clouds["b"], made) for _ in range(10))))

    assert {path.read_bytes() for path in trio.loop.run_until_complete(ask())} == {DATA}
    assert len(fetched) == 1


def test_a_new_image_gets_its_copies_and_a_deleted_one_loses_all(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    trio.look()
    assert len(trio.have(made)) == 2
    at["c"]("DELETE", f"/images/{made}", 204)
    trio.look()
    assert trio.have(made) == set()


def test_a_dead_controllers_images_are_copied_again(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    trio.look()
    first = trio.have(made)
    trio.kill("a")
    trio.look("b", "c", absent=60)
    assert trio.have(made) == first  # it may only be starting again
    trio.look("b", "c")
    assert trio.have(made) == {"a", "b", "c"}
    assert _content(at["c"], made) == DATA


def test_no_controller_with_the_bytes_is_503(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    trio.kill("a")
    reply = at["b"].client.get(f"/image/v2/images/{made}/file")
    assert reply.status_code == 503
    assert "is on a, and cannot be had from there" in reply.text
    assert reply.headers["Retry-After"]


def test_bytes_that_are_not_the_images_are_not_kept(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    path = store.final_path(trio.clouds["a"], made)
    path.write_bytes(DATA[:-1] + b"x")
    assert at["b"].client.get(f"/image/v2/images/{made}/file").status_code == 503
    assert trio.have(made) == {"a"}
    assert not list(store.folder(trio.clouds["b"], "incoming").glob("*.fetch-*"))


def test_copies_that_nobody_needs_go_when_they_are_old(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    for name in "bc":
        assert _content(at[name], made) == DATA
    trio.look()
    assert trio.have(made) == {"a", "b", "c"}  # used just now
    for cloud in trio.clouds.values():
        os.utime(store.final_path(cloud, made), (1, 1))
    trio.look()
    assert len(trio.have(made)) == 2


def test_an_import_on_another_controller_than_where_it_was_staged(trio: Controllers, at: dict[str, Images]) -> None:
    made = at["a"].create()
    at["a"]("PUT", f"/images/{made}/stage", 204, content=DATA, headers=BINARY)
    assert trio.have(made, "staged") == {"a"}
    at["b"]("POST", f"/images/{made}/import", 202, {"method": {"name": "glance-direct"}})
    assert trio.loop.run_until_complete(work_once(trio.clouds["b"], "b"))
    assert at["c"].status(made) == "active"
    assert trio.have(made) == {"b"}
    trio.look()
    assert trio.have(made, "staged") == set()
    assert _content(at["c"], made) == DATA


def test_an_import_waits_for_the_controller_with_its_content(trio: Controllers, at: dict[str, Images]) -> None:
    made = at["a"].create()
    at["a"]("PUT", f"/images/{made}/stage", 204, content=DATA, headers=BINARY)
    at["b"]("POST", f"/images/{made}/import", 202, {"method": {"name": "glance-direct"}})
    trio.kill("a")
    assert trio.loop.run_until_complete(work_once(trio.clouds["b"], "b"))
    assert at["b"].status(made) == "importing"
    trio.down.clear()
    trio.alive()
    from pileus.work.tables import task

    trio.clouds["b"].db.run_sync(lambda tx: tx.execute(task.update().values(not_before=0.0)))
    assert trio.loop.run_until_complete(work_once(trio.clouds["b"], "b"))
    assert at["b"].status(made) == "active"


def test_a_start_counts_what_there_is(trio: Controllers, at: dict[str, Images]) -> None:
    made = _uploaded(at["a"])
    cloud = trio.clouds["a"]
    cloud.db.run_sync(lambda tx: tx.execute(image_copy.delete()))  # an image of before there were rows
    cloud.db.run_sync(lambda tx: repair.at_start(tx, cloud))
    assert trio.have(made) == {"a"}
    store.final_path(cloud, made).unlink()
    cloud.db.run_sync(lambda tx: repair.at_start(tx, cloud))
    assert trio.have(made) == set()


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_all_elect_the_same(wanted: int) -> None:
    names = ["a", "b", "c", "d"]
    for number in range(20):
        chosen = replicate.elect(f"image-{number}", names, {"a"}, wanted)
        assert chosen == replicate.elect(f"image-{number}", list(reversed(names)), {"a", "gone"}, wanted)
        assert len(chosen) == wanted - 1
        assert "a" not in chosen
    spread = {name for number in range(50) for name in replicate.elect(f"image-{number}", names, {"a"}, 2)}
    assert spread == {"b", "c", "d"}
