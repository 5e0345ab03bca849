"""Passwords: the one that a guest made and posted, and changing one in a running guest."""

from __future__ import annotations

from typing import Any

from pileus.compute import instance_actions, servers, spec, states
from pileus.compute.schemas import ChangePassword
from pileus.web.call import Call


def show(call: Call) -> dict[str, str]:
    """GET /servers/{server_id}/os-server-password: 200, encrypted with the user's key; "" when there is none."""
    row = servers.get(call, call.params["server_id"], "os_compute_api:os-server-password:show")
    return {"password": row.password_data or ""}


def clear(call: Call) -> None:
    """DELETE /servers/{server_id}/os-server-password: 204. Only the record here; the guest keeps its password."""
    row = servers.hold(call, call.params["server_id"], "os_compute_api:os-server-password:clear")
    servers.change(call.tx, row.id, row.updated, password_data=None)


async def change(call: Call, row: Any, value: ChangePassword) -> None:
    """changePassword: 202. Set by the agent in the guest, and done when this returns.

    A password is never written down, so that it is asked of the node and is no task. Raises Conflict where the guest
    has no agent, Unavailable where its node does not answer."""
    states.require(call.context, row, "changePassword")
    image = spec.facts_of(row)
    user = image.properties.get("os_admin_user", "root") if image else "root"
    await call.cloud.ask(
        row.host, "set_password", {"server_id": row.id, "user": user, "password": value.password}
    )
    await instance_actions.log_done(call, row.id, "changePassword")
