"""Joining: the secret goes to nobody but a controller of the pinned authority, and a node killed in between goes on."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.cluster import authority, certificates, channel, frames, nodes
from pileus.cluster.frames import Hello, Reply
from pileus.node import identity
from pileus.node.identity import CannotJoin, Identity, Joining
from tests.api.cluster.bench import Controller


def _joining(servers: list[str], token: str, **more: Any) -> Joining:
    return Joining(servers, token, **{"roles": (), "address": "", "version": "1", **more})


class Middle:
    """A man in the middle: his own certificate, and whatever he says when asked for the authority's."""

    def __init__(self, folder: Path, context: ssl.SSLContext, says: str) -> None:
        self.context, self.says = context, says
        self.heard: list[frames.Frame] = []
        self.server = ""

    async def serve(self, work: Callable[[str], Awaitable[Any]]) -> Any:
        """Serve while `work` is done with its address."""
        listening = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self.context)
        self.server = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            return await work(self.server)
        finally:
            listening.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            frame = await frames.read(reader)
            self.heard.append(frame)
            if isinstance(frame, Hello) and frame.purpose == "ca":
                await frames.write(writer, Reply(0, self.says.encode()))
        except frames.Broken:
            pass
        finally:
            writer.close()


class _Another:
    """Another cloud's authority, which anybody can make."""

    def __init__(self, folder: Path) -> None:
        from pileus.cloud import Cloud
        from pileus.settings import Settings

        folder.mkdir()
        self.cloud = Cloud(Settings(state_dir=str(folder), hypervisor="fake", admin_password="x", bcrypt_rounds=4))
        self.cloud.open()
        self.cloud.db.run_sync(lambda tx: authority.controller_files(tx, self.cloud, folder / "c"))
        self.ca = (folder / "c" / "ca.pem").read_text()
        self.context = certificates.server_context(folder / "c")


@pytest.fixture
def other(tmp_path: Path) -> Any:
    found = _Another(tmp_path / "other")
    yield found
    found.cloud.close()


@pytest.mark.parametrize("says", ["own", "pinned", "both", "both, own first", "nothing", "nonsense"])
def test_a_man_in_the_middle_gets_no_secret(
    controller: Controller, other: _Another, tmp_path: Path, says: str
) -> None:
    pinned = (controller.cloud.cluster_folder / "ca.pem").read_text()
    text = {
        "own": other.ca, "pinned": pinned, "both": pinned + other.ca, "both, own first": other.ca + pinned,
        "nothing": "", "nonsense": "\u00e9-----BEGIN CERTIFICATE-----\nMII",
    }[says]
    middle = Middle(tmp_path, other.context, text)
    token = controller.token()

    async def run(server: str) -> None:
        with pytest.raises(CannotJoin) as refused:
            await _joining([server], token).one(tmp_path / "n", "m1")
        if says.endswith("own") or "own first" in says:
            assert "Somebody may be in between; the token has not been sent" in str(refused.value)

    controller.do(middle.serve(run))
    assert [frame.purpose for frame in middle.heard if isinstance(frame, Hello)] == ["ca"]
    secret = token.split(".")[3]
    assert secret.encode() not in msgspec.msgpack.encode(middle.heard)
    assert not (tmp_path / "n" / "node.json").exists()
    assert not (tmp_path / "n" / "ca.pem").exists()


