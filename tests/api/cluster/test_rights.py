"""What a node's certificate is good for: only what is placed on that node. Each test speaks the protocol by hand."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cluster import certificates, channel, frames, nodes
from pileus.cluster.frames import Broken, Data, Failure, Hello
from pileus.compute.tables import node as compute_node
from pileus.network.tables import agent, network, port
from pileus.node.contract import GuestReport, NetworkReport, ServerDone, ServerTask, StorageFacts, TaskResult
from pileus.node.hypervisor.fake import qcow2
from pileus.web.errors import BadRequest, Forbidden, NotFound, Problem, Unavailable
from pileus.work.tables import task
from tests.api.cluster.bench import FACTS, Controller, Hand, answer, dial
from tests.api.conftest import PASSWORD, Client

Join = Callable[..., Hand]
NOBODY = "00000000-0000-4000-8000-000000000000"


class Place:
    """A cloud with two nodes, and servers on the first of them."""

    def __init__(self, controller: Controller, admin: Client, join: Join, mark: str) -> None:
        self.controller, self.admin, self.mark = controller, admin, mark
        self.one, self.two = join(f"{mark}-1"), join(f"{mark}-2")
        controller.do(self.one.register())
        controller.do(self.two.register())
        flavor = {"flavor": {"name": f"{mark}", "ram": 64, "vcpus": 1, "disk": 0}}
        self.flavor = self.ok(admin.post("/compute/v2.1/flavors", flavor))["flavor"]["id"]

    def ok(self, reply: Any) -> Any:
        assert reply.status_code < 300, reply.text
        return reply.json() if reply.content else None

    def image(self, client: Client | None = None, **more: Any) -> str:
        """An image with content."""
        client = client or self.admin
        new = {"name": "i", "disk_format": "raw", "container_format": "bare", "visibility": "private", **more}
        image: str = self.ok(client.post("/image/v2/images", new))["id"]
        content = {"content": image.encode() * 1000, "headers": {"Content-Type": "application/octet-stream"}}
        self.ok(client.put(f"/image/v2/images/{image}/file", **content))
        return image

    def server(self, image: str, where: Hand, networks: Any = "none") -> str:
        """A server that is being built on a node."""
        new = {
            "name": "s", "imageRef": image, "flavorRef": self.flavor, "networks": networks,
            "availability_zone": f"nova:{where.name}",
        }
        made = self.ok(self.admin.post("/compute/v2.1/servers", {"server": new}, version="2.37"))
        return str(made["server"]["id"])

    def task(self, server: str, kind: str) -> Any:
        """The open task of a server."""
        c = task.c
        return self.controller.db(lambda tx: tx.first(
            sa.select(task).where(c.resource == f"server:{server}", c.kind == kind, c.state.in_(("pending", "running")))
        ))

    def status(self, server: str) -> str:
        return str(self.ok(self.admin.get(f"/compute/v2.1/servers/{server}"))["server"]["status"])

    def result(self, row: Any, who: Hand, **more: Any) -> TaskResult:
        value = msgspec.Raw(msgspec.json.encode(ServerDone()))
        given: dict[str, Any] = {"task_id": row.id, "node": who.name, "ok": True, "value": value, **more}
        return TaskResult(**given)


@pytest.fixture(scope="module")
def marks() -> Iterator[int]:
    """Names that were not used yet."""
    return itertools.count()


@pytest.fixture
def place(controller: Controller, admin: Client, join: Join, marks: Iterator[int]) -> Place:
    return Place(controller, admin, join, f"r{next(marks)}")


def _refused(controller: Controller, work: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        controller.do(work)


# -- speaking for another


def test_a_node_cannot_finish_another_nodes_task(controller: Controller, place: Place) -> None:
    server = place.server(place.image(), place.one)
    row = place.task(server, "server.build")
    lies = (
        place.result(row, place.two), place.result(row, place.one),
        place.result(row, place.two, node=""), place.result(row, place.two, ok=False, error="broken"),
    )
    for lie in lies:
        _refused(controller, place.two.say("finish", lie), Forbidden, "not for|cannot speak for")
    assert place.task(server, "server.build") is not None
    assert place.status(server) == "BUILD"
    controller.do(place.one.say("finish", place.result(row, place.one)))
    assert place.task(server, "server.build") is None


def test_a_node_cannot_end_a_controllers_own_task(controller: Controller, place: Place) -> None:
    from pileus.work import tasks

    number = controller.db(lambda tx: tasks.enqueue(tx, controller.cloud, "none.such", resource="x:1"))
    for node in ("", place.one.name):
        lie = TaskResult(task_id=number, node=node, ok=True)
        _refused(controller, place.one.say("finish", lie), Forbidden, "not for|cannot speak for")
    state = controller.db(lambda tx: tx.scalar(sa.select(task.c.state).where(task.c.id == number)))
    assert state == "pending"
    controller.db(lambda tx: tx.execute(task.delete().where(task.c.id == number)))


def test_a_node_cannot_report_a_guest_for_another(controller: Controller, place: Place) -> None:
    server = place.server(place.image(), place.one)
    row = place.task(server, "server.build")
    controller.do(place.one.say("finish", place.result(row, place.one)))
    assert place.status(server) == "ACTIVE"
    lie = GuestReport(node=place.one.name, server_id=server, power="shutdown")
    _refused(controller, place.two.say("guest_changed", lie), Forbidden, "cannot speak for")
    controller.do(place.two.say("guest_changed", msgspec.structs.replace(lie, node=place.two.name)))
    assert place.status(server) == "ACTIVE"
    controller.do(place.one.say("guest_changed", lie))
    assert place.status(server) == "SHUTOFF"


def test_a_node_is_only_given_its_own_tasks(controller: Controller, place: Place) -> None:
    server = place.server(place.image(), place.one)
    found = controller.do(place.one.until_task("server.build"))
    assert found.resource == f"server:{server}"
    assert [t for t in place.two.tasks if t.resource == f"server:{server}"] == []


def test_a_node_cannot_bring_up_the_ports_of_another(controller: Controller, place: Place) -> None:
    made = place.ok(place.admin.post("/network/v2.0/networks", {"network": {"name": "n"}}))["network"]["id"]
    new = {"port": {"network_id": made, "binding:host_id": place.one.name, "device_id": NOBODY,
                    "device_owner": "compute:nova"}}
    mine = place.ok(place.admin.post("/network/v2.0/ports", new))["port"]["id"]

    def status() -> str:
        return str(controller.db(lambda tx: tx.scalar(sa.select(port.c.status).where(port.c.id == mine))))

    controller.do(place.two.say("network_report", NetworkReport(revision=10**9, ports_up=(mine,))))
    assert status() == "DOWN"
    controller.do(place.one.say("network_report", NetworkReport(revision=10**9, ports_up=(mine,))))
    assert status() == "ACTIVE"


# -- images


@pytest.fixture
def stranger(admin: Client, place: Place) -> Client:
    """A user of another project."""
    project = place.ok(admin.post("/identity/v3/projects", {"project": {"name": place.mark}}))["project"]["id"]
    new = {"user": {"name": place.mark, "password": PASSWORD, "default_project_id": project}}
    user = place.ok(admin.post("/identity/v3/users", new))["user"]["id"]
    role = place.ok(admin.get("/identity/v3/roles?name=member"))["roles"][0]["id"]
    place.ok(admin.put(f"/identity/v3/projects/{project}/users/{user}/roles/{role}"))
    return admin.login(place.mark, PASSWORD, place.mark)


async def _download(hand: Hand, image: str, **more: Any) -> bytes:
    reader, writer = await hand.open("image", image_id=image, **more)
    got = b""
    try:
        while True:
            frame = await asyncio.wait_for(frames.read(reader), 5)
            if isinstance(frame, Failure):
                from pileus.cluster.errors import from_failure

                raise from_failure(frame)
            assert isinstance(frame, Data)
            if not frame.data:
                return got
            got += frame.data
    finally:
        writer.close()


def test_a_node_gets_an_image_only_when_a_guest_of_it_is_placed_there(
    controller: Controller, place: Place, stranger: Client
) -> None:
    theirs, used, unused = place.image(stranger), place.image(), place.image()
    for hand in (place.one, place.two):
        for image in (theirs, used, unused, NOBODY, "../pileus.db", "", "staged"):
            _refused(controller, _download(hand, image), Forbidden, "no guest of it is placed there")
    server = place.server(used, place.one)
    whole = used.encode() * 1000
    assert controller.do(_download(place.one, used)) == whole
    assert controller.do(_download(place.one, used, offset=len(whole) - 7)) == whole[-7:]
    assert controller.do(_download(place.one, used, offset=10**12)) == b""
    _refused(controller, _download(place.two, used), Forbidden, "no guest")
    _refused(controller, _download(place.one, theirs), Forbidden, "no guest")
    controller.do(place.one.say("finish", place.result(place.task(server, "server.build"), place.one)))
    assert controller.do(_download(place.one, used)) == whole
    place.ok(place.admin.delete(f"/compute/v2.1/servers/{server}"))
    controller.do(place.one.say("finish", place.result(place.task(server, "server.destroy"), place.one)))
    _refused(controller, _download(place.one, used), Forbidden, "no guest")


async def _upload(hand: Hand, image: str, content: bytes, *, end: bool = True) -> bytes:
    reader, writer = await hand.open("store", image_id=image)
    try:
        said = await answer(reader)
        if said != b"send":
            return said
        await frames.write(writer, Data(content))
        if not end:
            return said
        await frames.write(writer, Data())
        return await answer(reader)
    finally:
        writer.close()


def test_a_node_stores_into_an_image_only_for_a_snapshot_task_of_its_own(
    controller: Controller, place: Place, tmp_path: Path
) -> None:
    qcow2.write_empty(tmp_path / "disk", 1 << 20)
    disk = (tmp_path / "disk").read_bytes()
    image = place.image()
    server = place.server(image, place.one)
    controller.do(place.one.say("finish", place.result(place.task(server, "server.build"), place.one)))
    empty = place.ok(place.admin.post(
        "/image/v2/images", {"name": "e", "disk_format": "raw", "container_format": "bare"}
    ))["id"]
    for hand in (place.one, place.two):
        for target in (image, empty, NOBODY, "../x", ""):
            _refused(controller, _upload(hand, target, b"x"), Forbidden, "no snapshot there is for it")
    done = place.ok(place.admin.post(
        f"/compute/v2.1/servers/{server}/action", {"createImage": {"name": "snap"}}, version="2.45"
    ))
    snap = str(done["image_id"])
    row = place.task(server, "server.snapshot")
    assert msgspec.json.decode(row.arguments, type=ServerTask).image_id == snap
    _refused(controller, _upload(place.two, snap, disk), Forbidden, "no snapshot")
    _refused(controller, _upload(place.one, empty, disk), Forbidden, "no snapshot")
    controller.do(_upload(place.one, snap, disk[:7], end=False))
    until = time.monotonic() + 5
    while (said := controller.do(_upload(place.one, snap, disk))) == b"wait" and time.monotonic() < until:
        controller.do(asyncio.sleep(0.05))
    assert said == b""
    assert controller.do(_upload(place.one, snap, disk)) == b"had"
    assert place.admin.get(f"/image/v2/images/{snap}/file").content == disk
    controller.do(place.one.say("finish", place.result(row, place.one)))
    _refused(controller, _upload(place.one, snap, disk), Forbidden, "no snapshot")


def _storage(controller: Controller, join: Join, place: Place, name: str, roles: tuple[str, ...]) -> Hand:
    """A node that says that it keeps volumes."""
    hand = join(f"{place.mark}-{name}", roles)
    controller.do(hand.connect())
    facts = msgspec.structs.replace(FACTS, storage=StorageFacts(backend="fake", total_gib=100.0, free_gib=100.0))
    controller.do(hand.say("register", facts))
    return hand


def _volume_task(place: Place, volume: str) -> Any:
    """The open task of a volume."""
    c = task.c
    return place.controller.db(lambda tx: tx.first(
        sa.select(task).where(c.resource == f"volume:{volume}", c.state.in_(("pending", "running")))
    ))


def test_a_node_reads_and_stores_images_only_for_volumes_that_it_has_to_do_with(
    controller: Controller, place: Place, join: Join, tmp_path: Path
) -> None:
    liar = _storage(controller, join, place, "liar", ("compute", "network"))
    keeper = _storage(controller, join, place, "keeper", ("storage",))
    image, other, disk = place.image(), place.image(), tmp_path / "disk"
    qcow2.write_empty(disk, 1 << 20)
    new = {"volume": {"size": 1, "imageRef": image}}
    volume = place.ok(place.admin.post("/volume/v3/volumes", new))["volume"]["id"]
    row = _volume_task(place, volume)
    assert row.node == keeper.name  # who has not the role storage keeps no volumes, whatever it says
    assert controller.do(_download(keeper, image)) == image.encode() * 1000
    _refused(controller, _download(keeper, other), Forbidden, "no guest")
    _refused(controller, _download(liar, image), Forbidden, "no guest")
    _refused(controller, _upload(keeper, image, b"x"), Forbidden, "no snapshot")
    _refused(controller, liar.say("finish", place.result(row, liar)), Forbidden, "not for")
    controller.do(keeper.say("finish", place.result(row, keeper)))
    _refused(controller, _download(keeper, image), Forbidden, "no guest")
    value = {"os-volume_upload_image": {"image_name": "u", "disk_format": "qcow2"}}
    action = place.ok(place.admin.post(f"/volume/v3/volumes/{volume}/action", value))
    made, row = action["os-volume_upload_image"]["image_id"], _volume_task(place, volume)
    _refused(controller, _upload(liar, made, disk.read_bytes()), Forbidden, "no snapshot")
    _refused(controller, _upload(keeper, other, disk.read_bytes()), Forbidden, "no snapshot")
    assert controller.do(_upload(keeper, made, disk.read_bytes())) == b""
    controller.do(keeper.say("finish", place.result(row, keeper)))
    _refused(controller, _upload(keeper, made, disk.read_bytes()), Forbidden, "no snapshot")
    assert place.admin.get(f"/image/v2/images/{made}").json()["status"] == "active"


# -- metadata


def test_a_node_answers_metadata_only_for_networks_that_it_serves(controller: Controller, place: Place) -> None:
    made = place.ok(place.admin.post("/network/v2.0/networks", {"network": {"name": "n"}}))["network"]["id"]
    subnet = {"subnet": {"network_id": made, "ip_version": 4, "cidr": "10.9.0.0/24"}}
    place.ok(place.admin.post("/network/v2.0/subnets", subnet))
    controller.db(lambda tx: tx.execute(network.update().where(network.c.id == made).values(node=place.one.name)))
    server = place.server(place.image(), place.two, [{"uuid": made}])
    (found,) = place.ok(place.admin.get(f"/network/v2.0/ports?device_id={server}"))["ports"]
    address = found["fixed_ips"][0]["ip_address"]

    async def ask(hand: Hand, where: str) -> Any:
        body = channel.pack([where, address, "GET", "/openstack/latest/meta_data.json", b""])
        return channel.unpack(await hand.say("metadata", body))

    status, _, body = controller.do(ask(place.one, made))
    assert status == 200
    assert server.encode() in body
    _refused(controller, ask(place.two, made), Forbidden, "does not serve the metadata")
    for where in (NOBODY, "", "*"):
        _refused(controller, ask(place.one, where), Forbidden, "does not serve the metadata")


# -- purposes, and who may have which


def test_what_is_for_controllers_is_not_for_nodes_or_strangers(controller: Controller, place: Place) -> None:
    for purpose in ("peer", "peer-image", "peer-stream", "control", "", "nonsense", "x" * 10_000):
        _refused(controller, place.one.greet(purpose, image_id=NOBODY), Forbidden, "is not for a node")

    async def as_stranger(purpose: str) -> bytes:
        context = certificates.client_context((controller.cloud.cluster_folder / "ca.pem").read_text())
        reader, writer = await dial(controller.server, context)
        await frames.write(writer, Hello(purpose, {"image_id": NOBODY, "instance": "aa"}))
        try:
            return await answer(reader)
        finally:
            writer.close()

    for purpose in ("node", "image", "store", "stream", "peer", "peer-image", "peer-stream", "control", "nonsense"):
        _refused(controller, as_stranger(purpose), Forbidden, "is not for strangers")


@pytest.mark.parametrize("arguments", [{}, {"instance": 5}, {"instance": ["aa"]}, {"instance": "aa", "address": {}}])
def test_a_greeting_that_lacks_something_is_refused(controller: Controller, join: Join, arguments: Any) -> None:
    _refused(controller, join("g1").greet("node", **arguments), BadRequest, "lacks something")


def test_another_protocol_is_refused(controller: Controller, join: Join) -> None:
    async def ask() -> bytes:
        reader, writer = await dial(controller.server, join("g2").context())
        await frames.write(writer, Hello("node", {"instance": "aa"}, protocol=2))
        try:
            return await answer(reader)
        finally:
            writer.close()

    _refused(controller, ask(), Forbidden, "of the same release")


def test_nothing_is_given_beside_a_connection(controller: Controller, join: Join) -> None:
    hand = join("g3")
    for purpose in ("image", "store"):
        _refused(controller, hand.greet(purpose, image_id=NOBODY), Unavailable, "is not connected")
    _refused(controller, hand.greet("stream", id="x"), Unavailable, "is not connected")


def test_a_node_cannot_open_a_stream_of_another(controller: Controller, place: Place) -> None:
    asked: asyncio.Queue[list[Any]] = asyncio.Queue()

    async def remember(method: str, body: bytes) -> bytes:
        asked.put_nowait(channel.unpack(body))
        return channel.pack(None)

    place.one.answer = remember  # type: ignore[method-assign]

    async def run() -> None:
        await place.one.leave()
        await place.one.connect()
        waiting = asyncio.create_task(controller.port.stream(place.one.name, "vnc_socket", {"server_id": "s"}))
        number = (await asked.get())[0]
        assert len(number) >= 24
        for wrong in (number, "x", ""):
            with pytest.raises(NotFound, match="Nobody waits"):
                await place.two.greet("stream", id=wrong)
        reader, writer = await place.one.open("stream", id=number)
        assert await answer(reader) == b""
        far = await waiting
        far[1].write(b"from the browser")
        assert await reader.readexactly(16) == b"from the browser"
        with pytest.raises(NotFound, match="Nobody waits"):
            await place.one.greet("stream", id=number)
        writer.close()
        assert await far[0].read() == b""
        far[1].close()

    controller.do(run())


def test_what_controllers_do_not_know_or_cannot_read_is_refused_and_the_connection_goes_on(
    controller: Controller, place: Place
) -> None:
    for method in ("shutdown", "ask", "ask-anywhere", "check", "", "_register"):
        _refused(controller, place.one.say(method, {}), NotFound, "controllers do not know")
    for method in ("register", "heartbeat", "finish", "guest_changed", "network_report", "metadata", "renew"):
        for body in (b"", b"{}", b"[1", b"\xff\xff", b"null"):
            with pytest.raises(Problem):
                controller.do(place.one.say(method, body))
    assert controller.do(place.one.say("network_state", b""))


# -- certificates


def _alert(controller: Controller, context: ssl.SSLContext) -> None:
    async def ask() -> None:
        reader, writer = await dial(controller.server, context)
        await frames.write(writer, Hello("node", {"instance": "aa"}))
        try:
            await answer(reader)
        finally:
            writer.close()

    with pytest.raises((ssl.SSLError, Broken, ConnectionError)):
        controller.do(ask())


def test_a_certificate_of_another_authority_or_an_expired_one_is_nobody(
    controller: Controller, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = join("g4")
    controller.do(hand.connect())
    controller.do(hand.leave())
    good = (hand.folder / "cert.pem").read_text()
    now = time.time()
    monkeypatch.setattr(controller.cloud.world, "now", lambda: now - 400 * 86400)
    hand.join()
    monkeypatch.undo()
    assert certificates.end((hand.folder / "cert.pem").read_text()) < now
    _alert(controller, hand.context())
    certificates.keep(hand.folder / "cert.pem", good)
    controller.do(hand.connect())
    _alert(controller, _foreign(hand, controller))


def _foreign(hand: Hand, controller: Controller) -> ssl.SSLContext:
    """The same name, by an authority that anybody could make."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(certificates.subject("controller", hand.name))
        .issuer_name(certificates.subject("authority", "Pileus cluster")).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).sign(ca_key, hashes.SHA256())
    )
    folder = hand.folder / "foreign"
    certificates.keep(folder / "cert.pem", made.public_bytes(serialization.Encoding.PEM).decode())
    certificates.keep(folder / "key.pem", certificates.private_pem(key))
    ca = (controller.cloud.cluster_folder / "ca.pem").read_text()
    return certificates.client_context(ca, folder / "cert.pem", folder / "key.pem")


