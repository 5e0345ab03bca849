"""Policy rules: the grammar, overrides, and mistakes that are found at start."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pileus.auth.context import NOBODY, Context
from pileus.auth.policy import Policy, PolicyError
from pileus.cloud import ROOMS, has_module
from pileus.web.errors import Forbidden

MEMBER = Context(user_id="u1", project_id="p1", roles=("member", "reader"))
ADMIN = Context(user_id="u0", project_id="p0", roles=("admin",))


def _allows(rule: str, context: Context = MEMBER, **target: object) -> bool:
    return Policy({"rule": rule, "owner": "project_id:%(project_id)s"}).allows(context, "rule", target)


@pytest.mark.parametrize(
    ("rule", "passes"),
    [
        ("", True), ("@", True), ("!", False), ("   ", True),
        ("role:member", True), ("role:admin", False), ("role:Member", True),
        ("not role:admin", True), ("not not role:member", True),
        ("role:admin or role:member", True), ("role:admin and role:member", False),
        ("role:admin and role:x or role:member", True),  # and binds closer
        ("role:admin and (role:x or role:member)", False),
        ("not (role:admin or role:x)", True), ("not role:member or role:reader", True),
        ("(role:member)and(role:reader)", True), ("((role:member))", True), ("role:admin OR role:member", True),
        ("user_id:u1", True), ("user_id:u2", False), ("project_id:%(project_id)s", True),
        ("rule:owner", True), ("rule:owner and not rule:owner", False),
        ("'p1':%(project_id)s", True), ("'p2':%(project_id)s", False), ("\"p1\":%(project_id)s", True),
        ("project_id:%(missing)s", False), ("unknown_credential:x", False), ("user_id:'u1'", True),
        ("True:%(shared)s", True), ("False:%(shared)s", False), ("None:%(nothing)s", True),
        ("system_scope:all", False), ("domain_id:None", True),
    ],
)
def test_the_grammar(rule: str, passes: bool) -> None:
    assert _allows(rule, project_id="p1", shared=True, nothing=None) is passes


@pytest.mark.parametrize(
    "rule", ["(", ")", "role:a or", "or role:a", "not", "role:a role:b", "(role:a", "role:a)", "nothing", ":x", "a (b)"]
)
def test_what_cannot_be_read_names_the_rule(rule: str) -> None:
    with pytest.raises(PolicyError, match="'spoiled'"):
        Policy({"spoiled": rule}).compile_all()


def test_a_scope_that_is_not_there_owns_nothing() -> None:
    unscoped = Context(user_id="u1", roles=("member",))
    assert not _allows("project_id:%(project_id)s", unscoped, project_id=None)
    assert not _allows("project_id:%(project_id)s", unscoped, project_id="None")
    assert not _allows("role:member", NOBODY)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"a": "rule:b", "b": "role:x or rule:a"}, "a -> b -> a"),
        ({"a": "not rule:a"}, "a -> a"),
        ({"a": "rule:gone"}, "'rule:gone', which does not exist"),
    ],
)
def test_rules_that_lead_nowhere_are_found_at_start(rules: dict[str, str], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        Policy(rules).compile_all()


def test_an_unknown_rule_is_an_error_and_never_a_yes() -> None:
    with pytest.raises(PolicyError, match="'x' does not exist"):
        Policy({}).allows(ADMIN, "x", {})


def test_enforce_names_the_rule() -> None:
    policy = Policy({"servers:delete": "role:admin"})
    policy.enforce(ADMIN, "servers:delete", {})
    with pytest.raises(Forbidden) as caught:
        policy.enforce(MEMBER, "servers:delete", {})
    assert "servers:delete" in caught.value.message
    assert caught.value.details == {"rule": "servers:delete"}


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_file_overrides_by_name_and_may_add(tmp_path: Path, form: str) -> None:
    file = tmp_path / f"policy.{form}"
    file.write_text(
        '"a": "rule:mine"\n"mine": "role:member"\n# b stays\n' if form == "yaml"
        else '{"a": "rule:mine", "mine": "role:member"}'
    )
    policy = Policy({"a": "!", "b": "!"})
    assert not policy.allows(MEMBER, "a", {})
    policy.override(file)
    assert policy.allows(MEMBER, "a", {})
    assert not policy.allows(MEMBER, "b", {})


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("# nothing\n")
    policy = Policy({"a": "@"})
    policy.override(file)
    assert policy.allows(MEMBER, "a", {})


@pytest.mark.parametrize("text", ["a: [", "- a\n", "a: 'role:x and'\n", "a: 'rule:none'\n", "a: \"\x00\"\n"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(PolicyError):
        Policy({"a": "@"}).override(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere\.yaml"):
        Policy({}).override(tmp_path / "nowhere.yaml")


def test_the_rules_of_all_rooms_can_be_read_together() -> None:
    rules: dict[str, str] = {}
    for name in ROOMS:
        if has_module(f"pileus.{name}.policy"):
            own = importlib.import_module(f"pileus.{name}.policy").RULES
            twice = {rule for rule in own if rule in rules and rules[rule] != own[rule]}
            assert not twice, f"{name} has other rules under names that are taken: {twice}"
            rules |= own
    assert len(rules) > 50
    Policy(rules).compile_all()
