import asyncio
import json
import shutil
import subprocess
import tracemalloc
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import pytest

from pileus.node.contract import GuestGone, ImageRef, NodeFault, ServerSpec
from pileus.node.hypervisor.fake import Fake, FakeSettings, qcow2
from pileus.node.hypervisor.fake.journal import SPARE, FakeGuest, Journal
from pileus.node.hypervisor.protocol import Hypervisor

T = TypeVar("T")
IMAGE = ImageRef(id="i", disk_format="qcow2", size=1, sha512="0" * 128, virtual_size=2 << 30)


def spec(name: str = "s1", metadata: dict[str, str] | None = None, **more: str) -> ServerSpec:
    return ServerSpec(
        id=name,
        name=name,
        hostname=name,
        project_id="p",
        vcpus=1,
        memory_mib=64,
        root_gib=4,
        image=IMAGE,
        metadata=metadata or {},
        extra_specs={key.replace("_", ":", 1): value for key, value in more.items()},
    )


class Node:
    def __init__(self, directory: Path) -> None:
        self.events: list[tuple[str, str]] = []
        self._heard = asyncio.Condition()
        self.fake = Fake(FakeSettings(state_dir=directory, hostname="node1"))

    async def event(self, server_id: str, power: str) -> None:
        async with self._heard:
            self.events.append((server_id, power))
            self._heard.notify_all()

    async def hears(self, count: int) -> None:
        """Waits until there are so many events."""
        async with self._heard:
            await self._heard.wait_for(lambda: len(self.events) >= count)

    async def __aenter__(self) -> "Node":
        await self.fake.start(self.event)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.fake.stop()


def run(work: Awaitable[T]) -> T:
    async def inner() -> T:
        return await asyncio.wait_for(work, 10)

    return asyncio.run(inner())


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    driver: Hypervisor = Fake(FakeSettings(state_dir=tmp_path))
    assert run(driver.facts()).hypervisor_type == "fake"


def test_guests_survive_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            for name in ("s1", "s2", "s3"):
                assert (await node.fake.build(spec(name))).power == "running"
            await node.fake.pause("s1")
            await node.fake.destroy("s2")
            await node.fake.destroy("s2")
        journal = tmp_path / "guests"
        journal.write_bytes(journal.read_bytes() + b'["s3","cut o')
        async with Node(tmp_path) as node:
            assert {guest.id: guest.power for guest in await node.fake.guests()} == {"s1": "paused", "s3": "running"}
            await node.fake.power_off("s3", 0)
        async with Node(tmp_path) as node:
            assert (await node.fake.guest("s3")).power == "shutdown"
            with pytest.raises(GuestGone):
                await node.fake.guest("s2")

    run(work())


