"""A cloud with its cluster port open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.cluster import nodes
from pileus.web.errors import NotFound
from tests.api.cluster.bench import Controller, Hand


@pytest.fixture(scope="module")
def controller(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[Controller]:
    found = Controller(cloud, loop)
    found.begin()
    yield found
    found.end()


Join = Callable[..., Hand]


@pytest.fixture
def join(controller: Controller, tmp_path: Path) -> Iterator[Join]:
    """Makes nodes that have joined; they leave, and are removed, at the end."""
    made: list[Hand] = []

    def make(name: str, roles: tuple[str, ...] = ("compute", "network")) -> Hand:
        made.append(Hand(controller, tmp_path / name, name).join(roles))
        return made[-1]

    yield make
    for hand in made:
        controller.do(hand.leave())
        with contextlib.suppress(NotFound):
            controller.db(lambda tx, name=hand.name: nodes.remove(tx, name))
