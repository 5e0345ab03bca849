"""A question to a node and its answer, as controllers send them to each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pileus.web import errors
from pileus.web.errors import Problem, Unavailable

_LOG = logging.getLogger("pileus.bus")
LARGEST = 15 << 20
"""Bytes of an answer: RabbitMQ 4 takes messages of at most 16 MiB."""
_PROBLEMS = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Problem)
}

Answerer = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Asks a node that is connected to this controller: (node, question, arguments)."""


class Question(msgspec.Struct):
    """What is asked of a node, and for how long the asker waits, in seconds."""

    node: str
    question: str
    arguments: dict[str, Any]
    timeout: float


class Answer(msgspec.Struct, omit_defaults=True):
    """What came of it: a value, or the error's class and text."""

    value: Any = None
    error: str = ""
    text: str = ""


async def answer(answerer: Answerer, asked: Question) -> bytes:
    """The encoded answer of a node that is connected here, or the encoded error. Raises nothing."""
    try:
        async with asyncio.timeout(asked.timeout):
            value = await answerer(asked.node, asked.question, asked.arguments)
        body = msgspec.msgpack.encode(Answer(value))
        if len(body) <= LARGEST:
            return body
        problem: Problem = Unavailable(
            f"The answer of node {asked.node} to '{asked.question}' is too long to be carried: {len(body)} bytes."
        )
    except Problem as raised:
        problem = raised
    except TimeoutError:
        problem = Unavailable(f"Node {asked.node} did not answer '{asked.question}' within {asked.timeout:g} s.")
    except Exception:
        _LOG.exception("node %s could not be asked '%s'", asked.node, asked.question)
        problem = Unavailable(
            f"Node {asked.node} could not answer '{asked.question}'; the log of the controller to which it is "
            "connected says why."
        )
    return msgspec.msgpack.encode(Answer(error=type(problem).__name__, text=problem.message))


def opened(node: str, body: bytes) -> Any:
    """The value in an encoded answer. Raises the `Problem` that is in it, as Unavailable if unknown here."""
    try:
        found = msgspec.msgpack.decode(body, type=Answer)
    except msgspec.DecodeError as error:
        raise Unavailable(
            f"Node {node}'s answer cannot be read ({error}); is its controller of another version?"
        ) from None
    if found.error:
        raise _PROBLEMS.get(found.error, Unavailable)(found.text)
    return found.value
