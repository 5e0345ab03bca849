"""The process of `pileus agent`: one node, or many that are fake, each with a connection of its own."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from pileus import version
from pileus.doctor import host
from pileus.node.agent import Agent
from pileus.node.assemble import make_agents
from pileus.node.contract import NodeLink
from pileus.node.identity import Identity
from pileus.node.link import RemoteLink
from pileus.settings import Settings

_LOG = logging.getLogger("pileus.node")
_DIALLING = 16


class AgentProcess:
    """`folders` are where each node's identity is, by name."""

    def __init__(self, settings: Settings, folders: dict[str, Path]) -> None:
        dialling = asyncio.Semaphore(_DIALLING)
        self.links = {
            name: RemoteLink(Identity(folder), settings.address, version(), dialling)
            for name, folder in folders.items()
        }
        self.roles = Identity(next(iter(folders.values()))).roles
        self.settings = settings

    def run(self, ready: Callable[[], None]) -> None:
        """Work until SIGTERM or SIGINT; calls `ready` when every node is registered with a controller."""
        import uvloop

        uvloop.run(self._main(ready))

    async def _main(self, ready: Callable[[], None]) -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if not self.settings.address:
            # Where guests are moved to and networks end has to be known before the drivers start.
            self.settings = msgspec.structs.replace(self.settings, address=await self._own_address())
            for link in self.links.values():
                link.address = self.settings.address
        agents = make_agents(self.settings, self._link, lambda image: None, self.roles)
        for name, agent in agents.items():
            self.links[name].agent = agent
            agent.look = functools.partial(host.look, self.settings, name)
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(link.run()) for link in self.links.values()]
            work += [group.create_task(agent.run()) for agent in agents.values()]
            work.append(group.create_task(self._announce(agents, ready)))
            await stopping.wait()
            _LOG.info("stopping; guests go on running")
            for task in work:
                task.cancel()

    def _link(self, name: str) -> NodeLink:
        return self.links[name]

    async def _announce(self, agents: dict[str, Agent], ready: Callable[[], None]) -> None:
        for agent in agents.values():
            await agent.ready.wait()
        gc.collect()
        gc.freeze()
        ready()

    async def _own_address(self) -> str:
        """The address from which this machine reaches a controller; "" when there is no way to any now."""
        for server in next(iter(self.links.values())).identity.servers:
            host, _, port = server.rpartition(":")
            loop = asyncio.get_running_loop()
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, remote_addr=(host.strip("[]"), int(port))
                )  # asks the routing table; nothing is sent
            except OSError:
                continue
            found = str(transport.get_extra_info("sockname")[0])
            transport.close()
            return found
        return ""
