"""Consoles: what a guest has written, and its screen by a token that expires."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.compute import orders, servers, states
from pileus.compute.schemas import ConsoleLog, OldConsole, RemoteConsole
from pileus.compute.tables import console_token
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_KINDS = (("vnc", "novnc"), ("serial", "serial"))

LIFETIME = 600.0
"""How long a token opens a console, in seconds; one that is open stays open."""


class Console(msgspec.Struct, frozen=True):
    """What a token opens."""

    node: str
    server_id: str
    kind: str  # novnc: the guest's screen; serial: its first serial port


def find(tx: Tx, token: str, now: float) -> Console | None:
    """The console of a token; None when there is none, or not any more."""
    row = tx.first(console_token.select().where(console_token.c.digest == _digest(token)))
    return Console(row.host, row.server_id, row.kind) if row is not None and row.expires > now else None


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def forget(tx: Tx, now: float) -> None:
    """Drop tokens that have expired."""
    tx.execute(console_token.delete().where(console_token.c.expires < now))


def remote(call: Call) -> dict[str, Any]:
    """POST /servers/{server_id}/remote-consoles (2.6): 200."""
    row = servers.get(call, call.params["server_id"], "os_compute_api:os-remote-consoles")
    asked: RemoteConsole = call.body.remote_console
    if (asked.protocol, asked.type) not in _KINDS:
        raise BadRequest(f"Unavailable console type {asked.type}.")
    return {"remote_console": {"protocol": asked.protocol, "type": asked.type, "url": _open(call, row, asked.type)}}


def old_vnc(call: Call, row: Any, value: OldConsole) -> dict[str, Any]:
    """os-getVNCConsole, up to 2.5: 200."""
    if value.type != "novnc":
        raise BadRequest(f"Unavailable console type {value.type}.")
    return {"console": {"type": "novnc", "url": _open(call, row, "novnc")}}


def old_serial(call: Call, row: Any, value: OldConsole) -> dict[str, Any]:
    """os-getSerialConsole, up to 2.5: 200."""
    if value.type != "serial":
        raise BadRequest(f"Unavailable console type {value.type}.")
    return {"console": {"type": "serial", "url": _open(call, row, "serial")}}


def _open(call: Call, row: Any, kind: str) -> str:
    states.require(call.context, row, "console", "get_vnc_console")
    if row.host is None or row.launched is None:
        raise Conflict(f"Instance {row.id} is not ready")
    orders.check_up(call, row)
    token = call.cloud.world.secret(24)
    call.tx.execute(console_token.insert(), {
        "digest": _digest(token), "server_id": row.id, "host": row.host, "kind": kind, "created": call.now,
        "expires": call.now + LIFETIME,
    })
    if kind == "serial":
        return f"{call.base.replace('http', 'ws', 1)}/console/serial?token={token}"
    # noVNC's page takes the path of its web socket as a parameter, with the token in it.
    return f"{call.base}/console/vnc_lite.html?path=console/websockify?token={token}"


def token_info(call: Call) -> dict[str, Any]:
    """GET /os-console-auth-tokens/{token}: 200, for proxies; whoever holds the token may open the console."""
    found = find(call.tx, call.params["token"], call.now)
    if found is None:
        raise NotFound("Token not found")
    return {"console": {
        "instance_uuid": found.server_id, "host": found.node, "port": 0, "internal_access_path": None,
    }}


async def output(call: Call, row: Any, value: ConsoleLog) -> dict[str, Any]:
    """os-getConsoleOutput: 200, the last `length` lines, or all that is kept."""
    length = None if value.length is None else int(value.length)
    if length is not None and length < -1:
        raise BadRequest("Invalid input for field/attribute length: it is not at least -1.")
    if row.host is None or row.vm_state == states.BUILDING:
        raise Conflict(f"Instance {row.id} is not ready")
    lines = None if length in (None, -1) else length
    log: bytes = await call.cloud.ask(row.host, "console_log", {"server_id": row.id, "lines": lines})
    # What XML and JSON cannot carry is left out, as the API always has.
    text = "".join(c for c in log.decode("utf-8", "replace") if c >= " " or c in "\t\n\r")
    return {"output": text}
