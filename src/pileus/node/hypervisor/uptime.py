"""How long something has run, in the words of the program `uptime`, which is what the compute API gives."""

from __future__ import annotations

import os
import time
from pathlib import Path


def of_host() -> str:
    """This host's. Blocks."""
    return text(time.time(), float(Path("/proc/uptime").read_text().split()[0]))


def text(now: float, seconds: float) -> str:
    """The line for a time in seconds since the epoch and a run of `seconds`; the load is this host's."""
    days, rest = divmod(int(seconds), 86400)
    hours, minutes = divmod(rest // 60, 60)
    ran = f"{days} day{'s' if days != 1 else ''}, " if days else ""
    ran += f"{hours:2}:{minutes:02}" if hours else f"{minutes} min"
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return f" {time.strftime('%H:%M:%S', time.gmtime(now))} up {ran},  load average: {load}"
