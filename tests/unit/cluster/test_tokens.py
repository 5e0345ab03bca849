"""Join tokens: good for so long, for so many nodes, for these roles, until revoked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.cluster import authority, certificates, invitation, nodes, tokens
from pileus.web.errors import BadRequest, Forbidden, NotFound, Problem
from tests.unit.cluster.members import Member, make_token, run
from tests.unit.kernel import StillWorld


def test_a_token_pins_the_authority_and_only_a_digest_of_its_secret_is_kept(cloud: Cloud) -> None:
    token = make_token(cloud, description="rack 4")
    assert token.fingerprint == certificates.fingerprint(run(cloud, lambda tx: authority.ensure(tx, cloud)))
    (row,) = run(cloud, tokens.listing)
    assert (row.id, row.description, row.revoked) == (token.id, "rack 4", False)
    assert token.secret not in str(row)
    assert invitation.parse(invitation.text(token)) == token


@pytest.mark.parametrize(
    "text",
    ["", "pileus1", "pileus1.a.b.c", "pileus2." + "a" * 64 + ".b.c", "pileus1." + "a" * 64 + ".b",
     "pileus1." + "a" * 64 + ".b.", "pileus1." + "A" * 64 + ".b.c", "pileus1." + "a" * 64 + ".b.c.d",
     "pileus1." + "a" * 64 + ".b.c d", "pileus1." + "a" * 64 + ".b.\u00e9"],
)
def test_what_is_no_token_is_not_sent_anywhere(text: str) -> None:
    with pytest.raises(invitation.BadToken, match="no join token"):
        invitation.parse(text)
    assert invitation.parse(f" pileus1.{'a' * 64}.b.c\n").secret == "c"


@pytest.mark.parametrize(
    "wrong",
    [{"roles": ()}, {"roles": ("controller",)}, {"hours": 0.0}, {"hours": -1.0}, {"hours": float("nan")},
     {"hours": float("inf")}, {"uses": 0}, {"description": "x" * 256}],
)
def test_a_token_by_which_nobody_could_join_or_that_never_ends_by_mistake_is_not_made(
    cloud: Cloud, wrong: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest):
        make_token(cloud, **wrong)
    assert run(cloud, tokens.listing) == []


def test_a_token_expires(cloud: Cloud, tmp_path: Path) -> None:
    assert isinstance(cloud.world, StillWorld)
    token, for_ever = make_token(cloud, hours=1.0), make_token(cloud, hours=None)
    cloud.world.time += 3599
    Member(cloud, tmp_path / "1", "n1").join(token)
    cloud.world.time += 2
    with pytest.raises(Forbidden, match="has expired"):
        Member(cloud, tmp_path / "2", "n2").join(token)
    cloud.world.time += 1e8
    Member(cloud, tmp_path / "2", "n2").join(for_ever)


def test_a_token_lets_in_as_many_as_it_says(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud, uses=2)
    one, two, three = (Member(cloud, tmp_path / str(number), f"n{number}") for number in range(3))
    one.join(token)
    one.join(token)  # told again after it was killed
    two.join(token)
    with pytest.raises(Forbidden, match="as often as it may"):
        three.join(token)
    one.join(token)
    assert [row.uses_left for row in run(cloud, tokens.listing)] == [0]


def test_who_is_refused_uses_nothing_up(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud, uses=1)
    Member(cloud, tmp_path / "1", "n1").join(make_token(cloud))
    for wrong in ({"name": "n1"}, {"roles": ("storage",)}, {"name": "../n"}, {"address": "here"}, {"request": "x"}):
        with pytest.raises(Problem):
            Member(cloud, tmp_path / "2", "n2").join(token, **wrong)
    Member(cloud, tmp_path / "3", "n3").join(token)


def test_the_last_use_goes_to_one_of_those_who_come_at_once(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud, uses=3)
    members = [Member(cloud, tmp_path / str(number), f"n{number}") for number in range(12)]

    def join(member: Member) -> str:
        try:
            member.join(token)
        except Forbidden as refused:
            return str(refused)
        return ""

    with ThreadPoolExecutor(1 if cloud.db.embedded else 8) as pool:
        said = list(pool.map(join, members))
    assert said.count("") == 3
    assert len(run(cloud, nodes.listing)) == 3
    assert all("as often as it may" in text for text in said if text)


def test_a_revoked_token_lets_nobody_in_and_who_has_joined_stays(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud)
    one = Member(cloud, tmp_path / "1", "n1")
    one.join(token)
    run(cloud, lambda tx: tokens.revoke(tx, token.id))
    with pytest.raises(Forbidden, match="has been revoked"):
        Member(cloud, tmp_path / "2", "n2").join(token)
    assert one.admit()
    with pytest.raises(NotFound, match="token list"):
        run(cloud, lambda tx: tokens.revoke(tx, "nonsense"))


def test_a_wrong_secret_is_told_as_an_unknown_token_is(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud)
    member = Member(cloud, tmp_path / "1")
    said = set()
    for wrong in ({"secret": "x"}, {"secret": ""}, {"token_id": "x"}):
        with pytest.raises(Forbidden) as refused:
            member.join(token, **wrong)
        said.add(str(refused.value))
    assert len(said) == 1
    run(cloud, lambda tx: tokens.revoke(tx, token.id))
    with pytest.raises(Forbidden) as refused:
        member.join(token, secret="x")
    assert str(refused.value) in said  # not even that it was revoked


def test_roles_are_what_the_token_allows(cloud: Cloud, tmp_path: Path) -> None:
    token = make_token(cloud, roles=("network", "compute"))
    assert Member(cloud, tmp_path / "1", "n1").join(token) == ("compute", "network")
    assert Member(cloud, tmp_path / "2", "n2").join(token, roles=("network",)) == ("network",)
    for beyond in (("storage",), ("compute", "storage"), ("controller",)):
        with pytest.raises(Forbidden, match="allows the roles network, compute"):
            Member(cloud, tmp_path / "3", "n3").join(token, roles=beyond)
    assert run(cloud, lambda tx: nodes.with_role(tx, "compute")) == {"n1"}
    assert run(cloud, lambda tx: nodes.with_role(tx, "network")) == {"n1", "n2"}
    assert run(cloud, lambda tx: nodes.with_role(tx, "storage")) == set()
