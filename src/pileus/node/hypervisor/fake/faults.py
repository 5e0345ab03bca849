"""What a fake guest is told to do wrong; the names are explained in the package's docstring."""

from __future__ import annotations

import asyncio

from pileus.node.contract import NodeFault, ServerSpec

PREFIX = "fake:"


def told(spec: ServerSpec) -> dict[str, str]:
    """The faults of a server, by name without the prefix."""
    return among({**spec.extra_specs, **spec.metadata})


def among(metadata: dict[str, str]) -> dict[str, str]:
    """The faults that there are among other words, by name without the prefix."""
    return {name.removeprefix(PREFIX): value for name, value in metadata.items() if name.startswith(PREFIX)}


def seconds(faults: dict[str, str], name: str, node: str) -> float | None:
    """A time among the faults; None if it is not there or not for this node. Raises NodeFault if it is no number."""
    text = faults.get(name)
    if text is None or not concerns(faults, node):
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        raise NodeFault(f"{PREFIX}{name} = '{text}' is not a number of seconds") from None


def concerns(faults: dict[str, str], node: str) -> bool:
    """Whether the faults are for this node."""
    nodes = faults.get("nodes")
    return nodes is None or node in _names(nodes)


async def suffer(faults: dict[str, str], operation: str, node: str) -> None:
    """Wait, hang or fail as told for this operation. Raises NodeFault."""
    if not faults or not concerns(faults, node):
        return
    delay = seconds(faults, f"{operation}_delay", node)
    if delay:
        await asyncio.sleep(delay)
    if hangs(faults, operation, node):
        await asyncio.get_running_loop().create_future()
    fail(faults, operation, node)


def hangs(faults: dict[str, str], operation: str, node: str) -> bool:
    """Whether this operation shall never come back."""
    return operation in _names(faults.get("hang", "")) and concerns(faults, node)


def fail(faults: dict[str, str], operation: str, node: str) -> None:
    """Raises NodeFault if it was asked for with this operation."""
    if not concerns(faults, node):
        return
    error = faults.get(f"{operation}_error")
    if error is not None:
        raise NodeFault(error or f"{PREFIX}{operation}_error was asked for")


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")}
