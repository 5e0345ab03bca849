"""The tasks about servers: each is one method of the hypervisor, with the network before and after it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from pileus.node.contract import GuestGone, GuestState, NodeFault, ServerDone, ServerSpec, ServerTask, Task, VolumeSpec

if TYPE_CHECKING:
    from pileus.node.agent import Agent

_LOG = logging.getLogger("pileus.node")


async def perform(agent: Agent, task: Task) -> ServerDone:
    """Do one `server.…` task. Raises NodeFault or GuestGone."""
    handler = _HANDLERS.get(task.kind)
    if handler is None:
        raise NodeFault(f"this node does not know how to do '{task.kind}'; is it older than its controller?")
    return await handler(agent, msgspec.json.decode(task.arguments, type=ServerTask))


def _spec(given: ServerTask) -> ServerSpec:
    if given.spec is None:
        raise NodeFault(f"the task for server {given.server_id} lacks the server's description")
    return given.spec


async def _wired(agent: Agent, spec: ServerSpec) -> tuple[str, ...]:
    """Have the guest's ports made before QEMU opens their taps; their ids."""
    ports = tuple(nic.port_id for nic in spec.nics)
    if ports and agent.network.settle == 0:
        report = await agent.network_now()
        for nic in spec.nics:
            problem = report.errors.get(nic.port_id) or report.errors.get(nic.network_id)
            if problem:
                raise NodeFault(f"port {nic.port_id} could not be wired: {problem}")
    return ports


