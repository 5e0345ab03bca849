"""The network driver on Linux bridges: networks and routers as namespaces, filtered by nftables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from pileus.node.contract import (
    MetadataServer,
    NetworkReport,
    NetworkState,
    NicSpec,
    NodeFault,
    NodeNetwork,
    PortState,
    RouterState,
)
from pileus.node.net import names, namespaces
from pileus.node.net.dnsmasq import Dnsmasq, require_user
from pileus.node.net.links import observe_devices, remove_namespace
from pileus.node.net.listeners import Listeners
from pileus.node.net.outside import Outside
from pileus.node.net.router import Greetings, Router
from pileus.node.net.settings import NetSettings, resolvers
from pileus.node.net.switch import Outcome, Switch
from pileus.node.net.uplink import reached

T = TypeVar("T")
Refresh = Callable[[], Awaitable[None]]
_log = logging.getLogger(__name__)
_ASK_SECONDS = 0.2  # between two requests for a state that has the port
_GREET_AGAIN = (0.3, 1.0, 2.0)  # seconds between announcements of a router's new addresses
_TOGETHER = 4  # networks worked on at once: the work is mostly the kernel's and short programs'


class BridgeDriver:
    """NetworkDriver of one node; see the contract for what each method promises.

    `refresh` asks the agent to fetch the state and apply it again soon: when a hypervisor asks for a tap of
    a port that is not known yet, and when a tap has come, so that the port is reported up.
    """

    name = "bridge"
    settle = 0.0

    def __init__(self, settings: NetSettings, metadata: MetadataServer, refresh: Refresh | None = None) -> None:
        if not settings.dns_forwarders:
            settings = msgspec.structs.replace(settings, dns_forwarders=_host_resolvers())
        self._settings = settings
        self._refresh = refresh
        self._executor = ThreadPoolExecutor(_TOGETHER, thread_name_prefix="pileus-net")
        self._outside = Outside(settings)
        self._listeners = Listeners(metadata, self._executor)
        self._switches: dict[str, Switch] = {}
        self._routers: dict[str, Router] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._lock = asyncio.Lock()
        self._adopted = False
        self._applied = asyncio.Event()
        self._asked: set[asyncio.Task[None]] = set()
        self._greeting: set[asyncio.Task[None]] = set()
        self._errors: dict[str, str] = {}  # of the last apply
        self._wanted = False

    async def _thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Run blocking work; a cancelled caller still waits, so that no two threads work on one thing."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def start(self) -> None:
        """Prepare the host. What an earlier process left is adopted piece by piece at the first apply."""
        await self._thread(self._prepare)

    def _prepare(self) -> None:
        self._settings.state_dir.mkdir(parents=True, exist_ok=True)
        for path in (self._settings.run_dir, self._settings.dhcp_dir):
            if not path.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(0o755)  # whatever the umask: dnsmasq's user reads here
        require_user(self._settings.dnsmasq_user, self._settings.dhcp_dir)
        self._outside.make()

    async def stop(self) -> None:
        """Let go: namespaces, taps and DHCP servers go on without the agent."""
        for task in [*self._asked, *self._greeting]:
            task.cancel()
        self._listeners.close_all()
        await asyncio.to_thread(self._executor.shutdown)

    # -------------------------------------------------------------------------------------- apply

    async def apply(self, state: NodeNetwork) -> NetworkReport:
        """Make the node so. What cannot be made is in the report's errors and does not stop the rest."""
        async with self._lock:
            errors: dict[str, str] = {}
            if not self._adopted:
                await self._remove_strangers(state, errors)
                self._adopted = True
            await self._remove_gone(state, errors)
            up = await self._apply_networks(state, errors)
            up |= await self._apply_subports(state, errors)
            await self._apply_routers(state, errors)
            applied, self._applied = self._applied, asyncio.Event()
            applied.set()
        self._errors = errors
        return NetworkReport(
            revision=state.revision, ports_up=tuple(sorted(up)), errors=errors, lease=state.lease,
            physical_networks=await self._thread(reached, self._settings),
        )

    async def _apply_networks(self, state: NodeNetwork, errors: dict[str, str]) -> set[str]:
        groups = {group.id: group for group in state.security_groups}
        ports: dict[str, list[PortState]] = {network.id: [] for network in state.networks}
        for port in state.ports:
            if port.network_id in ports:
                ports[port.network_id].append(port)
            else:
                errors[port.id] = f"its network {port.network_id} is not among this node's networks"
        up: set[str] = set()

        async def one(network: NetworkState) -> None:
            switch = self._switches.setdefault(network.id, Switch(self._settings, network.id))
            members = tuple(ports[network.id])
            try:
                async with self._lock_of(network.id):
                    outcome: Outcome = await self._thread(switch.apply, network, members, groups)
                up.update(outcome.ports_up)
                errors.update(outcome.errors)
                if outcome.metadata:
                    await self._listeners.open(network.id, switch.namespace, router=False)
                else:
                    self._listeners.close(network.id)
            except Exception as fault:
                errors[network.id] = _words(fault)
                up.update(switch.wired(members))  # what could not be changed still carries traffic

        await asyncio.gather(*(one(network) for network in state.networks))
        return up

    async def _apply_subports(self, state: NodeNetwork, errors: dict[str, str]) -> set[str]:
        """When all networks are as they shall be: before, a tap may be missing, or a tag still be another subport's."""
        ready: dict[str, set[str]] = {}
        for port in state.ports:
            if port.branch is not None and port.network_id in self._switches:
                here = ready.setdefault(port.network_id, set())
                home = self._switches.get(port.branch.network_id)
                if home is not None and home.joined(port.branch.parent_id):
                    here.add(port.id)
        up: set[str] = set()
        for network_id, parents_joined in ready.items():
            try:
                async with self._lock_of(network_id):
                    outcome: Outcome = await self._thread(self._switches[network_id].branch, parents_joined)
            except Exception as fault:
                errors.setdefault(network_id, _words(fault))
                continue
            up |= outcome.ports_up
            for port_id, why in outcome.errors.items():
                errors[port_id] = why
                if self._errors.get(port_id) != why:
                    _log.warning("subport %s of a trunk is not wired: %s", port_id, why)
        return up

    async def _apply_routers(self, state: NodeNetwork, errors: dict[str, str]) -> None:
        networks = {network.id: network for network in state.networks}

        async def one(router: RouterState) -> None:
            known = self._routers.setdefault(router.id, Router(self._settings, router.id))
            try:
                if greetings := await self._thread(known.apply, router, networks):
                    self._greet_again(known, greetings)
                await self._listeners.open(router.id, known.namespace, router=True)
            except Exception as fault:
                errors[router.id] = _words(fault)

        await asyncio.gather(*(one(router) for router in state.routers))

    def _greet_again(self, router: Router, greetings: Greetings) -> None:
        """Say some moments later too where the router's addresses are."""
        async def greet() -> None:
            for pause in _GREET_AGAIN:
                await asyncio.sleep(pause)
                if self._routers.get(router.id) is router:
                    await self._thread(router.greet, greetings)

        task = asyncio.create_task(greet())
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def _remove_gone(self, state: NodeNetwork, errors: dict[str, str]) -> None:
        for identity in self._routers.keys() - {router.id for router in state.routers}:
            await self._remove(identity, self._routers[identity], errors)
        for identity in self._switches.keys() - {network.id for network in state.networks}:
            await self._remove(identity, self._switches[identity], errors)
            for router in self._routers.values():
                router.forget()

    async def _remove(self, identity: str, thing: Switch | Router, errors: dict[str, str]) -> None:
        self._listeners.close(identity)
        try:
            async with self._lock_of(identity):
                await self._thread(thing.remove)
        except Exception as fault:
            errors[identity] = f"could not be removed: {_words(fault)}"
            return
        self._switches.pop(identity, None)
        self._routers.pop(identity, None)
        self._locks.pop(identity, None)

    async def _remove_strangers(self, state: NodeNetwork, errors: dict[str, str]) -> None:
        """Namespaces of ours that nothing in the state owns: left by a process that died while removing."""
        wanted = {names.network_namespace(self._settings.prefix, network.id) for network in state.networks}
        wanted |= {names.router_namespace(self._settings.prefix, router.id) for router in state.routers}
        for namespace in await self._thread(self._own_namespaces):
            if namespace in wanted:
                continue
            try:
                await self._thread(self._remove_namespace, namespace)
            except Exception as fault:
                errors[namespace] = f"could not be removed: {_words(fault)}"

    def _lock_of(self, identity: str) -> asyncio.Lock:
        return self._locks.setdefault(identity, asyncio.Lock())

    # --------------------------------------------------------------------------------------- taps

    async def open_tap(self, nic: NicSpec) -> int:
        """See TapSource. Waits for the port's rules for some seconds: a tap never carries unfiltered traffic."""
        try:
            async with asyncio.timeout(self._settings.tap_wait_seconds):
                while not self._knows(nic):
                    applied = self._applied
                    self._ask()
                    await applied.wait()
                    if not self._knows(nic):
                        await asyncio.sleep(_ASK_SECONDS)
        except TimeoutError:
            why = self._errors.get(nic.network_id)
            raise NodeFault(
                f"Binding failed for port {nic.port_id}: network {nic.network_id} cannot be had on this node: {why}"
                if why else f"port {nic.port_id} did not come to this node within "
                f"{self._settings.tap_wait_seconds:g} s; is it bound to this node?"
            ) from None
        async with self._lock_of(nic.network_id):
            descriptor = await self._thread(self._switches[nic.network_id].open_tap, nic.port_id)
        self._ask()
        return descriptor

    async def close_tap(self, port_id: str) -> None:
        """See TapSource."""
        for identity, switch in list(self._switches.items()):
            if switch.knows(port_id):
                async with self._lock_of(identity):
                    await self._thread(switch.close_tap, port_id)

    def _knows(self, nic: NicSpec) -> bool:
        switch = self._switches.get(nic.network_id)
        return switch is not None and switch.knows(nic.port_id)

    def _ask(self) -> None:
        """Ask for an apply, without waiting. Asked while one is under way, there is one more after it."""
        if self._refresh is None:
            return
        self._wanted = True
        if not self._asked:
            task = asyncio.create_task(self._keep_asking(self._refresh))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def _keep_asking(self, refresh: Refresh) -> None:
        while self._wanted:
            self._wanted = False
            try:
                await refresh()
            except Exception:
                _log.exception("the agent could not apply the network's state when asked to")

    # -------------------------------------------------------------------------- inventory and end

    async def inventory(self) -> dict[str, set[str]]:
        """See NetworkDriver: read from the devices' aliases, which hold the whole ids."""
        return await self._thread(self._read_inventory)

    def _own_namespaces(self) -> list[str]:
        """Namespaces of ours, and those that left files: a machine that was started anew has only these."""
        pattern = names.own_namespace(self._settings.prefix)
        folder = self._settings.dhcp_dir
        served = os.listdir(folder) if folder.is_dir() else []
        return sorted({name for name in (*namespaces.names(), *served) if pattern.fullmatch(name)})

    def _read_inventory(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {"networks": set(), "ports": set(), "routers": set()}
        for namespace in filter(namespaces.exists, self._own_namespaces()):
            devices = observe_devices(namespace)
            marker, kind = ("lo", "routers") if self._is_router(namespace) else (names.SWITCH, "networks")
            found[kind].add(devices[marker].alias if marker in devices else namespace)
            found["ports"] |= {
                device.alias or name for name, device in devices.items() if name.startswith("tap")
            }
        return found

    def _is_router(self, namespace: str) -> bool:
        match = names.own_namespace(self._settings.prefix).fullmatch(namespace)
        return match is not None and match[1] == "r"

    def _remove_namespace(self, namespace: str) -> None:
        """Remove a namespace of ours by its name alone."""
        Dnsmasq(namespace, self._settings.dhcp_dir / namespace).remove()
        remove_namespace(namespace)

    async def teardown(self) -> None:
        """See NetworkDriver. Works without a state, from the host alone."""
        async with self._lock:
            self._listeners.close_all()
            for namespace in await self._thread(self._own_namespaces):
                await self._thread(self._remove_namespace, namespace)
            await self._thread(self._clear)
            self._switches.clear()
            self._routers.clear()
            self._adopted = False

    def _clear(self) -> None:
        self._outside.remove()
        for path in (self._settings.dhcp_dir, self._settings.run_dir):
            with contextlib.suppress(OSError):  # missing, or another agent's folder is in it
                path.rmdir()


def _words(fault: Exception) -> str:
    """A fault as the report tells it; one that nobody foresaw is logged with its place."""
    if isinstance(fault, NodeFault):
        return str(fault)
    _log.error("network driver: %s", fault, exc_info=fault)
    return f"{type(fault).__name__}: {fault}"


def _host_resolvers() -> tuple[str, ...]:
    try:
        return resolvers(Path("/etc/resolv.conf").read_text())
    except OSError:
        return ()
