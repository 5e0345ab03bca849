import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pileus.node.contract import ImageRef, NodeFault
from pileus.node.images import ImageCache

DATA = os.urandom(3 << 20)


def ref(data: bytes = DATA, sha512: str | None = None) -> ImageRef:
    return ImageRef(id="img", disk_format="raw", size=len(data), sha512=sha512 or hashlib.sha512(data).hexdigest())


class Source:
    def __init__(self, data: bytes = DATA, fail_after: int | None = None) -> None:
        self.data, self.fail_after, self.calls = data, fail_after, 0
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()
        self.go_on.set()

    async def fetch(self, image_id: str) -> AsyncIterator[bytes]:
        self.calls += 1
        self.asked.set()
        await self.go_on.wait()
        for start in range(0, len(self.data), 100_000):
            if self.fail_after is not None and start > self.fail_after:
                raise ConnectionResetError("gone")
            await asyncio.sleep(0)
            yield self.data[start : start + 100_000]


def test_many_ask_and_it_is_fetched_once(tmp_path: Path) -> None:
    source = Source()
    cache = ImageCache(tmp_path / "c", source.fetch)

    async def ask() -> list[Path]:
        return await asyncio.gather(*(cache.path(ref()) for _ in range(20)))

    paths = asyncio.run(ask())
    assert source.calls == 1
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == DATA
    assert paths[0].stat().st_mode & 0o777 == 0o444
    again = ImageCache(tmp_path / "c", source.fetch)
    assert asyncio.run(again.path(ref())) == paths[0]
    assert source.calls == 1


@pytest.mark.parametrize(
    ("source", "image", "why"),
    [
        (Source(), ref(sha512="0" * 128), "hash"),
        (Source(DATA[:-1]), ref(), "bytes came"),
        (Source(DATA + b"x"), ref(), "longer"),
        (Source(fail_after=1_500_000), ref(), "gone"),
        (Source(), ref(sha512="../../etc/passwd"), "sha512"),
    ],
)
def test_what_is_not_the_image_never_gets_its_name(tmp_path: Path, source: Source, image: ImageRef, why: str) -> None:
    cache = ImageCache(tmp_path / "c", source.fetch)
    with pytest.raises(NodeFault, match=why):
        asyncio.run(cache.path(image))
    assert not (tmp_path / "c").exists() or list((tmp_path / "c").iterdir()) == []


def test_a_failure_is_told_to_all_and_the_next_one_tries_again(tmp_path: Path) -> None:
    source = Source(fail_after=0)
    cache = ImageCache(tmp_path, source.fetch)

    async def ask() -> None:
        source.go_on.clear()
        asking = [asyncio.create_task(cache.path(ref()))]
        await source.asked.wait()
        asking += [asyncio.create_task(cache.path(ref())) for _ in range(2)]
        await asyncio.sleep(0)  # they wait for the same now
        source.go_on.set()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(result, NodeFault) for result in results)
        source.fail_after = None
        assert (await cache.path(ref())).read_bytes() == DATA

    asyncio.run(ask())
    assert source.calls == 2


def test_one_who_gives_up_does_not_take_it_from_the_others(tmp_path: Path) -> None:
    source = Source()
    cache = ImageCache(tmp_path, source.fetch)

    async def ask() -> None:
        first, second = asyncio.create_task(cache.path(ref())), asyncio.create_task(cache.path(ref()))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second).read_bytes() == DATA

    asyncio.run(ask())
    assert source.calls == 1


def test_a_local_file_is_linked_and_survives_its_owner(tmp_path: Path) -> None:
    source, store = Source(), tmp_path / "store"
    store.write_bytes(DATA)
    cache = ImageCache(tmp_path / "c", source.fetch, local=lambda image: store, reader_gid=os.getgid())
    path = asyncio.run(cache.path(ref()))
    assert path.stat().st_ino == store.stat().st_ino
    assert path.stat().st_mode & 0o777 == 0o440
    store.unlink()
    assert asyncio.run(cache.path(ref())).read_bytes() == DATA
    assert source.calls == 0


def test_a_local_file_of_another_size_is_not_believed(tmp_path: Path) -> None:
    source, store = Source(), tmp_path / "store"
    store.write_bytes(b"short")
    cache = ImageCache(tmp_path / "c", source.fetch, local=lambda image: store)
    assert asyncio.run(cache.path(ref())).read_bytes() == DATA
    assert source.calls == 1
    assert store.read_bytes() == b"short"


def test_cleaning_keeps_what_is_used_or_young(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, Source().fetch)
    path = asyncio.run(cache.path(ref()))
    part = tmp_path / ("a" * 128 + ".part")
    part.write_bytes(b"left by a crash")
    stranger = tmp_path / "readme"
    stranger.write_text("not ours")
    assert asyncio.run(cache.clean(3600, set())) == 0
    old = time.time() - 7200
    for file in tmp_path.iterdir():
        os.utime(file, (old, old))
    assert asyncio.run(cache.clean(3600, {path.name})) == 15
    assert path.exists()
    assert asyncio.run(cache.clean(3600, set())) == len(DATA)
    assert list(tmp_path.iterdir()) == [stranger]