def test_powers_follow_each_other_as_they_do_in_real_guests(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            fake = node.fake
            await fake.build(spec())
            assert (await fake.suspend("s1")).power == "suspended"
            with pytest.raises(NodeFault, match="is suspended"):
                await fake.pause("s1")
            assert (await fake.resume(spec())).power == "running"
            assert (await fake.power_off("s1", 10)).power == "shutdown"
            assert (await fake.power_off("s1", 10)).power == "shutdown"
            assert (await fake.reboot(spec(), True, 0)).power == "running"
            with pytest.raises(NodeFault, match="no screen"):
                await fake.vnc_socket("s1")
            with pytest.raises(GuestGone):
                await fake.pause("other")

    run(work())


def test_faults_are_told_by_metadata_before_extra_specs(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            with pytest.raises(NodeFault, match="no more disks"):
                await node.fake.build(spec(fake_build_error="no more disks"))
            assert await node.fake.guests() == []
            wrong = {"fake:build_error": "from metadata"}
            with pytest.raises(NodeFault, match="from metadata"):
                await node.fake.build(spec(metadata=wrong, fake_build_error="from flavor"))
            await node.fake.build(spec(fake_build_error="elsewhere", fake_nodes="node2, node3"))
            with pytest.raises(NodeFault, match="not a number"):
                await node.fake.build(spec("s2", fake_die_after="soon"))

    run(work())


def test_delay_and_hang(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            await node.fake.build(spec(fake_build_delay="0.05", fake_hang="suspend, snapshot"))
            assert loop.time() - begin >= 0.05
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(node.fake.suspend("s1"), 0.05)
            assert (await node.fake.guest("s1")).power == "running"
            await node.fake.pause("s1")

    run(work())


def test_it_dies_when_told_even_if_the_agent_was_away(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            await node.fake.build(spec("s1", fake_die_after="0.05"))
            await node.fake.build(spec("s2", fake_shutdown_after="0.05"))
            await node.fake.build(spec("s3", fake_die_after="1.5"))
            await node.hears(2)
            assert node.events == [("s1", "crashed"), ("s2", "shutdown")]
        await asyncio.sleep(1.5)
        async with Node(tmp_path) as node:
            await node.hears(1)
            assert node.events == [("s3", "crashed")]
            assert (await node.fake.guest("s3")).power == "crashed"

    run(work())


def test_a_flavor_too_small_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            small = ServerSpec(
                id="a", name="a", hostname="a", project_id="p", vcpus=1, memory_mib=1, root_gib=1, image=IMAGE
            )
            with pytest.raises(NodeFault, match="choose a larger flavor"):
                await node.fake.build(small)

    run(work())


def test_the_console_says_that_it_is_fake(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            await node.fake.build(spec())
            text = (await node.fake.console_log("s1", None)).decode()
            assert "fake guest" in text
            assert "s1" in text
            assert len((await node.fake.console_log("s1", 10)).split(b"\n")) == 10
            assert await node.fake.console_log("s1", 0) == b""

    run(work())


@pytest.mark.parametrize("size", [1, 1 << 30, 5 << 40])
def test_a_snapshot_is_a_valid_disk(tmp_path: Path, size: int) -> None:
    target = tmp_path / "x.qcow2"
    qcow2.write_empty(target, size)
    assert target.read_bytes()[:4] == b"QFI\xfb"
    assert int.from_bytes(target.read_bytes()[24:32], "big") == -(-size // 512) * 512
    if shutil.which("qemu-img"):
        found = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", str(target)]))
        assert (found["format"], found["virtual-size"]) == ("qcow2", -(-size // 512) * 512)
        subprocess.run(["qemu-img", "check", "-q", str(target)], check=True)


def test_a_snapshot_has_the_size_of_the_root_disk(tmp_path: Path) -> None:
    async def work() -> None:
        async with Node(tmp_path) as node:
            await node.fake.build(spec())
            await node.fake.snapshot("s1", tmp_path / "snap")
            assert int.from_bytes((tmp_path / "snap").read_bytes()[24:32], "big") == 4 << 30

    run(work())


def test_the_journal_does_not_grow_without_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    guest = FakeGuest(id="a", name="a", power="running", vcpus=1, memory_mib=1, root_bytes=1)
    for _ in range(3 * SPARE):
        journal.put(guest)
    assert len((tmp_path / "j").read_bytes().splitlines()) <= SPARE + 5
    again = Journal(tmp_path / "j")
    again.load()
    assert again.guests == {"a": guest}


def test_a_thousand_nodes_take_little_memory(tmp_path: Path) -> None:
    async def work() -> float:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        nodes = [Fake(FakeSettings(state_dir=tmp_path / str(n), hostname=f"n{n}")) for n in range(1000)]

        async def event(server_id: str, power: str) -> None:
            raise AssertionError

        for node in nodes:
            await node.start(event)
            await node.build(spec(node._settings.hostname))
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert len(asyncio.all_tasks()) <= 2
        return taken / 1000

    assert run(work()) < 6000  # bytes a node, with one guest
