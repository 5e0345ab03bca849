"""Database URLs: several hosts, what is shown of them, and in which order hosts are asked."""

from __future__ import annotations

import pytest

from pileus.db import hosts


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("mysql://u:p@h1,h2:3307,h3/db", (("h1", None), ("h2", 3307), ("h3", None))),
        ("postgresql://u:p@h1:5433,h2/db", (("h1", 5433), ("h2", None))),
        ("postgresql://u:p@[2001:db8::1]:5433,[2001:db8::2]/db", (("2001:db8::1", 5433), ("2001:db8::2", None))),
        ("mariadb://u:p%2C%40@h1/db", (("h1", None),)),
        ("mysql://root@localhost/db?unix_socket=/run/x", (("localhost", None),)),
        ("postgresql://postgres@/db?host=/run/pg", ()),
        ("sqlite:////var/lib/pileus.db", ()),
    ],
)
def test_hosts_of_a_url(url: str, places: tuple[hosts.Host, ...]) -> None:
    parsed, found = hosts.parse(url)
    assert found == places
    assert parsed.database


@pytest.mark.parametrize("url", ["mysql://u:p@h1:x/db", "mysql://u:p@h1,h2:x/db", "oracle://u:p@h/db", "pileus.db", ""])
def test_bad_urls_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(hosts.DatabaseUrlError) as caught:
        hosts.parse(url)
    assert "p@" not in str(caught.value)


def test_no_password_is_shown() -> None:
    assert hosts.shown("mysql://user:pass@h1,h2:3307/db") == "mysql://user@h1,h2:3307/db"
    assert hosts.shown("postgresql://u:pass@/db?host=/run/pg") == "postgresql://u@/db at /run/pg"
    assert hosts.shown("sqlite:////a/b.db") == "sqlite:////a/b.db"


def test_who_failed_is_asked_last() -> None:
    connector = hosts.Connector(*hosts.parse("mysql://u:p@a,b,c/db"))
    assert [name for name, _ in connector.order()] == ["a", "b", "c"]
    connector.avoid(("a", None))
    assert [name for name, _ in connector.order()] == ["b", "c", "a"]
