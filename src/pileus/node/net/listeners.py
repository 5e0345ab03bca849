"""The metadata address of every network and router, served by the agent itself.

The sockets are opened inside the namespaces and served by the agent's own event loop: no proxies.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any

from pileus.node.contract import MetadataServer
from pileus.node.net import names
from pileus.node.net.namespaces import identity as namespace_identity
from pileus.node.net.namespaces import listening_socket


class Listeners:
    """Listening sockets by network or router id. A server that is wanted again stays as it is."""

    def __init__(self, metadata: MetadataServer, executor: Executor) -> None:
        self._metadata = metadata
        self._executor = executor
        self._servers: dict[str, list[asyncio.Server]] = {}
        self._places: dict[str, int | None] = {}

    async def open(self, identity: str, namespace: str, router: bool) -> None:
        """Serve 169.254.169.254:80 in a namespace, and in a network also fe80::a9fe:a9fe.

        Raises OSError if an address is not there."""
        place = namespace_identity(namespace)
        if identity in self._servers and self._places[identity] == place:
            return
        self.close(identity)
        loop = asyncio.get_running_loop()
        places = [(names.METADATA4, None)] if router else [(names.METADATA4, None), (names.METADATA6, names.SWITCH)]
        protocol = _protocol_factory(self._metadata(identity))
        servers: list[asyncio.Server] = []
        try:
            for address, device in places:
                sock = await loop.run_in_executor(
                    self._executor, listening_socket, namespace, address, 80, device
                )
                servers.append(await loop.create_server(protocol, sock=sock))
        except BaseException:
            for server in servers:
                server.close()
            raise
        self._servers[identity] = servers
        self._places[identity] = place

    def close(self, identity: str) -> None:
        """Stop serving; what is being answered is answered."""
        for server in self._servers.pop(identity, []):
            server.close()

    def close_all(self) -> None:
        """Stop serving everywhere."""
        for identity in list(self._servers):
            self.close(identity)


def _protocol_factory(app: Any) -> Any:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import ServerState

    config = Config(
        app, lifespan="off", log_config=None, access_log=False, server_header=False, date_header=False,
        proxy_headers=False, timeout_keep_alive=5, ws="none", http=HttpToolsProtocol,
    )  # fmt: skip
    config.load()
    state = ServerState()
    return lambda: HttpToolsProtocol(config=config, server_state=state, app_state={})
