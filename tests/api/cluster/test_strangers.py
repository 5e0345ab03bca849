"""Who has no certificate: takes little, changes nothing, and keeps nobody else out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pileus.cluster import certificates, frames, listener, nodes
from pileus.cluster.frames import Broken, Data, Hello
from pileus.node.identity import CannotJoin, Joining
from tests.api.cluster.bench import Controller, Hand, answer, dial

Join = Callable[..., Hand]


def _anyone() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_garbage_and_huge_frames_end_a_connection_and_nothing_else(
    controller: Controller, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE", 0.5)
    monkeypatch.setattr(listener, "HELLO", 0.5)
    hand = join("s1")
    controller.do(hand.connect())
    chance = random.Random(5)
    sent = [
        b"\xff\xff\xff\xff", (frames.LARGEST_HELLO + 1).to_bytes(4, "big") + bytes(1 << 20), b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x00", frames.encode(Data(b"x")), chance.randbytes(5000),
        b"\x00\x00\xc3\x84\x83\xa4type\xa5hello\xa7purpose\xa1x\xa9arguments\x81\xa1a" + b"\x91" * 50_000,
    ]

    async def send(context: ssl.SSLContext, data: bytes) -> None:
        reader, writer = await dial(controller.server, context)
        try:
            writer.write(data)
            await asyncio.wait_for(writer.drain(), 5)
            said = await asyncio.wait_for(reader.read(), 5)
        except (OSError, Broken):
            return
        finally:
            writer.close()
        assert said == b"" or b"refused" in said or b"failure" in said

    async def run() -> None:
        for data in sent:
            await send(_anyone(), data)
            await send(hand.context(), data)
        host, _, port = controller.server.rpartition(":")
        for data in sent:  # not even TLS
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(data)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), listener.HANDSHAKE + 2)
            writer.close()
        assert await hand.say("network_state", b"")

    controller.do(run(), 60)


def test_strangers_who_say_nothing_make_way(controller: Controller, join: Join, tmp_path: Path) -> None:
    """As many as like: only so many are kept, and who has something to say is heard."""

    async def run() -> None:
        silent = []
        for _ in range(listener.STRANGERS + 40):
            silent.append(await dial(controller.server, _anyone()))
        await asyncio.sleep(0.1)
        assert len(controller.port.listener._strangers) <= listener.STRANGERS
        joining = Joining([controller.server], controller.token(), roles=(), address="", version="1")
        began = time.monotonic()
        await joining.one(tmp_path / "s2", "s2")
        assert time.monotonic() - began < 3
        assert await silent[0][0].read() == b""  # the oldest was sent away
        for _, writer in silent:
            writer.transport.abort()

    controller.do(run(), 60)


def test_connections_that_never_shake_hands_take_so_many_places_for_a_short_time(
    controller: Controller, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "HANDSHAKE", 1.0)
    hand = join("s3")

    async def run() -> None:
        host, _, port = controller.server.rpartition(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(listener.SHAKING + 50)]
        began = time.monotonic()
        await hand.connect()
        assert time.monotonic() - began < 5
        for _, writer in held:
            writer.close()

    controller.do(run(), 60)


def test_joining_by_guessing_gets_nobody_in(controller: Controller, tmp_path: Path) -> None:
    before = len(controller.db(nodes.listing))
    good = controller.token()
    mark, fingerprint, number, secret = good.split(".")
    for wrong in (
        f"{mark}.{fingerprint}.{number}.{secret[:-1]}", f"{mark}.{fingerprint}.{'0' * 12}.{secret}",
    ):
        joining = Joining([controller.server], wrong, roles=(), address="", version="1")
        with pytest.raises(CannotJoin, match="is not valid here"):
            controller.do(joining.one(tmp_path / "s4", "s4"))
    assert len(controller.db(nodes.listing)) == before
    assert not (tmp_path / "s4" / "cert.pem").exists()
    assert not (tmp_path / "s4" / "node.json").exists()


def test_an_error_while_joining_tells_nothing_of_the_inside(controller: Controller) -> None:
    async def run() -> bytes:
        reader, writer = await dial(controller.server, _anyone())
        await frames.write(writer, Hello("join", {"token_id": "x" * 5000, "secret": "y", "name": "n", "request": "z"}))
        try:
            return await answer(reader)
        finally:
            writer.close()

    with pytest.raises(Exception, match="certificate signing request"):
        controller.do(run())


def test_the_authority_certificate_is_for_everyone_and_says_no_more(controller: Controller) -> None:
    async def run() -> bytes:
        reader, writer = await dial(controller.server, _anyone())
        await frames.write(writer, Hello("ca"))
        try:
            return await answer(reader)
        finally:
            writer.close()

    said = controller.do(run())
    assert said.count(b"-----BEGIN") == 1
    assert b"PRIVATE" not in said
    assert certificates.only(said.decode()).encode() == said


def test_a_stranger_cannot_have_a_certificate_of_another_kind(controller: Controller, tmp_path: Path) -> None:
    for role in ("controller", "operator", "admin"):
        joining = Joining([controller.server], controller.token(), roles=(role,), address="", version="1")
        with pytest.raises(CannotJoin, match="allows the roles"):
            controller.do(joining.one(tmp_path / role, "s5"))
