"""Images up and down."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

from benchmarks.client import Http
from benchmarks.lab import running
from benchmarks.promises import Measured

_MIB = 1 << 20
_SIZE = 256 * _MIB
_PIECE = _MIB
_RUNS = 5


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


def _move(base: Http, method: str, path: str, token: str, data: bytes | None = None) -> float:
    """Bytes a second of one transfer over a connection of its own, as plain blocking clients do it."""
    connection = http.client.HTTPConnection(base.host, base.port, timeout=120)
    began = time.perf_counter()
    headers = {"X-Auth-Token": token, "Content-Type": "application/octet-stream"}
    connection.request(method, path, data, headers if data is not None else {"X-Auth-Token": token})
    answer = connection.getresponse()
    buffer, size = bytearray(_PIECE), 0
    while got := answer.readinto(buffer):
        size += got
    taken = time.perf_counter() - began
    connection.close()
    if answer.status >= 400 or (data is None and size != _SIZE):
        raise RuntimeError(f"{method} {path}: {answer.status}, {size} bytes")
    return _SIZE / taken


async def measure() -> list[Measured]:
    """256 MiB of bytes that do not compress, five times each in turn; the medians are compared."""
    data = os.urandom(_SIZE)
    ups, hashes, downs, plains = [], [], [], []
    async with running() as cloud:
        ask, token = cloud.http.ok, cloud.token
        for _ in range(_RUNS):
            body = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
            image = (await ask("POST", "/image/v2/images", token, body)).json()["id"]
            path = f"/image/v2/images/{image}/file"
            hashes.append(await asyncio.to_thread(_hash, data))
            ups.append(await asyncio.to_thread(_move, cloud.http, "PUT", path, token, data))
            with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
                file.write(data)
                file.flush()
                with _plain(Path(file.name)) as plain:
                    await asyncio.to_thread(_move, cloud.http, "GET", path, token)  # both files are in memory then
                    downs.append(await asyncio.to_thread(_move, cloud.http, "GET", path, token))
                    plains.append(await asyncio.to_thread(_move, plain, "GET", "/", token))
            await ask("DELETE", f"/image/v2/images/{image}", token)
    up, digest, down, plain_down = (statistics.median(rates) for rates in (ups, hashes, downs, plains))
    return [
        Measured("image upload, of the machine's rate of the same hashes", up / digest, "", 0.6, True,
                 f"{up / _MIB:,.0f} MiB/s; hashes alone {digest / _MIB:,.0f} MiB/s"),
        Measured("image download, of a plain sendfile server", down / plain_down, "", 0.5, True,
                 f"{down / _MIB:,.0f} MiB/s; sendfile {plain_down / _MIB:,.0f} MiB/s"),
    ]
