"""Rules: each one readable, each name that a handler uses known, and null never equal to null."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pileus.identity
from pileus.auth.context import Context
from pileus.auth.policy import Policy
from pileus.identity.policy import RULES, target

SOURCES = Path(pileus.identity.__file__).parent.glob("*.py")


class Row:
    """Stands for a row of a table."""

    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


def test_every_rule_can_be_read() -> None:
    Policy(RULES).compile_all()


def test_every_rule_that_a_handler_names_exists() -> None:
    named = {name for path in SOURCES for name in re.findall(r'"(identity:\w+)"', path.read_text())}
    assert len(named) > 80
    assert named <= set(RULES)


@pytest.mark.parametrize("rule", sorted(name for name in RULES if re.match("identity:(create|update|delete)_", name)))
def test_a_project_reader_changes_nothing_of_others(rule: str) -> None:
    reader = Context(user_id="u", project_id="p", project_domain_id="d", roles=("reader",))
    empty = Row(id=None, domain_id=None, user_id=None, project_id=None, trustor_user_id=None)
    others = target(user=empty, group=empty, project=empty, domain=empty, role=empty, credential=empty, trust=empty)
    assert not Policy(RULES).allows(reader, rule, {**others, "user_id": "somebody else"})
