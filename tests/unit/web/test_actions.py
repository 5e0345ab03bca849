"""Choosing an action by the body's one key, decoding its value, and doing it with the row."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from pileus.web.actions import Action, perform
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest, NotFound
from pileus.web.schemas import Body, since
from pileus.world import World


class Size(Body):
    """The value of an action."""

    gib: int
    fast: Annotated[bool | UnsetType, since(2, 7)] = UNSET


class Database:
    """Runs work at once, and tells what was written to."""

    def __init__(self) -> None:
        self.writes: list[bool] = []

    async def run(self, work: Any, *, write: bool = True) -> Any:
        """As the database's."""
        self.writes.append(write)
        return work("tx")


def extend(call: Any, row: Any, value: Any) -> Any:
    assert call.tx == "tx"
    return {"row": row, "gib": value.gib}


def old(call: Any, row: Any, value: Any) -> Any:
    assert value is None
    return None


async def upload(call: Any, row: Any, value: Any) -> Any:
    assert call._tx is None
    return Reply({"row": row}, status=200)


ACTIONS = {
    "extend": Action("thing:extend", extend, body=Size),
    "upload": Action("thing:upload", upload),
    "shelve": (Action("thing:old", old, 204, until=(2, 5)), Action("thing:shelve", extend, body=Size, since=(2, 6))),
}


def ask(body: Any, version: tuple[int, int] = (2, 6)) -> tuple[Any, list[bool]]:
    """What comes of an action, and which transactions wrote."""
    call: Any = Call(SimpleNamespace(db=Database(), world=World()), None, "POST", "/", "req")  # type: ignore[arg-type]
    call.body, call.version = body, version

    def find(call: Any, resource_id: str, rule: str, *, hold: bool) -> Any:
        return resource_id, rule, hold

    reply = asyncio.run(perform(call, ACTIONS, find, "one"))
    assert call._tx is None
    return (reply.status, reply.body), call.db.writes


def test_the_key_names_the_action_and_its_value_is_decoded() -> None:
    done = (202, {"row": ("one", "thing:extend", True), "gib": 7})
    assert ask({"extend": {"gib": 7}}) == (done, [True])
    assert ask({"extend": {"gib": 7, "fast": True}}, (2, 7)) == (done, [True])


def test_a_coroutine_gets_the_row_as_it_was_before() -> None:
    assert ask({"upload": {"whatever": 1}}) == ((200, {"row": ("one", "thing:upload", False)}), [False])


def test_versions_have_actions_of_their_own() -> None:
    assert ask({"shelve": None}, (2, 5)) == ((204, None), [True])
    assert ask({"shelve": {"gib": 1}}, (2, 6))[0][1]["row"] == ("one", "thing:shelve", True)


@pytest.mark.parametrize(("body", "version", "error", "says"), [
    ({}, (2, 6), BadRequest, "exactly one action"),
    ({"extend": {"gib": 1}, "upload": None}, (2, 6), BadRequest, "exactly one action"),
    ({"explode": None}, (2, 6), BadRequest, "no such action: explode"),
    ({"extend": {"gib": "x"}}, (2, 6), BadRequest, "Invalid input for extend"),
    ({"extend": None}, (2, 6), BadRequest, "Invalid input for extend"),
    ({"shelve": {}}, (2, 6), BadRequest, "gib"),
    ({"extend": {"gib": 1, "fast": True}}, (2, 6), BadRequest, "'fast' was unexpected"),
])
def test_what_is_no_action_is_refused(body: Any, version: tuple[int, int], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ask(body, version)


def test_an_action_of_other_versions_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, "extend", Action("thing:extend", extend, body=msgspec.Raw, since=(2, 7)))
    with pytest.raises(NotFound, match=r"extend is not in version 2\.6"):
        ask({"extend": {"gib": 1}})
