"""Images up and down."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.client import Http
from benchmarks.lab import free_port, running
from benchmarks.promises import Measured

_SIZE = 256 << 20


def _hash(data: bytes) -> float:
    """Bytes a second at which this machine computes MD5 and SHA-512 of `data`, each in a thread of its own."""

    def digest(name: str) -> None:
        state = hashlib.new(name)
        view = memoryview(data)
        for at in range(0, len(view), 1 << 20):
            state.update(view[at : at + (1 << 20)])

    threads = [threading.Thread(target=digest, args=(name,)) for name in ("md5", "sha512")]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(data) / (time.perf_counter() - began)


@contextlib.contextmanager
def _plain(file: Path) -> Iterator[Http]:
    """A server that answers every request with the file by sendfile."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.sendfile", str(port), str(file)])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            time.sleep(0.05)
        yield Http(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait()


async def measure() -> list[Measured]:
    """256 MiB of bytes that do not compress, three times each; the best of each is compared."""
    data = os.urandom(_SIZE)
    async with running() as cloud:
        ask, token = cloud.http.ok, cloud.token
        ups: list[float] = []
        hashes: list[float] = []
        downs: list[float] = []
        plains: list[float] = []
        for _ in range(3):
            body = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
            image = (await ask("POST", "/image/v2/images", token, body)).json()["id"]
            hashes.append(_hash(data))
            began = time.perf_counter()
            await ask("PUT", f"/image/v2/images/{image}/file", token, data)
            ups.append(_SIZE / (time.perf_counter() - began))
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                with _plain(Path(file.name)) as plain:
                    mine = f"/image/v2/images/{image}/file"
                    for http, path, rates in ((cloud.http, mine, downs), (plain, "/", plains)):
                        began = time.perf_counter()
                        answer = await http.ok("GET", path, token, count_only=True)
                        rates.append(answer.size / (time.perf_counter() - began))
            await ask("DELETE", f"/image/v2/images/{image}", token)
    mib = 1 << 20
    return [
        Measured("image upload, of the machine's rate of the same hashes", max(ups) / max(hashes), "", 0.6, True,
                 f"{max(ups) / mib:,.0f} MiB/s; hashes alone {max(hashes) / mib:,.0f} MiB/s"),
        Measured("image download, of a plain sendfile server", max(downs) / max(plains), "", 0.5, True,
                 f"{max(downs) / mib:,.0f} MiB/s; sendfile {max(plains) / mib:,.0f} MiB/s"),
    ]
