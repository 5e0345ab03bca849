"""`/servers/{id}/diagnostics`: what the hypervisor knows of a guest."""

from __future__ import annotations

from typing import Any

from pileus.compute import servers, states
from pileus.web.call import Call
from pileus.web.errors import Conflict

_STATES = {"running": "running", "paused": "paused", "shutdown": "shutdown", "crashed": "crashed",
           "suspended": "suspended"}
_DETAILS = {
    "cpu_details": ("id", "time", "utilisation"),
    "nic_details": (
        "mac_address", "rx_octets", "rx_errors", "rx_drop", "rx_packets", "rx_rate", "tx_octets", "tx_errors",
        "tx_drop", "tx_packets", "tx_rate",
    ),
    "disk_details": ("read_bytes", "read_requests", "write_bytes", "write_requests", "errors_count"),
}


async def show(call: Call) -> dict[str, Any]:
    """GET /servers/{server_id}/diagnostics: 200. From 2.48 in one form; below, whatever the driver has."""
    def look() -> Any:
        return servers.get(call, call.params["server_id"], "os_compute_api:os-server-diagnostics")

    row = await call.run(look, write=False)
    if row.host is None:
        raise Conflict(f"Instance {row.id} is not ready")
    if row.vm_state not in (states.ACTIVE, states.PAUSED, states.RESCUED, states.RESIZED):
        raise Conflict(f"Cannot 'get_diagnostics' instance {row.id} while it is in vm_state {row.vm_state}")
    found: dict[str, Any] = await call.cloud.ask(row.host, "diagnostics", {"server_id": row.id})
    return found if (call.version or (2, 1)) < (2, 48) else _standard(row, found)


def _standard(row: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The form of 2.48: every field is there, null where the driver does not know."""
    memory = found.get("memory_details") or {}
    view: dict[str, Any] = {
        "state": _STATES.get(str(found.get("state")), "running"),
        # The API knows a closed list of drivers; guests are QEMU's, as libvirt's are.
        "driver": "libvirt", "hypervisor": found.get("hypervisor"), "hypervisor_os": found.get("hypervisor_os"),
        "uptime": found.get("uptime"), "config_drive": row.config_drive, "num_cpus": found.get("num_cpus"),
        "memory_details": {"maximum": memory.get("maximum"), "used": memory.get("used")},
    }
    for name, keys in _DETAILS.items():
        items = found.get(name) or []
        view[name] = [{key: item.get(key) for key in keys} for item in items]
    view["num_nics"] = found.get("num_nics", len(view["nic_details"]))
    view["num_disks"] = found.get("num_disks", len(view["disk_details"]))
    return view
