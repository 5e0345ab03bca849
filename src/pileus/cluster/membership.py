"""This controller as one of the cluster's: its cluster port, its sign of life, its way to the other controllers."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from pileus import version
from pileus.cluster import authority, certificates, controllers, log_levels, nodes
from pileus.cluster.peers import PeerLinks
from pileus.cluster.port import ClusterPort

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.controller import LocalNodes

_LOG = logging.getLogger("pileus.cluster")
_BEAT = 4.0
_RENEW = 6 * 3600.0


class Membership:
    """Made with the listening socket of the cluster port."""

    def __init__(self, cloud: Cloud, local: LocalNodes, sock: socket.socket) -> None:
        self.cloud = cloud
        self.local = local
        self.port = ClusterPort(cloud, local)
        local.port = self.port
        self._sock = sock
        self._context: ssl.SSLContext | None = None
        self._started = cloud.world.now()
        self.address = cloud.settings.cluster_address or own_address(sock)

    async def begin(self) -> None:
        """Key and certificate, the nodes of this very process, and the first sign of life."""
        cloud, settings = self.cloud, self.cloud.settings
        await self._keep_certificate()
        # What an earlier process of this controller has left: it has no connections yet.
        await cloud.db.run(lambda tx: nodes.all_left(tx, cloud.controller))
        host = settings.address or host_of(self.address)
        for name in self.local.agents:
            await cloud.db.run(lambda tx, name=name: nodes.own(tx, cloud, name, host))  # type: ignore[misc]
        if settings.bus:
            from pileus.work.amqp import make_carrier

            cloud.bus.carrier = make_carrier(cloud, self.local.ask_here)
        elif cloud.db.dialect != "sqlite":
            cloud.bus.carrier = PeerLinks(cloud)
        await cloud.db.run(lambda tx: log_levels.begin(tx, cloud.controller))
        await self._beat()

    def work(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs as long as the process."""
        self._context = certificates.server_context(self.cloud.cluster_folder)
        yield self.port.serve(self._sock, self._context)
        yield self.port.control(str(self.cloud.settings.run / "control.sock"))
        yield self._live()
        yield self._renew()
        yield log_levels.run(self.cloud)
        if self.cloud.bus.carrier is not None:
            yield self.cloud.bus.carrier.run()

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            try:
                await self._beat()
            except Exception as error:
                _LOG.warning("this controller's sign of life cannot be written now: %s", error)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW)
            try:
                if await self._keep_certificate() and self._context is not None:
                    folder = self.cloud.cluster_folder
                    self._context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
            except Exception as error:
                _LOG.warning("this controller's certificate cannot be renewed now: %s", error)

    async def _keep_certificate(self) -> bool:
        cloud = self.cloud
        return await cloud.db.run(lambda tx: authority.controller_files(tx, cloud, cloud.cluster_folder))

    async def _beat(self) -> None:
        served = [service.name for service in self.cloud.served]
        await self.cloud.db.run(lambda tx: controllers.beat(
            tx, self.cloud, self.address, list(self.cloud.settings.services) or served, version(), self._started
        ))


def host_of(address: str) -> str:
    """The host of HOST:PORT."""
    return address.rpartition(":")[0].strip("[]")


def own_address(sock: socket.socket) -> str:
    """HOST:PORT at which other machines reach a listening socket, as well as this one can know."""
    host, port = sock.getsockname()[:2]
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:  # asks the routing table; nothing is sent
            try:
                probe.connect((somewhere, 9))
            except OSError:
                continue
            found = probe.getsockname()[0]
            return f"[{found}]:{port}" if ":" in found else f"{found}:{port}"
    return f"{socket.gethostname()}:{port}"
