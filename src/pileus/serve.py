"""One process: every API, the controllers' own work, and the node agents."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

from pileus.cloud import Cloud
from pileus.cluster import controllers, watch
from pileus.controller import LocalLink, LocalNodes
from pileus.node.assemble import make_agents
from pileus.settings import Settings
from pileus.web.app import App, AsgiApp, Receive, Scope, Send
from pileus.web.protocol import Protocol
from pileus.work import periodic

_LOG = logging.getLogger("pileus")
_GRACE = 5


class ListenError(Exception):
    """An address could not be had; says which and why."""


def open_socket(address: str) -> socket.socket:
    """A listening socket on `host:port`. Raises ListenError."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host.strip("[]"), int(port)))
    except (OSError, ValueError) as error:
        sock.close()
        raise ListenError(f"cannot listen on {address}: {error}; choose another with --set listen=HOST:PORT") from None
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def make_server(app: AsgiApp, workers_grace: int = _GRACE) -> uvicorn.Server:
    """The HTTP server as every port has it."""
    config = uvicorn.Config(
        app, loop="uvloop", http=Protocol, ws="websockets-sansio", lifespan="off", log_config=None, access_log=False,
        server_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=workers_grace, ws_max_size=1 << 20,
        h11_max_incomplete_event_size=None,
    )
    server = uvicorn.Server(config)
    return server


class Process:
    """A controller, and with `agents` the node of this machine too, from start to stop.

    `cluster` is the listening socket of the cluster port, None for a cloud of this process alone."""

    def __init__(self, cloud: Cloud, agents: bool = True, cluster: socket.socket | None = None) -> None:
        self.cloud = cloud
        self.agents = agents
        self.cluster = cluster
        self.nodes = LocalNodes(cloud)
        self.app = App(cloud, cloud.served, self._extra())
        self.stopping = asyncio.Event()
        self.owner = f"{cloud.controller}:{os.getpid()}"

    def _extra(self) -> dict[str, AsgiApp]:
        extra: dict[str, AsgiApp] = {"healthz": self._health, "metrics": self._metrics}
        if "compute" in self.cloud.rooms:
            from pileus.console.app import ConsoleApp

            extra["console"] = ConsoleApp(self.cloud)
        return extra

    async def run(self, sockets: list[tuple[str, socket.socket]], ready: Callable[[], None]) -> None:
        """Serve until `stopping` is set. `sockets` are (service name or "", socket). Calls `ready` when all answer."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        cloud = self.cloud
        if self.agents:
            settings = self._node_settings()
            self.nodes.agents = make_agents(settings, lambda name: LocalLink(cloud, name), self._local_image)
        async with asyncio.TaskGroup() as group:
            servers = [(make_server(self._classic(name) if name else self.app), sock) for name, sock in sockets]
            serving = [group.create_task(_serve(server, sock)) for server, sock in servers]
            work = [group.create_task(agent.run()) for agent in self.nodes.agents.values()]
            work.append(group.create_task(periodic.run(self.cloud, self.cloud.periodic, self.owner)))
            work.append(group.create_task(self.cloud.run_jobs(self.owner)))
            work.append(group.create_task(cloud.heartbeats.run()))
            work.append(group.create_task(watch.run(cloud, self.nodes.here)))
            if self.cluster is not None:
                from pileus.cluster.membership import Membership

                member = Membership(cloud, self.nodes, self.cluster)
                await member.begin()
                work += [group.create_task(each) for each in member.work()]
            for agent in self.nodes.agents.values():
                await agent.ready.wait()
            while not all(server.started for server, _ in servers):  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
            _spare_the_collector()
            ready()
            await self.stopping.wait()
            _LOG.info("stopping; guests go on running")
            for server, _ in servers:
                server.should_exit = True
            await asyncio.gather(*serving)
            for task in work:
                task.cancel()
            if self.cluster is not None:
                with contextlib.suppress(Exception):
                    await cloud.db.run(lambda tx: controllers.gone(tx, cloud.controller))

    def _node_settings(self) -> Settings:
        """The settings of the node in this process: other nodes reach it where they reach the cluster port."""
        settings = self.cloud.settings
        if self.cluster is None or settings.address:
            return settings
        from pileus.cluster.membership import host_of, own_address

        gateway = "yes" if settings.host_gateway == "auto" else settings.host_gateway
        address = host_of(settings.cluster_address or own_address(self.cluster))
        return msgspec.structs.replace(settings, address=address, host_gateway=gateway)

    def _local_image(self, image: Any) -> Any:
        from pileus.image import copies

        return copies.local_path(self.cloud, image.id)

    def _classic(self, service: str) -> AsgiApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["pileus.service"] = service
            await self.app(scope, receive, send)

        return app

    async def _health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /healthz: 200 when the database answers and every agent has started, else 503.

        GET /healthz/ready says 404 instead, by which HAProxy sends nothing new and lets end what goes on."""
        problem = ""
        try:
            await self.cloud.db.ping()
        except Exception as error:
            problem = f"database: {type(error).__name__}"
        late = [name for name, agent in self.nodes.agents.items() if not agent.ready.is_set()]
        if late:
            problem = problem or f"nodes not ready: {', '.join(late)}"
        unwell = 404 if scope["path"].endswith("/ready") else 503
        await _text(send, unwell if problem else 200, (problem or "ok").encode() + b"\n", "text/plain; charset=utf-8")

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /metrics: Prometheus' text format."""
        late = {name for name, agent in self.nodes.agents.items() if not agent.ready.is_set()}
        self.cloud.metrics.nodes_up.set(len(self.nodes.here() - late))
        await _text(send, 200, self.cloud.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")


def _spare_the_collector() -> None:
    """Take what the start has made out of the garbage collector's sight, and let it look less often.

    A list of a thousand makes enough objects for several full collections, each over the whole heap."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


async def _text(send: Send, status: int, body: bytes, media: str) -> None:
    headers = [(b"content-type", media.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _serve(server: uvicorn.Server, sock: socket.socket) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await _main(server, sock)


def _main(server: uvicorn.Server, sock: socket.socket) -> Awaitable[None]:
    # uvicorn's own `serve` takes over the signals; the process has its own.
    return server._serve([sock])


def run(
    cloud: Cloud, sockets: list[tuple[str, socket.socket]], ready: Callable[[], None], *, agents: bool = True,
    cluster: socket.socket | None = None,
) -> None:
    """Serve the opened cloud until told to stop by SIGTERM or SIGINT."""
    import uvloop

    async def main() -> None:
        await Process(cloud, agents, cluster).run(sockets, ready)

    uvloop.run(main())
