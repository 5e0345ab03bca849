"""The QEMU guest agent inside a guest, on its virtio channel."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path
from typing import Any

from qemu.qmp import ExecuteError, QMPClient, QMPError

from pileus.node.contract import NodeFault

# A guest that is still booting answers when its agent has started; clients commonly wait 60 s for a reply.
PATIENCE = 50.0


async def set_password(socket: Path, user: str, password: str, within: float = PATIENCE) -> None:
    """Have the agent in the guest set a user's password.

    Raises NodeFault if no agent answers within `within` seconds, or if it refuses."""
    client = QMPClient("agent")
    client.await_greeting = False
    client.negotiate = False
    secret = base64.b64encode(password.encode()).decode()
    arguments: dict[str, Any] = {"username": user, "password": secret, "crypted": False}
    try:
        async with asyncio.timeout(within):
            await client.connect(str(socket))
            await client.execute("guest-ping")
            await client.execute("guest-set-user-password", arguments)
    except TimeoutError:
        raise NodeFault(
            "the guest agent does not answer: is qemu-guest-agent installed in the guest, and has it started?"
        ) from None
    except ExecuteError as error:
        raise NodeFault(f"the guest agent did not set the password of '{user}': {error}") from None
    except (QMPError, OSError, EOFError) as error:
        raise NodeFault(f"the guest agent's channel cannot be used: {error}") from None
    finally:
        with contextlib.suppress(Exception):
            await client.disconnect()