def test_a_certificate_is_renewed_for_the_key_that_has_joined_and_no_other(controller: Controller, join: Join) -> None:
    hand = join("g5")
    controller.do(hand.connect())
    key = (hand.folder / "key.pem").read_text()
    for name in ("g5", "other", "c1"):
        issued = controller.do(hand.say("renew", certificates.request_for(key, name).encode())).decode()
        assert certificates.is_of(issued, key)
        assert "g5" in str(_holder(issued))
        assert "node" in str(_holder(issued))
    other = certificates.keep_key(hand.folder / "other.pem")
    _refused(controller, hand.say("renew", certificates.request_for(other, "g5").encode()), Forbidden, "for the key")


def _holder(pem: str) -> tuple[str, str, str]:
    return certificates.holder(ssl.PEM_cert_to_DER_cert(pem))


# -- nodes that are removed


def test_a_removed_node_is_out_at_once_and_changes_nothing_meanwhile(controller: Controller, place: Place) -> None:
    image = place.image()
    server = place.server(image, place.one)
    row = place.task(server, "server.build")

    async def run() -> None:
        one = place.one
        bulk = await one.open("store", image_id=NOBODY)  # refused, but shows that bulk is possible now
        bulk[1].close()
        controller.db(lambda tx: nodes.remove(tx, one.name))
        # Before anybody has looked, by the connection that is still open:
        said: list[tuple[str, Any]] = [
            ("finish", place.result(row, one)), ("register", FACTS), ("network_state", b""),
            ("heartbeat", msgspec.structs.replace(FACTS, vcpus=99)), ("network_report", NetworkReport(revision=1)),
            ("guest_changed", GuestReport(node=one.name, server_id=server, power="shutdown")),
        ]
        for method, value in said:
            with pytest.raises((Forbidden, Broken)):
                await one.say(method, value)
        with pytest.raises(Forbidden, match="was removed"):
            await _download(one, image)
        began = time.monotonic()
        await one.until_ended()
        assert time.monotonic() - began < 2.5
        for purpose in ("node", "image", "store"):
            with pytest.raises((Forbidden, Unavailable), match=r"not part of this cloud|is not connected"):
                await one.greet(purpose, instance="aa", image_id=image)

    controller.do(run())
    assert place.task(server, "server.build") is not None
    assert place.status(server) == "BUILD"