def test_a_node_of_this_very_cloud_in_the_middle_gets_no_secret(controller: Controller, tmp_path: Path) -> None:
    token = controller.token()
    controller.do(_joining([controller.server], token).one(tmp_path / "evil", "evil"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "evil" / "cert.pem", tmp_path / "evil" / "key.pem")
    middle = Middle(tmp_path, context, (tmp_path / "evil" / "ca.pem").read_text())

    async def run(server: str) -> None:
        with pytest.raises(CannotJoin, match="certificate verify failed"):
            await _joining([server], token).one(tmp_path / "n", "m2")

    controller.do(middle.serve(run))
    assert [frame.purpose for frame in middle.heard if isinstance(frame, Hello)] == ["ca"]


def test_what_a_node_keeps_is_its_own_alone(controller: Controller, tmp_path: Path) -> None:
    folder = tmp_path / "member" / "j1"
    found = controller.do(_joining([controller.server], controller.token(roles=("network",))).one(folder, "j1"))
    assert (found.node, found.roles, found.servers) == ("j1", ("network",), [controller.server])
    assert {path.name: stat.S_IMODE(os.stat(path).st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("key.pem", "cert.pem", "ca.pem", "node.json"), 0o600
    )
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert "secret" not in (folder / "node.json").read_text()


def test_a_join_that_was_killed_at_any_step_goes_on(controller: Controller, tmp_path: Path) -> None:
    token = controller.token(uses=1)
    folder = tmp_path / "j2"
    controller.do(_joining([controller.server], token).one(folder, "j2"))
    for missing in (("node.json",), ("node.json", "cert.pem"), ("node.json", "cert.pem", "ca.pem")):
        for name in missing:
            (folder / name).unlink()
        (folder / "cert.new").write_text("half of it")
        assert not identity.has_joined(folder)
        controller.do(_joining([controller.server], token).one(folder, "j2"))
        assert identity.has_joined(folder)
    (row,) = [row for row in controller.db(nodes.listing) if row.name == "j2"]
    assert row.key_digest


def test_a_controller_that_does_not_answer_is_passed_over(controller: Controller, tmp_path: Path) -> None:
    servers = ["127.0.0.1:1", controller.server]
    found = controller.do(_joining(servers, controller.token()).one(tmp_path / "j3", "j3"))
    assert found.servers == servers
    with pytest.raises(CannotJoin, match=r"no controller could be joined: 127.0.0.1:1: .+"):
        controller.do(_joining(servers[:1], controller.token()).one(tmp_path / "j4", "j4"))


def test_many_join_at_once_by_one_token(controller: Controller, tmp_path: Path) -> None:
    folders = {f"many-{number}": tmp_path / str(number) for number in range(40)}
    controller.do(_joining([controller.server], controller.token(uses=40)).all(folders))
    assert {Identity(folder).node for folder in folders.values()} == set(folders)
    more = {"many-x": tmp_path / "x", "many-y": tmp_path / "y"}
    with pytest.raises(CannotJoin, match="as often as it may"):
        controller.do(_joining([controller.server], controller.token(uses=1)).all(more))


@pytest.mark.parametrize("name", ["a b", "x" * 65, "", ".."])
def test_a_name_that_no_node_can_have_is_told_with_the_way_out(
    controller: Controller, tmp_path: Path, name: str
) -> None:
    with pytest.raises(CannotJoin, match="Set node_name"):
        controller.do(_joining([controller.server], controller.token()).one(tmp_path / "j5", name))


def test_what_is_no_token_is_told_before_anything_is_sent() -> None:
    with pytest.raises(CannotJoin, match="no join token"):
        _joining(["127.0.0.1:1"], "pileus1.x.y.z")


def test_a_node_whose_certificate_has_run_out_has_to_join_again(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    now = time.time()
    monkeypatch.setattr(controller.cloud.world, "now", lambda: now - 364.9 * 86400)
    token = controller.token(hours=None)
    found = controller.do(_joining([controller.server], token).one(tmp_path / "j6", "j6"))
    assert identity.has_joined(tmp_path / "j6")
    assert found.renewal() is not None
    monkeypatch.setattr(controller.cloud.world, "now", lambda: now - 365.1 * 86400)
    controller.do(_joining([controller.server], token).one(tmp_path / "j6", "j6"))
    assert not identity.has_joined(tmp_path / "j6")


def test_the_controllers_that_live_are_remembered_and_the_first_ones_are_not_forgotten(
    controller: Controller, tmp_path: Path
) -> None:
    found = controller.do(_joining([controller.server], controller.token()).one(tmp_path / "j7", "j7"))
    found.remember(["192.0.2.1:8443", "192.0.2.2:8443"])
    assert Identity(tmp_path / "j7").servers == ["192.0.2.1:8443", "192.0.2.2:8443", controller.server]
    found.remember([])
    assert Identity(tmp_path / "j7").servers == [controller.server]


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("a", ["a:8443"]), ("https://a:9,b/", ["a:9", "b:8443"]), (" a , ,b:1", ["a:8443", "b:1"]), ("", []),
        ("2001:db8::1", ["[2001:db8::1]:8443"]), ("https://[2001:db8::1]:9", ["[2001:db8::1]:9"]),
        ("[::1]", ["[::1]:8443"]),
    ],
)
def test_addresses_are_written_as_people_write_them(text: str, servers: list[str]) -> None:
    assert identity.addresses(text) == servers


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="HOST or HOST:PORT"):
        identity.addresses("a:https")


def test_a_controller_that_says_nonsense_is_no_controller(controller: Controller, tmp_path: Path) -> None:
    """One of the right authority, as one of a later release might be."""
    middle = Middle(
        tmp_path, certificates.server_context(controller.cloud.cluster_folder),
        (controller.cloud.cluster_folder / "ca.pem").read_text(),
    )

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frame = await frames.read(reader)
        assert isinstance(frame, Hello)
        said = middle.says.encode() if frame.purpose == "ca" else channel.pack({"hello": "there"})
        await frames.write(writer, Reply(0, said))
        writer.close()

    middle._connected = nonsense  # type: ignore[method-assign]

    async def run(server: str) -> None:
        with pytest.raises(CannotJoin, match="certificate"):
            await _joining([server], controller.token()).one(tmp_path / "n", "m3")

    controller.do(middle.serve(run))