async def _up(agent: Agent, ports: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the ports carry traffic once their guest runs."""
    if agent.network.settle > 0:
        return ports
    report = await agent.network_now()
    return tuple(port for port in ports if port in report.ports_up)


def _starting(method: str) -> Callable[[Agent, ServerTask], Awaitable[ServerDone]]:
    """A task after which the guest runs, by the hypervisor's method of that name."""

    async def handler(agent: Agent, given: ServerTask) -> ServerDone:
        spec = _spec(given)
        ports = await _wired(agent, spec)
        guest: GuestState = await getattr(agent.hypervisor, method)(spec)
        return ServerDone(guest=guest, ports_up=await _up(agent, ports))

    return handler


def _simple(method: str) -> Callable[[Agent, ServerTask], Awaitable[ServerDone]]:
    """A task that needs no more than the server's id."""

    async def handler(agent: Agent, given: ServerTask) -> ServerDone:
        return ServerDone(guest=await getattr(agent.hypervisor, method)(given.server_id))

    return handler


async def _destroy(agent: Agent, given: ServerTask) -> ServerDone:
    await agent.hypervisor.destroy(given.server_id)
    return ServerDone()


async def _power_off(agent: Agent, given: ServerTask) -> ServerDone:
    return ServerDone(guest=await agent.hypervisor.power_off(given.server_id, given.timeout))


async def _reboot(agent: Agent, given: ServerTask) -> ServerDone:
    spec = _spec(given)
    ports = await _wired(agent, spec)
    guest = await agent.hypervisor.reboot(spec, given.hard, given.timeout)
    return ServerDone(guest=guest, ports_up=await _up(agent, ports))


async def _snapshot(agent: Agent, given: ServerTask) -> ServerDone:
    if given.image_id is None:
        raise NodeFault("the snapshot task lacks the image that is to hold the data")
    agent.scratch.mkdir(parents=True, exist_ok=True)
    target = agent.scratch / f"snapshot-{given.image_id}"
    try:
        await agent.hypervisor.snapshot(given.server_id, target)
        size = target.stat().st_size
        await agent.link.image_store(given.image_id, target)
    finally:
        target.unlink(missing_ok=True)
    return ServerDone(guest=await _guest(agent, given.server_id), bytes_stored=size)


async def _guest(agent: Agent, server_id: str) -> GuestState | None:
    try:
        return await agent.hypervisor.guest(server_id)
    except GuestGone:
        return None


async def _attach_nic(agent: Agent, given: ServerTask) -> ServerDone:
    spec = _spec(given)
    nic = next((n for n in spec.nics if n.port_id == given.port_id), None)
    if nic is None:
        raise NodeFault(f"port {given.port_id} is not in the server's description")
    await _wired(agent, spec)
    await agent.hypervisor.attach_nic(spec, nic)
    return ServerDone(ports_up=await _up(agent, (nic.port_id,)))


async def _detach_nic(agent: Agent, given: ServerTask) -> ServerDone:
    if given.port_id is None:
        raise NodeFault("the task names no port")
    await agent.hypervisor.detach_nic(given.server_id, given.port_id)
    return ServerDone()


def _volume(spec: ServerSpec, volume_id: str | None) -> VolumeSpec:
    volume = next((v for v in spec.volumes if v.volume_id == volume_id), None)
    if volume is None:
        raise NodeFault(f"volume {volume_id} is not in the server's description")
    return volume


async def _attach_volume(agent: Agent, given: ServerTask) -> ServerDone:
    spec = _spec(given)
    await agent.hypervisor.attach_volume(spec, _volume(spec, given.volume_id))
    return ServerDone()


async def _detach_volume(agent: Agent, given: ServerTask) -> ServerDone:
    if given.volume_id is None:
        raise NodeFault("the task names no volume")
    await agent.hypervisor.detach_volume(given.server_id, given.volume_id)
    return ServerDone()


async def _extend_volume(agent: Agent, given: ServerTask) -> ServerDone:
    spec = _spec(given)
    await agent.hypervisor.extend_volume(spec, _volume(spec, given.volume_id))
    return ServerDone()


async def _swap_volume(agent: Agent, given: ServerTask) -> ServerDone:
    if given.volume_id is None:
        raise NodeFault("the task names no volume")
    spec = _spec(given)
    await agent.hypervisor.swap_volume(spec, given.volume_id, _volume(spec, given.new_volume_id))
    return ServerDone()


async def _build(agent: Agent, given: ServerTask) -> ServerDone:
    if given.source is not None:
        await agent.hypervisor.fetch_disks(_spec(given), given.source)
    return await _starting("build")(agent, given)


async def _fetch_disks(agent: Agent, given: ServerTask) -> ServerDone:
    """The guest goes on here without being started: it is off, and stays so."""
    if given.source is None:
        raise NodeFault(f"the task does not say where the disks of server {given.server_id} are")
    await agent.hypervisor.fetch_disks(_spec(given), given.source)
    return ServerDone(guest=await agent.hypervisor.guest(given.server_id))


async def _export_disks(agent: Agent, given: ServerTask) -> ServerDone:
    return ServerDone(source=await agent.hypervisor.export_disks(given.server_id))


async def _end_export(agent: Agent, given: ServerTask) -> ServerDone:
    await agent.hypervisor.end_export(given.server_id)
    return ServerDone()


async def _layout(agent: Agent, given: ServerTask) -> ServerDone:
    return ServerDone(layout=await agent.hypervisor.layout(given.server_id))


async def _take_in(agent: Agent, given: ServerTask) -> ServerDone:
    spec = _spec(given)
    await _wired(agent, spec)
    return ServerDone(target=await agent.hypervisor.take_in(spec, given.layout))


async def _send(agent: Agent, given: ServerTask) -> ServerDone:
    if given.target is None:
        raise NodeFault(f"the task does not say where server {given.server_id} is to go")
    await agent.hypervisor.send(given.server_id, given.target)
    return ServerDone()


_HANDLERS: dict[str, Callable[[Agent, ServerTask], Awaitable[ServerDone]]] = {
    "server.build": _build,
    "server.rebuild": _starting("rebuild"),
    "server.power_on": _starting("power_on"),
    "server.resume": _starting("resume"),
    "server.rescue": _starting("rescue"),
    "server.unrescue": _starting("unrescue"),
    "server.resize": _starting("resize"),
    "server.reboot": _reboot,
    "server.power_off": _power_off,
    "server.pause": _simple("pause"),
    "server.unpause": _simple("unpause"),
    "server.suspend": _simple("suspend"),
    "server.destroy": _destroy,
    "server.snapshot": _snapshot,
    "server.attach_nic": _attach_nic,
    "server.detach_nic": _detach_nic,
    "server.attach_volume": _attach_volume,
    "server.detach_volume": _detach_volume,
    "server.extend_volume": _extend_volume,
    "server.swap_volume": _swap_volume,
    "server.fetch_disks": _fetch_disks,
    "server.export_disks": _export_disks,
    "server.end_export": _end_export,
    "server.layout": _layout,
    "server.take_in": _take_in,
    "server.send": _send,
    "server.taken": _starting("taken"),
}
