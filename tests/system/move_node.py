"""A node of real guests as a process of its own, which does what it is told on its standard input, and can be killed.

Run as: python -m tests.system.move_node <folder> <address> <image> [<folder of the disks>]
Each line in is [number, method, arguments], each line out [number, outcome], pickled and in hex.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from pathlib import Path
from typing import Any

from tests.system.test_qemu import Taps

from pileus.node.contract import ImageRef
from pileus.node.hypervisor.qemu import Qemu, QemuSettings


class OneImage:
    """The image cache of a node that has the one image."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def path(self, image: ImageRef) -> Path:
        return self._path


async def event(server_id: str, power: str) -> None:
    say(0, (server_id, power))


def say(number: int, outcome: object) -> None:
    sys.stdout.write(pickle.dumps((number, outcome)).hex() + "\n")
    sys.stdout.flush()


async def perform(driver: Qemu, number: int, method: str, arguments: tuple[Any, ...]) -> None:
    try:
        outcome = await getattr(driver, method)(*arguments)
    except Exception as error:
        outcome = error if type(error).__module__ == "pileus.node.contract" else RuntimeError(repr(error))
    say(number, outcome)


async def main(folder: str, address: str, image: str, disks: str = "") -> None:
    taps = Taps()
    settings = QemuSettings(
        state_dir=Path(folder), address=address, accel="tcg", disks_dir=Path(disks) if disks else None
    )
    driver = Qemu(settings, OneImage(Path(image)), taps)
    await driver.start(event)
    say(-1, "ready")
    reader = asyncio.StreamReader(limit=1 << 22)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    doing: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(perform(driver, *pickle.loads(bytes.fromhex(line.decode()))))
        doing.add(task)
        task.add_done_callback(doing.discard)
    await driver.stop()
    taps.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
