"""The content of images: what goes in comes out, what must not be opened does not stay, nothing is left half done."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.cloud import Cloud
from pileus.image import data, repair, store
from pileus.image import images as rooms
from pileus.image.tables import image
from pileus.web.errors import UnsupportedMediaType
from tests.api.image.conftest import BINARY, Images, qcow2


def files(cloud: Cloud) -> set[str]:
    """All files of the store, once the threads are through with what they delete."""
    store.pool(cloud).submit(lambda: None).result()
    root = store.folder(cloud)
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and "trash" not in p.name}


def test_what_goes_in_comes_out(alice: Images, cloud: Cloud) -> None:
    content = os.urandom(5 << 20) + bytes(3 << 20) + os.urandom(12345)
    made = alice.create()
    alice("GET", f"/images/{made}/file", 204)
    alice.upload(made, content)
    got = alice("GET", f"/images/{made}", 200)
    assert (got["status"], got["size"], got["virtual_size"]) == ("active", len(content), len(content))
    assert got["checksum"] == hashlib.md5(content).hexdigest()
    assert (got["os_hash_algo"], got["os_hash_value"]) == ("sha512", hashlib.sha512(content).hexdigest())
    reply = alice.client.get(f"/image/v2/images/{made}/file")
    assert reply.content == content
    assert reply.headers["content-md5"] == got["checksum"]
    assert reply.headers["content-type"] == "application/octet-stream"
    path = store.final_path(cloud, made)
    assert path.stat().st_blocks * 512 < len(content) - (2 << 20)  # the zeros take no room
    alice.upload(made, b"again", status=409)
    alice("DELETE", f"/images/{made}", 204)
    assert made not in files(cloud)


def test_pieces_of_any_size_are_one_image(alice: Images) -> None:
    pieces = [os.urandom(n) for n in (1, 65536, 3 << 20, 7, 1)] + [bytes(2 << 20)]

    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    made = alice.create()
    alice("PUT", f"/images/{made}/file", 204, content=body(), headers=BINARY)
    assert alice.client.get(f"/image/v2/images/{made}/file").content == b"".join(pieces)


def test_an_empty_image(alice: Images) -> None:
    made = alice.create()
    alice.upload(made, b"")
    got = alice("GET", f"/images/{made}", 200)
    assert (got["size"], got["checksum"]) == (0, hashlib.md5(b"").hexdigest())
    assert alice.client.get(f"/image/v2/images/{made}/file").content == b""


@pytest.mark.parametrize(("header", "status", "wanted"), [
    ({"Range": "bytes=0-0"}, 206, b"0"), ({"Range": "bytes=2-4"}, 206, b"234"), ({"Range": "bytes=8-"}, 206, b"89"),
    ({"Range": "bytes=-3"}, 206, b"789"), ({"Range": "bytes=5-99"}, 206, b"56789"), ({"Range": "bytes=10-"}, 416, b""),
    ({"Range": "bytes=4-2"}, 416, b""), ({"Range": "lines=1-2"}, 416, b""), ({"Range": "bytes=0-1,3-4"}, 400, b""),
    ({"Range": "bytes=-"}, 416, b""), ({"Range": "bytes=-0"}, 416, b""),
    ({"Content-Range": "bytes 1-2/10"}, 206, b"12"), ({"Content-Range": "bytes 5-20/*"}, 416, b""),
])
def test_ranges(alice: Images, header: dict[str, str], status: int, wanted: bytes) -> None:
    made = alice.create()
    alice.upload(made, b"0123456789")
    reply = alice.client.get(f"/image/v2/images/{made}/file", headers=header)
    assert reply.status_code == status
    if status == 206:
        assert reply.content == wanted
        assert reply.headers["content-range"].endswith("/10")


def test_what_an_upload_needs(alice: Images) -> None:
    bare = alice("POST", "/images", 201, {"name": "no formats"})["id"]
    alice.upload(bare, b"x", status=400)
    made = alice.create()
    alice("PUT", f"/images/{made}/file", 415, content=b"x", headers={"Content-Type": "text/plain"})
    alice("PUT", "/images/none/file", 404, content=b"x", headers=BINARY)
    assert alice.status(made) == "queued"


def test_too_large_is_refused_early_and_late(alice: Images, cloud: Cloud) -> None:
    before, usual = files(cloud), cloud.settings
    cloud.settings = msgspec.structs.replace(usual, image_max_size=1 << 20)
    try:
        made = alice.create()
        alice.upload(made, bytes((1 << 20) + 1), status=413)

        async def body() -> AsyncIterator[bytes]:
            for _ in range(40):
                yield os.urandom(1 << 18)

        alice("PUT", f"/images/{made}/file", 413, content=body(), headers=BINARY)
        assert alice.status(made) == "queued"
        assert files(cloud) == before
        alice.upload(made, bytes(1 << 20))
    finally:
        cloud.settings = usual


@pytest.mark.parametrize(("form", "content", "why"), [
    ("qcow2", qcow2(backing=True), "backing file"), ("qcow2", b"no qcow2 at all", "it is raw"),
    ("raw", qcow2(), "it is qcow2"), ("vmdk", b"# Disk DescriptorFile\n", "points to other files"),
])
def test_what_must_not_be_opened_does_not_stay(
    alice: Images, cloud: Cloud, form: str, content: bytes, why: str
) -> None:
    before = files(cloud)
    made = alice.create(disk_format=form)
    body = alice("PUT", f"/images/{made}/file", 415, content=content, headers=BINARY)
    assert why in body["message"]
    assert alice.status(made) == "queued"
    assert files(cloud) == before


def test_a_qcow2_for_a_node(alice: Images, cloud: Cloud) -> None:
    made = alice.create(disk_format="qcow2", kernel_id=None)
    alice.upload(made, qcow2(size=5 << 30))
    found = cloud.db.run_sync(lambda tx: rooms.info(tx, made), write=False)
    assert found is not None
    ref = found.ref()
    assert (ref.disk_format, ref.virtual_size, ref.size, ref.kernel_id) == ("qcow2", 5 << 30, 65536, None)
    assert ref.sha512 == hashlib.sha512(qcow2(size=5 << 30)).hexdigest()


def test_a_broken_upload_leaves_nothing(alice: Images, cloud: Cloud) -> None:
    before = files(cloud)
    made = alice.create()
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": os.urandom(3 << 20), "more_body": True}, {"type": "http.disconnect"},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "PUT", "path": f"/image/v2/images/{made}/file", "query_string": b"",
        "headers": [(b"x-auth-token", (alice.client.token or "").encode()),
                    (b"content-type", b"application/octet-stream")],
    }
    alice.client.loop.run_until_complete(alice.client.app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert alice.status(made) == "queued"
    assert files(cloud) == before
    alice.upload(made, b"second try")


def test_an_image_deleted_during_its_upload(alice: Images, cloud: Cloud) -> None:
    before = files(cloud)
    made = alice.create()

    async def body() -> AsyncIterator[bytes]:
        yield os.urandom(3 << 20)
        assert cloud.db.run_sync(lambda tx: tx.execute(image.delete().where(image.c.id == made)).rowcount) == 1

    alice("PUT", f"/images/{made}/file", 410, content=body(), headers=BINARY)
    assert files(cloud) == before


def test_two_uploads_at_once_are_one(alice: Images) -> None:
    made = alice.create()

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        other = await alice.client.http.put(
            f"/image/v2/images/{made}/file", content=b"second",
            headers={**BINARY, "X-Auth-Token": alice.client.token or ""},
        )
        assert other.status_code == 409

    alice("PUT", f"/images/{made}/file", 204, content=body(), headers=BINARY)
    assert alice.client.get(f"/image/v2/images/{made}/file").content == b"first"


def test_a_deactivated_image_is_not_downloaded(alice: Images, images: Images) -> None:
    made = alice.create()
    alice("POST", f"/images/{made}/actions/deactivate", 403)
    alice.upload(made, b"x")
    alice("POST", f"/images/{made}/actions/deactivate", 204)
    alice("POST", f"/images/{made}/actions/deactivate", 204)
    alice("GET", f"/images/{made}/file", 403)
    assert images.client.get(f"/image/v2/images/{made}/file").content == b"x"
    alice("POST", f"/images/{made}/actions/reactivate", 204)
    assert alice.client.get(f"/image/v2/images/{made}/file").content == b"x"


# -- for other rooms


def test_a_snapshots_file_becomes_an_image(
    cloud: Cloud, loop: asyncio.AbstractEventLoop, tmp_path: Path, images: Images, admin: Any
) -> None:
    from pileus.identity.claims import verify

    context = cloud.db.run_sync(lambda tx: verify(tx, cloud, admin.token).context)

    def make(tx: Any) -> str:
        return rooms.create_for_snapshot(
            tx, cloud, context, name="snap", properties={"base": "x"}, min_disk=1, min_ram=2
        )

    made = cloud.db.run_sync(make)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"no qcow2")
    with pytest.raises(UnsupportedMediaType):
        loop.run_until_complete(data.store_file(cloud, made, wrong))
    assert images.status(made) == "queued"
    right = tmp_path / "right"
    right.write_bytes(qcow2())
    loop.run_until_complete(data.store_file(cloud, made, right))
    got = images("GET", f"/images/{made}", 200)
    assert (got["status"], got["base"], got["visibility"], got["min_disk"]) == ("active", "x", "private", 1)

    async def content() -> bytes:
        return b"".join([block async for block in data.read(cloud, made)])

    assert loop.run_until_complete(content()) == qcow2()
    given_up = cloud.db.run_sync(make)
    cloud.db.run_sync(lambda tx: rooms.fail(tx, cloud, given_up, "the node died"))
    images("GET", f"/images/{given_up}", 404)


# -- after a crash


def left_behind(cloud: Cloud, alice: Images, status: str, host: str, lease: float) -> tuple[str, Path]:
    """An image as a crash in the middle of its upload leaves it."""
    made = alice.create()
    path = store.folder(cloud, "incoming") / f"{made}.token"
    path.write_bytes(b"half")
    values = {"status": status, "transfer": "token", "transfer_host": host, "transfer_lease": lease}
    cloud.db.run_sync(lambda tx: tx.execute(image.update().where(image.c.id == made).values(**values)))
    return made, path


def test_a_start_puts_back_what_a_crash_left(alice: Images, cloud: Cloud) -> None:
    mine, path = left_behind(cloud, alice, "saving", cloud.controller, cloud.world.now() + 60)
    staged, _ = left_behind(cloud, alice, "uploading", cloud.controller, cloud.world.now() + 60)
    cloud.db.run_sync(lambda tx: repair.at_start(tx, cloud))
    assert (alice.status(mine), alice.status(staged)) == ("queued", "queued")
    assert not path.exists()
    alice.upload(mine, b"now")


def test_another_controllers_transfer_ends_with_its_lease(alice: Images, cloud: Cloud) -> None:
    alive, path = left_behind(cloud, alice, "saving", "elsewhere", cloud.world.now() + 60)
    dead, _ = left_behind(cloud, alice, "saving", "elsewhere", cloud.world.now() - 1)
    cloud.db.run_sync(lambda tx: repair.at_start(tx, cloud))
    cloud.db.run_sync(lambda tx: repair.expired(tx, cloud))
    assert (alice.status(alive), alice.status(dead)) == ("saving", "queued")
    assert path.exists()
    cloud.db.run_sync(lambda tx: tx.execute(image.update().where(image.c.id == alive).values(transfer_lease=0.0)))
    cloud.db.run_sync(lambda tx: repair.expired(tx, cloud))
    assert alice.status(alive) == "queued"


def test_files_of_no_image_go_when_they_are_old(alice: Images, cloud: Cloud) -> None:
    kept = alice.create()
    alice.upload(kept, b"kept")
    root = store.folder(cloud)
    orphans = [root / "orphan", root / "staged" / "orphan", root / "incoming" / "orphan"]
    for path in [*orphans, root / "young"]:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    for path in [*orphans, root / kept]:
        os.utime(path, (1, 1))
    cloud.db.run_sync(lambda tx: repair.orphans(tx, cloud))
    assert not any(path.exists() for path in orphans)
    assert (root / "young").exists()
    assert alice.client.get(f"/image/v2/images/{kept}/file").content == b"kept"
