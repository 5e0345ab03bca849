"""How a command on a controller's machine reaches the running controller: a socket that only its owner may open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from pileus.cluster import channel, frames
from pileus.cluster.errors import from_failure
from pileus.cluster.frames import Broken, Call, Failure, Hello, Reply
from pileus.node.contract import GuestGone, NodeFault
from pileus.web.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from pileus.settings import Settings

_SECONDS = 60.0


async def call(settings: Settings, method: str, value: Any = None) -> Any:
    """The running controller's answer. Raises Unavailable when none runs here, and what it refuses with (errors.py)."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(settings.run / "control.sock"), limit=frames.BUFFER)
    except OSError as error:
        raise Unavailable(f"No controller runs on {settings.state}: {error}") from None
    try:
        await frames.write(writer, Hello("control"))
        async with asyncio.timeout(_SECONDS):
            greeted = await frames.read(reader)
            if isinstance(greeted, Failure):
                raise from_failure(greeted)
            await frames.write(writer, Call(1, method, channel.pack(value)))
            while True:
                frame = await frames.read(reader)
                if isinstance(frame, Failure):
                    raise from_failure(frame)
                if isinstance(frame, Reply):
                    return channel.unpack(frame.body) if frame.body else None
    except (NodeFault, GuestGone) as fault:
        raise Conflict(str(fault)) from None
    except (Broken, TimeoutError) as error:
        raise Unavailable(f"The controller on {settings.state} did not answer: {error}") from None
    finally:
        writer.transport.abort()


async def ask(settings: Settings, node: str, question: str, arguments: dict[str, Any]) -> Any:
    """Ask a node of the cloud, wherever it is connected, by the controller of this machine."""
    return await call(settings, "ask-anywhere", [node, question, arguments])


async def tell(settings: Settings, method: str) -> None:
    """The same, when it is no harm that no controller runs here."""
    with contextlib.suppress(Unavailable):
        await call(settings, method)
