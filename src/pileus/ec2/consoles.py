"""What a guest has written on its first serial port."""

from __future__ import annotations

import base64
from typing import Any

from pileus.compute import consoles
from pileus.compute.schemas import ConsoleLog
from pileus.ec2 import instances
from pileus.ec2.faults import refused, tried
from pileus.ec2.schemas import GetConsoleOutput
from pileus.web.call import Call
from pileus.web.errors import Conflict
from pileus.world import iso_z


async def output(call: Call, params: GetConsoleOutput, enter: Any) -> dict[str, Any]:
    """GetConsoleOutput: what is there at this moment, whether or not the latest is asked for."""

    def find() -> Any:
        row = instances.find(call, params.instance_id, "os_compute_api:os-console-output")
        tried(params)
        return row

    row = await enter(find, False)
    try:
        text = (await consoles.output(call, row, ConsoleLog()))["output"]
    except Conflict as problem:
        raise refused("IncorrectInstanceState", problem.message) from None
    return {
        "instanceId": params.instance_id, "timestamp": iso_z(call.now),
        "output": base64.b64encode(text.encode()).decode(),
    }
