"""The judge must be able to fail: each thing that is broken on purpose is found, and found as what it is.

Breaks are rolled back, so that each starts from the same healthy cloud."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import tables as compute
from pileus.db.engine import Tx
from pileus.doctor import host as doctor_host
from pileus.doctor import judge
from pileus.doctor.findings import Carried, Finding, Guest, Host
from pileus.image import tables as image
from pileus.network import tables as network
from pileus.placement import tables as placement
from pileus.work import tasks
from pileus.work.tables import task
from tests.api.compute.guests import Servers, make_image, working_nodes
from tests.api.conftest import Client

SIZE = 1 << 20


class Rollback(Exception):
    """Carries what was found out of a transaction that is not to be kept."""


class Patient:
    """A healthy cloud with one server on a network behind a router, with a floating IP."""

    def __init__(self, cloud: Cloud, admin: Client, server: str) -> None:
        self.cloud, self.admin, self.server = cloud, admin, server
        self.host = self._healthy_host()

    def _healthy_host(self) -> Host:
        row: Any = self.read(sa.select(compute.server).where(compute.server.c.id == self.server))
        port: Any = self.read(sa.select(network.port).where(network.port.c.device_id == self.server))
        router: Any = self.read(sa.select(network.router))
        floating: Any = self.read(sa.select(network.floating_ip))
        legs = self.cloud.db.run_sync(lambda tx: tx.scalars(
            sa.select(network.port.c.network_id).where(network.port.c.device_id == router.id)
        ))
        networks = frozenset({port.network_id, *legs})
        served = {f"pil-n-{port.network_id[:11]}": 1}
        for network_id in set(legs) - {port.network_id}:
            if self.read(sa.select(network.subnet).where(
                network.subnet.c.network_id == network_id, network.subnet.c.enable_dhcp.is_(True)
            )):
                served[f"pil-n-{network_id[:11]}"] = 1
        return Host(
            nodes=(row.host,), guests={self.server: Guest(row.host, True)}, prefix="pil",
            images={row.image_id: SIZE}, cache={row.image["sha512"]: SIZE},
            carried=Carried(
                networks=networks, routers=frozenset({router.id}), taps=frozenset({port.id}),
                addresses={router.id: frozenset({floating.floating_ip_address})}, dhcp=served,
            ),
        )

    def read(self, statement: sa.Select[Any]) -> Any:
        """The first row."""
        return self.cloud.db.run_sync(lambda tx: tx.first(statement), write=False)

    def found(self, seen: Host, hurt: Callable[[Tx], object] | None = None, **more: Any) -> list[Finding]:
        """What the judge says of this host and of the database after `hurt`, which is then undone."""

        def work(tx: Tx) -> None:
            if hurt is not None:
                hurt(tx)
            raise Rollback(list(judge._all(tx, seen, **more)))

        try:
            self.cloud.db.run_sync(work)
        except Rollback as done:
            found: list[Finding] = done.args[0]
            return found
        raise AssertionError("unreachable")


@pytest.fixture(scope="module")
def patient(cloud: Cloud, admin: Client, loop: asyncio.AbstractEventLoop) -> Iterator[Patient]:
    def post(path: str, body: Any) -> Any:
        reply = admin.post(f"/network/v2.0/{path}", body)
        assert reply.status_code < 300, reply.text
        return next(iter(reply.json().values()))

    with working_nodes(cloud, loop):
        inside = post("networks", {"network": {"name": "inside"}})["id"]
        subnet = post("subnets", {"subnet": {"network_id": inside, "ip_version": 4, "cidr": "10.9.0.0/24"}})["id"]
        outside = admin.get("/network/v2.0/networks?router:external=true").json()["networks"][0]["id"]
        router = post("routers", {"router": {"external_gateway_info": {"network_id": outside}}})["id"]
        admin.put(f"/network/v2.0/routers/{router}/add_router_interface", {"subnet_id": subnet})
        image_id = make_image(cloud)
        server = Servers(admin, image_id).boot(networks=[{"uuid": inside}])
        port = admin.get(f"/network/v2.0/ports?device_id={server}").json()["ports"][0]["id"]
        post("floatingips", {"floatingip": {"floating_network_id": outside, "port_id": port}})
        yield Patient(cloud, admin, server)


def test_a_healthy_cloud_has_no_findings(patient: Patient) -> None:
    assert patient.found(patient.host) == []


def test_the_fake_host_agrees_too(patient: Patient) -> None:
    seen = doctor_host.look(patient.cloud.settings)
    assert seen.guests[patient.server].running
    assert [f for f in patient.found(seen) if f.check != "images"] == []


def _delete(table: sa.Table, *where: Any) -> Callable[[Tx], object]:
    return lambda tx: tx.execute(table.delete().where(*where))


def _update(table: sa.Table, **values: Any) -> Callable[[Tx], object]:
    return lambda tx: tx.execute(table.update().values(**values))


def _late_task(tx: Tx) -> None:
    tx.execute(task.insert().values(
        id="t", kind="server.build", node="n", resource="server:x", state="pending", arguments="{}", attempt=0,
        deadline=time.time() - 600, created=0.0,
    ))


def _foreign_allocation(tx: Tx) -> None:
    held = tx.first(sa.select(placement.allocation))
    assert held is not None
    tx.execute(placement.consumer.insert().values(
        id="nobody", project_id="p", user_id="u", generation=0, created=0.0, updated=0.0
    ))
    tx.execute(placement.allocation.insert().values(
        consumer_id="nobody", provider_id=held.provider_id, resource_class="VCPU", used=1
    ))


def _lost_snapshot(tx: Tx) -> None:
    tx.execute(image.image.update().values(status="queued"))
    for image_id in tx.scalars(sa.select(image.image.c.id)):
        tx.execute(image.image_property.insert().values(image_id=image_id, name="image_location", value="snapshot"))


def _subport_elsewhere(tx: Tx) -> None:
    """The server's port as a trunk's parent, and a subport that is not bound where it is."""
    parent = tx.first(sa.select(network.port).where(network.port.c.device_owner.like("compute:%")))
    assert parent is not None
    common = {"project_id": parent.project_id, "description": "", "created": 0.0, "updated": 0.0, "revision": 0}
    tx.execute(network.trunk.insert().values(
        id="t", name="", admin_state_up=True, status="ACTIVE", port_id=parent.id, **common
    ))
    below = parent._asdict() | {
        "id": "below", "mac": "fa:16:3e:ff:ff:ff", "device_id": "t", "device_owner": "trunk:subport",
        "host": "elsewhere",
    }
    tx.execute(network.port.insert().values(**below))
    tx.execute(network.subport.insert().values(
        port_id="below", trunk_id="t", segmentation_type="vlan", segmentation_id=101
    ))


_COMPUTE_PORT = network.port.c.device_owner.like("compute:%")
_HELD = sa.select(network.port.c.id).where(_COMPUTE_PORT)

DATABASE: dict[str, tuple[str, str, Callable[[Tx], object]]] = {
    "allocation row gone": ("allocations", "holds", _delete(
        placement.allocation, placement.allocation.c.resource_class == "MEMORY_MB"
    )),
    "all allocations gone": ("allocations", "holds nothing", _delete(placement.allocation)),
    "allocation of nobody": ("allocations", "is no placed server", _foreign_allocation),
    "usage miscounted": ("allocations", "its allocations sum to", _update(placement.inventory, used=77)),
    "server row gone": ("guests", "there is no such server", _update(compute.server, deleted=True)),
    "server row gone: its port": ("ports", "which is not there", _update(compute.server, deleted=True)),
    "server row gone: its claim": ("allocations", "is no placed server", _update(compute.server, deleted=True)),
    "port of another server": ("ports", "which is not there", lambda tx: tx.execute(
        network.port.update().where(_COMPUTE_PORT).values(device_id="somebody")
    )),
    "port bound elsewhere": ("ports", "is bound to", lambda tx: tx.execute(
        network.port.update().where(_COMPUTE_PORT).values(host="elsewhere")
    )),
    "subport bound elsewhere": ("ports", "its parent", _subport_elsewhere),
    "own port not there": ("ports", "is not there", _update(compute.server, own_ports=["gone"])),
    "server stopped": ("guests", "and its guest runs", _update(compute.server, vm_state="stopped")),
    "server elsewhere": ("guests", "its guest on", _update(compute.server, host="elsewhere")),
    "server nowhere": ("servers", "on no node", _update(compute.server, host=None)),
    "server stuck": ("servers", "no task is left", _update(compute.server, task_state="deleting")),
    "task late": ("tasks", "past its deadline", _late_task),
    "floating IP without its port's address": ("floating", "does not have the address", _delete(
        network.allocation, network.allocation.c.port_id.in_(sa.select(network.floating_ip.c.floating_port_id))
    )),
    "floating IP to an address that is gone": ("floating", "does not have", _delete(
        network.allocation, network.allocation.c.port_id.in_(_HELD)
    )),
    "floating IP row gone": ("floating", "that is not there", _delete(network.floating_ip)),
    "router without gateway": ("floating", "does not lead there", _update(network.router, gateway_network_id=None)),
    "no default group": ("groups", "no default", _update(network.security_group, default_of=None)),
    "router on another node": ("network", "nothing asks for it", _update(network.router, node="elsewhere")),
    "network of nobody": ("network", "nothing asks for it", lambda tx: [
        tx.execute(network.port.update().values(host="elsewhere")),
        tx.execute(network.network.update().values(node="elsewhere")),
    ]),
    "DHCP elsewhere": ("dhcp", "nothing asks for it", _update(network.network, node="elsewhere")),
    "image row gone": ("images", "belongs to no image", _delete(image.image)),
    "image of another size": ("images", "bytes, its file", _update(image.image, size=5)),
    "image stuck in saving": ("images", "nobody sends", _update(image.image, status="saving")),
    "snapshot that nobody makes": ("images", "nobody makes", _lost_snapshot),
}


@pytest.mark.parametrize("name", DATABASE)
def test_what_is_wrong_in_the_database_is_found(patient: Patient, name: str) -> None:
    check, wrong, hurt = DATABASE[name]
    found = patient.found(patient.host, hurt)
    assert [f for f in found if f.check == check and wrong in f.wrong], found


def _host(change: Callable[[Host, Carried, str], Host]) -> Callable[[Host, str], Host]:
    def changed(host: Host, server: str) -> Host:
        assert host.carried is not None
        return change(host, host.carried, server)

    return changed


def _carry(**values: Callable[[Carried], Any]) -> Callable[[Host, str], Host]:
    return _host(lambda host, carried, server: msgspec.structs.replace(
        host, carried=msgspec.structs.replace(carried, **{name: made(carried) for name, made in values.items()})
    ))


def _guest(**values: Any) -> Callable[[Host, str], Host]:
    return _host(lambda host, carried, server: msgspec.structs.replace(
        host, guests={server: msgspec.structs.replace(host.guests[server], **values)}
    ))


HOST: dict[str, tuple[str, str, Callable[[Host, str], Host]]] = {
    "QEMU killed": ("guests", "does not run", _guest(running=False, processes=0)),
    "QEMU killed: its tap": ("taps", "no running guest", _guest(running=False, processes=0)),
    "two QEMUs": ("guests", "has 2 processes", _guest(processes=2)),
    "guest gone": ("guests", "no such guest", _host(lambda h, c, s: msgspec.structs.replace(h, guests={}))),
    "guest of nobody": ("guests", "no such server", _host(
        lambda h, c, s: msgspec.structs.replace(h, guests={**h.guests, "stray": Guest(h.nodes[0], False, 0)})
    )),
    "namespace gone": ("network", "should be on the host", _carry(networks=lambda c: frozenset())),
    "namespace of nobody": ("network", "nothing asks", _carry(networks=lambda c: c.networks | {"stray"})),
    "router gone": ("network", "should be on the host", _carry(routers=lambda c: frozenset())),
    "tap gone": ("taps", "there is no tap", _carry(taps=lambda c: frozenset())),
    "tap of nobody": ("taps", "no running guest", _carry(taps=lambda c: c.taps | {"stray"})),
    "DHCP server gone": ("dhcp", "has 0 DHCP servers", _carry(dhcp=lambda c: {})),
    "two DHCP servers": ("dhcp", "has 2 DHCP servers", _carry(dhcp=lambda c: dict.fromkeys(c.dhcp, 2))),
    "DHCP server of nobody": ("dhcp", "nothing asks", _carry(dhcp=lambda c: {**c.dhcp, "pil-n-stray": 0})),
    "floating IP not on its router": ("floating", "lacks it", _carry(addresses=lambda c: {})),
    "image file gone": ("images", "its file None", _host(lambda h, c, s: msgspec.structs.replace(h, images={}))),
    "image file of nobody": ("images", "belongs to no image", _host(
        lambda h, c, s: msgspec.structs.replace(h, images={**h.images, "stray": 1})
    )),
    "staged file of nobody": ("images", "belongs to no image", _host(
        lambda h, c, s: msgspec.structs.replace(h, staged=frozenset({"stray"}))
    )),
    "cached image gone": ("cache", "stands on image", _host(lambda h, c, s: msgspec.structs.replace(h, cache={}))),
}


@pytest.mark.parametrize("name", HOST)
def test_what_is_wrong_on_the_host_is_found(patient: Patient, name: str) -> None:
    check, wrong, hurt = HOST[name]
    found = patient.found(hurt(patient.host, patient.server))
    assert [f for f in found if f.check == check and wrong in f.wrong], found


def test_what_goes_on_is_unsettled(patient: Patient) -> None:
    found = patient.found(patient.host, _update(compute.server, vm_state="building", task_state="spawning"))
    assert "unsettled" in {f.check for f in found}


def test_what_a_node_is_to_do_that_is_gone_is_not_waited_for(patient: Patient) -> None:
    def ask(tx: Tx) -> None:
        tasks.enqueue(tx, patient.cloud, "server.destroy", node="gone", resource="server:x", arguments=None)
        tx.execute(task.update().values(deadline=1.0))

    assert {f.check for f in patient.found(patient.host, ask)} == {"unsettled", "tasks"}
    assert not patient.found(patient.host, ask, without=frozenset({"gone"}))


def test_a_node_that_does_not_answer_was_not_judged(patient: Patient) -> None:
    found = patient.found(patient.host, silent={"far": "its agent does not run"})
    assert [(f.check, f.thing) for f in found] == [("nodes", "node far")]


def test_the_judge_changes_nothing(patient: Patient) -> None:
    settings = patient.cloud.settings
    if settings.database:
        pytest.skip("of the embedded database")

    def files() -> dict[str, tuple[int, float]]:
        return {
            str(p): (p.stat().st_size, p.stat().st_mtime) for p in settings.state.rglob("*")
            if p.suffix != ".db-shm"  # the shared memory in which readers, too, tell of themselves
        }

    before = files()
    judge.judge(settings)
    assert files() == before


def test_no_cloud_is_said_to_be_none(patient: Patient, tmp_path: Any) -> None:
    settings = msgspec.structs.replace(patient.cloud.settings, state_dir=str(tmp_path), database="")
    with pytest.raises(judge.NoCloud, match="has a cloud ever run here"):
        judge.judge(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_does_not_answer_is_said_to_be_that(patient: Patient) -> None:
    settings = msgspec.structs.replace(patient.cloud.settings, database="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(judge.NoCloud, match="the database cannot be read"):
        judge.judge(settings)


def test_a_host_that_may_not_be_looked_at_is_said_to_be_that(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(settings: object) -> Host:
        raise PermissionError("not for you")

    monkeypatch.setattr(doctor_host, "look", refused)
    with pytest.raises(judge.NoCloud, match="that takes root"):
        judge.judge(patient.cloud.settings)


def test_what_comes_a_step_further_between_two_looks_is_still_not_settled(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that moved from one task to the next, beside a disagreement that passed, was taken for settled."""
    looks = [
        [Finding("unsettled", "server s", "task_state resize_prep"), Finding("ports", "port p", "is of nobody")],
        [Finding("unsettled", "server s", "task_state resize_finish")],
    ]
    monkeypatch.setattr(judge, "_once", lambda *_: looks.pop(0))
    assert judge.judge(patient.cloud.settings) == [Finding("unsettled", "server s", "task_state resize_finish")]
