import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from pileus.node.contract import GuestGone, NodeFault, ServerSpec
from pileus.node.hypervisor.fake import Fake, FakeSettings

T = TypeVar("T")


def spec(**metadata: str) -> ServerSpec:
    return ServerSpec(
        id="s1", name="s1", hostname="s1", project_id="p", vcpus=1, memory_mib=64, root_gib=4,
        metadata={key.replace("_", ":", 1): value for key, value in metadata.items()},
    )


class Pair:
    """Two fake nodes."""

    def __init__(self, directory: Path) -> None:
        self.here = Fake(FakeSettings(state_dir=directory / "1", hostname="node1"))
        self.there = Fake(FakeSettings(state_dir=directory / "2", hostname="node2"))

    async def event(self, server_id: str, power: str) -> None: ...

    async def __aenter__(self) -> "Pair":
        await self.here.start(self.event)
        await self.there.start(self.event)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.here.stop()
        await self.there.stop()


def run(work: Awaitable[T]) -> T:
    async def inner() -> T:
        return await asyncio.wait_for(work, 10)

    return asyncio.run(inner())


def test_a_running_guest_moves(tmp_path: Path) -> None:
    async def work() -> None:
        async with Pair(tmp_path) as pair:
            given = spec()
            await pair.here.build(given)
            await pair.here.pause("s1")
            target = await pair.there.take_in(given, await pair.here.layout("s1"))
            assert await pair.there.take_in(given, "paused") == target
            assert (await pair.there.guest("s1")).power == "shutdown"
            await pair.here.power_off("s1", 0)
            with pytest.raises(NodeFault, match="did not arrive"):
                await pair.here.taken(given)
            await pair.here.power_on(given)
            await pair.here.send("s1", target)
            await pair.here.send("s1", target)
            assert (await pair.here.guest("s1")).power == "shutdown"
        async with Pair(tmp_path) as pair:
            await pair.here.send("s1", target)
            assert (await pair.there.taken(given)).power == "paused"
            assert (await pair.there.taken(given)).power == "paused"
            await pair.here.destroy("s1")

    run(work())


def test_a_guest_that_is_off_moves(tmp_path: Path) -> None:
    async def work() -> None:
        async with Pair(tmp_path) as pair:
            given = spec()
            await pair.here.build(given)
            with pytest.raises(NodeFault, match="is running"):
                await pair.here.export_disks("s1")
            await pair.here.power_off("s1", 0)
            source = await pair.here.export_disks("s1")
            assert await pair.here.export_disks("s1") == source
            await pair.there.fetch_disks(given, source)
            assert (await pair.there.guest("s1")).power == "shutdown"
            assert (await pair.there.build(given)).power == "running"
            await pair.here.end_export("s1")
            assert (await pair.here.power_on(given)).power == "running"
            with pytest.raises(GuestGone):
                await pair.here.end_export("s2")

    run(work())


def test_a_move_is_slow_and_is_aborted_or_forced(tmp_path: Path) -> None:
    async def work() -> None:
        async with Pair(tmp_path) as pair:
            given = spec(fake_send_delay="30")
            await pair.here.build(given)
            target = await pair.there.take_in(given, "running")
            await pair.here.abort_move("s1")
            assert (await pair.here.move_progress("s1")).memory_total == 0
            sending = asyncio.create_task(pair.here.send("s1", target))
            await asyncio.sleep(0.05)
            progress = await pair.here.move_progress("s1")
            assert 0 < progress.memory_done < progress.memory_left < progress.memory_total == 64 << 20
            await pair.here.abort_move("s1")
            with pytest.raises(NodeFault, match="aborted"):
                await sending
            assert (await pair.here.guest("s1")).power == "running"
            sending = asyncio.create_task(pair.here.send("s1", target))
            await asyncio.sleep(0)
            await pair.here.force_move("s1")
            await sending
            assert (await pair.here.guest("s1")).power == "shutdown"

    run(work())


def test_a_move_fails_or_hangs_as_told(tmp_path: Path) -> None:
    async def work() -> None:
        async with Pair(tmp_path) as pair:
            given = spec(fake_send_error="the wire was cut", fake_take_in_error="full", fake_nodes="node1")
            await pair.here.build(given)
            target = await pair.there.take_in(given, "running")
            with pytest.raises(NodeFault, match="the wire was cut"):
                await pair.here.send("s1", target)
            assert (await pair.here.guest("s1")).power == "running"
            await pair.here.destroy("s1")
            with pytest.raises(NodeFault, match="full"):
                await pair.here.take_in(given, "running")
            await pair.here.build(spec(fake_hang="send"))
            sending = asyncio.create_task(pair.here.send("s1", target))
            await asyncio.sleep(0.02)
            assert not sending.done()
            await pair.here.destroy("s1")
            await pair.here.build(spec())
            sending.cancel()

    run(work())
