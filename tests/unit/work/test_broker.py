"""The setting `bus` is taken apart, and its password shows nowhere."""

from __future__ import annotations

import asyncio

import pytest

from pileus.settings import SettingsError
from pileus.work.broker import Lost, as_lost, parse


def test_urls_that_it_can_be() -> None:
    full = parse("amqp://me:p%40ss%2F%3Aword@h1:5673,h2,[::1]:5674,[fe80::2]/my%2Fcloud")
    assert full.hosts == (("h1", 5673), ("h2", 5672), ("::1", 5674), ("fe80::2", 5672))
    assert (full.user, full.password, full.vhost, full.tls) == ("me", "p@ss/:word", "my/cloud", False)
    short = parse("amqps://rabbit.example?cafile=/etc/ca.pem")
    assert short.hosts == (("rabbit.example", 5671),)
    assert (short.user, short.password, short.vhost, short.tls) == ("guest", "guest", "/", True)
    assert short.cafile == "/etc/ca.pem"
    assert parse("amqp://h/").vhost == parse("amqp://h/%2F").vhost == "/"


def test_its_text_shows_no_password() -> None:
    broker = parse("amqp://me:hidden@h1:1,h2:2/v")
    assert str(broker) == repr(broker) == f"{broker}" == "Broker(h1:1, h2:2)"


@pytest.mark.parametrize(
    "url",
    [
        "rabbit", "http://me:hidden@h", "amqp://me:hidden@", "amqp://me:hidden@h:0", "amqp://me:hidden@h:65536",
        "amqp://me:hidden@h:port", "amqp://me:hidden@h1,,h2", "amqp://me:hidden@[::1", "amqp://me:hidden@[::1]5672",
        "amqp://me:hidden@h?cafile=/x", "amqps://me:hidden@h?colour=red", "amqp://me:hidden@h:²", "amqp://me:?hidden=1@h",
        "amqp:me:hidden@h",
    ],
)
def test_urls_that_it_cannot_be(url: str) -> None:
    with pytest.raises(SettingsError, match="'bus'") as caught:
        parse(url)
    assert "hidden" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_oserror() -> None:
    with pytest.raises(OSError, match="No such file"):
        parse("amqps://h?cafile=/not/there.pem").context()


def test_the_librarys_cancelling_is_a_loss_and_a_real_one_is_not() -> None:
    async def main() -> None:
        with pytest.raises(Lost), as_lost():
            raise asyncio.CancelledError
        with pytest.raises(Lost, match="reset"), as_lost():
            raise ConnectionResetError("reset")

        async def wait() -> None:
            with as_lost():
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await wait()

    asyncio.run(main())
