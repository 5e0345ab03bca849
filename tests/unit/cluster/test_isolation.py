"""A controller without a database sends its nodes to one that has it, and only then."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pileus.cluster.isolation import AFTER, Isolation


class Session:
    """A node's connection."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Place:
    """A controller `one` with a node; `has` says which of the others have a database, by address."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **has: bool) -> None:
        self.now, self.asked, self.answers = 100.0, list[str](), False
        self.session = Session()
        self.sessions: dict[str, Any] = {"n1": self.session}

        async def answers(seconds: float) -> bool:
            return self.answers

        world, db = SimpleNamespace(monotonic=lambda: self.now), SimpleNamespace(answers=answers)
        cloud: Any = SimpleNamespace(controller="one", world=world, db=db)
        self.isolation = Isolation(cloud, self.sessions)

        async def has_it(address: str) -> bool:
            self.asked.append(address)
            return has[address]

        monkeypatch.setattr(self.isolation, "_has_it", has_it)
        self.isolation.remember({"one": "here", **{name: name for name in has}})

    def away(self, seconds: float) -> bool:
        """The database has been away for so long; whether the node was sent away."""
        self.now += seconds
        asyncio.run(self.isolation.away())
        return self.session.closed


def test_nodes_go_when_another_has_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch, two=False, three=True)
    assert place.away(AFTER)
    assert sorted(place.asked) == ["three", "two"]


def test_nodes_stay_where_all_connections_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch, two=True)
    place.answers = True
    assert not place.away(AFTER)
    assert place.asked == []
    place.answers = False
    assert place.away(1.0)


def test_nodes_stay_when_nobody_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch, two=False, three=False)
    assert not place.away(AFTER)
    assert not place.away(1000.0)


def test_nodes_stay_while_it_is_away_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch, two=True)
    assert not place.away(AFTER - 0.1)
    place.isolation.there()
    assert not place.away(AFTER - 0.1)
    assert place.asked == []
    assert place.away(0.2)


def test_nobody_is_asked_where_no_node_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(monkeypatch, two=True)
    place.sessions.clear()
    place.away(AFTER)
    assert place.asked == []