def test_a_removed_node_is_not_made_again_by_its_last_sign_of_life(controller: Controller, join: Join) -> None:
    hand = join("g6")
    controller.do(hand.register())
    controller.do(controller.cloud.heartbeats.flush())

    def known() -> int:
        return int(controller.db(lambda tx: sum(
            tx.scalar(sa.select(sa.func.count()).where(c == "g6")) for c in (agent.c.node, compute_node.c.name)
        )))

    assert known() > 1
    controller.cloud.heartbeats.heard("g6")

    def remove(tx: Any) -> None:
        from pileus.compute import services
        from pileus.network import wiring

        nodes.remove(tx, "g6")
        services.forget(tx, "g6", force=False)
        wiring.node_left(tx, controller.cloud, "g6")

    controller.db(remove)
    assert known() == 0
    controller.do(controller.cloud.heartbeats.flush())
    assert known() == 0


def test_a_download_of_a_removed_node_ends(controller: Controller, place: Place) -> None:
    new = {"name": "big", "disk_format": "raw", "container_format": "bare"}
    image = place.ok(place.admin.post("/image/v2/images", new))["id"]
    content = {"content": bytes(64 << 20), "headers": {"Content-Type": "application/octet-stream"}}
    place.ok(place.admin.put(f"/image/v2/images/{image}/file", **content))
    place.server(image, place.one)

    async def run() -> int:
        reader, writer = await place.one.open("image", image_id=image)
        first = await frames.read(reader)
        assert isinstance(first, Data)
        controller.db(lambda tx: nodes.remove(tx, place.one.name))
        await controller.port.check()
        rest = await _until_ended(reader)
        writer.close()
        assert Data() not in rest
        return sum(len(frame.data) for frame in (first, *rest) if isinstance(frame, Data))

    assert controller.do(run()) < 64 << 20


