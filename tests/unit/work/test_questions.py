"""Answers keep their bytes, errors their class and text, and what is nobody's business stays in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from pileus.web.errors import Conflict, OverQuota, Problem, Unavailable
from pileus.work import questions
from pileus.work.questions import Answer, Question, answer, opened


def ask(outcome: Any, timeout: float = 5.0) -> Any:
    """What the asker gets when the answerer returns or raises `outcome`."""

    async def answerer(node: str, question: str, arguments: dict[str, Any]) -> Any:
        if outcome == "never":
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return opened("n1", asyncio.run(answer(answerer, Question("n1", "uptime", {}, timeout))))


@pytest.mark.parametrize("value", [None, b"\x00\xff", "ü", {"a": [1, 2.5, None, True, b""]}, "", 0, [], -(2**63)])
def test_a_value_comes_as_it_was(value: Any) -> None:
    assert ask(value) == value
    assert type(ask(value)) is type(value)


@pytest.mark.parametrize("problem", [Conflict("No guest now."), Unavailable("Gone."), OverQuota("Full.")])
def test_a_problem_keeps_its_class_and_text(problem: Problem) -> None:
    with pytest.raises(Problem) as caught:
        ask(problem)
    assert type(caught.value) is type(problem)
    assert caught.value.message == problem.message


def test_other_errors_are_in_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unavailable, match="Node n1 could not answer 'uptime'") as caught:
        ask(KeyError("inside"))
    assert "inside" not in str(caught.value)
    assert "inside" in caplog.text
    with pytest.raises(Unavailable, match="could not answer"):
        ask(object())
    with pytest.raises(Unavailable, match="could not answer"):
        ask(2**70)


def test_an_answer_ends_in_time_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match=r"did not answer 'uptime' within 0\.01 s"):
        ask("never", 0.01)
    monkeypatch.setattr(questions, "LARGEST", 100)
    with pytest.raises(Unavailable, match="too long to be carried"):
        ask(b"x" * 101)


def test_an_answer_of_another_version_is_unavailable() -> None:
    for body in (b"", b"\xc1", b"\x90", b"\xa1x"):
        with pytest.raises(Unavailable, match="cannot be read"):
            opened("n1", body)
    with pytest.raises(Unavailable, match="Tea"):
        opened("n1", msgspec.msgpack.encode(Answer(error="Teapot", text="Tea.")))
