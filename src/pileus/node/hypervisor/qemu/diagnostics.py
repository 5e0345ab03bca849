"""A guest's figures in the shape of the compute API's diagnostics (microversion 2.48)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.guest import Guest


async def gather(guest: Guest, version: int) -> dict[str, Any]:
    """Figures of a guest that runs. Raises NodeFault if it does not."""
    monitor, running = guest.qmp(), guest.record.process
    if running is None:
        raise NodeFault(f"server {guest.spec.id} does not run")
    tick = os.sysconf("SC_CLK_TCK")
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - running.started / tick
    cpus = [
        {"id": cpu["cpu-index"], "time": _thread_time(running.pid, cpu["thread-id"]), "utilisation": None}
        for cpu in await monitor.execute("query-cpus-fast")
    ]
    return {
        "state": guest.power,
        "driver": "qemu",
        "hypervisor": guest.host.accel,
        "hypervisor_os": "linux",
        "uptime": int(uptime),
        "config_drive": guest.spec.config_drive is not None,
        "num_cpus": len(cpus),
        "cpu_details": cpus,
        "num_nics": len(guest.spec.nics),
        "nic_details": [{"mac_address": nic.mac} for nic in guest.spec.nics],
        **_disks(await monitor.execute("query-blockstats")),
        "memory_details": {"maximum": guest.spec.memory_mib, "used": _resident_mib(running.pid)},
    }


def _disks(found: list[dict[str, Any]]) -> dict[str, Any]:
    details = [
        {
            "read_bytes": disk["stats"]["rd_bytes"],
            "read_requests": disk["stats"]["rd_operations"],
            "write_bytes": disk["stats"]["wr_bytes"],
            "write_requests": disk["stats"]["wr_operations"],
            "errors_count": disk["stats"]["failed_rd_operations"] + disk["stats"]["failed_wr_operations"],
        }
        for disk in found
        if disk.get("qdev")
    ]
    return {"num_disks": len(details), "disk_details": details}


def _thread_time(pid: int, thread: int) -> int:
    """Processor time of a virtual CPU's thread, in nanoseconds."""
    fields = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def _resident_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