async def _until_ended(reader: asyncio.StreamReader) -> list[frames.Frame]:
    """What was still on its way, and then the end."""
    found: list[frames.Frame] = []
    with contextlib.suppress(Broken):
        while True:
            found.append(await asyncio.wait_for(frames.read(reader), 5))
    return found


def test_who_was_removed_cannot_cut_off_the_node_that_has_its_name_now(controller: Controller, join: Join) -> None:
    old = join("g7")
    controller.do(old.connect())
    controller.db(lambda tx: nodes.remove(tx, "g7"))
    controller.do(old.until_ended())
    new = Hand(controller, old.folder.parent / "again", "g7").join()
    controller.do(new.connect("bb"))
    for instance in ("aa", "bb"):
        _refused(controller, old.greet("node", instance=instance), Forbidden, "not part of this cloud")
        _refused(controller, old.greet("image", image_id=NOBODY), Unavailable, "is not connected")
    assert controller.do(new.say("network_state", b""))
    controller.do(new.leave())


# -- two agents with one certificate


def test_the_first_of_two_agents_with_one_certificate_stays(controller: Controller, join: Join) -> None:
    first = join("g8")
    controller.do(first.connect("aa"))
    second = Hand(controller, first.folder, "g8")

    async def run() -> None:
        for _ in range(3):
            with pytest.raises(Problem, match="by another agent"):
                await second.connect("bb")
        assert await first.say("network_state", b"")
        await first.leave()
        await second.connect("bb")
        with pytest.raises(Problem, match="by another agent"):
            await first.connect("aa")
        await second.leave()

    controller.do(run())


def test_an_agent_that_answers_no_more_makes_way_for_the_next(controller: Controller, join: Join) -> None:
    first = join("g9")

    async def run() -> None:
        reader, writer = await first.open("node", instance="aa")
        await answer(reader)  # and says nothing any more
        second = Hand(controller, first.folder, "g9")
        began = time.monotonic()
        await second.connect("bb")
        assert time.monotonic() - began < 5
        assert await second.say("network_state", b"")
        await _until_ended(reader)
        writer.close()
        await second.leave()

    controller.do(run())


def test_the_same_process_takes_over_from_its_own_lost_connection_at_once(controller: Controller, join: Join) -> None:
    hand = join("g10")

    async def run() -> None:
        await hand.connect("aa")
        before = hand._running
        again = Hand(controller, hand.folder, "g10")
        began = time.monotonic()
        await again.connect("aa")
        assert time.monotonic() - began < 2
        assert before is not None
        await asyncio.wait_for(before, 2)
        assert await again.say("network_state", b"")
        await again.leave()

    controller.do(run())
