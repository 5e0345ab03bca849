from __future__ import annotations

from pileus.node.net.ruleset import Chain, Container, Table, difference, replace

BASE = Table(
    "inet",
    "t",
    {"in": Chain(("jump a", "drop"), "type filter hook input priority 0;"), "a": Chain(("accept",))},
    {"s": Container("set", "ipv4_addr", frozenset({"10.0.0.1"}))},
)


def test_replacing_deletes_whatever_was_there_first() -> None:
    lines = replace((BASE,)).splitlines()
    assert lines[:3] == ["add table inet t", "delete table inet t", "add table inet t"]
    assert "add chain inet t in { type filter hook input priority 0; }" in lines
    assert lines.index("add chain inet t a") < lines.index("add rule inet t in jump a")
    assert "add element inet t s { 10.0.0.1 }" in lines


def test_fresh_namespace_has_nothing_to_delete() -> None:
    assert "delete" not in replace((BASE,), fresh=True)
    assert replace((BASE,), fresh=True).startswith("add table inet t\n")


def test_no_difference_is_no_script() -> None:
    assert difference((BASE,), (BASE,)) == ""


def test_only_what_changed_is_said() -> None:
    new = Table(
        "inet",
        "t",
        {"in": BASE.chains["in"], "a": Chain(("drop",))},
        {"s": Container("set", "ipv4_addr", frozenset({"10.0.0.2"}))},
    )
    assert difference((BASE,), (new,)).splitlines() == [
        "delete element inet t s { 10.0.0.1 }",
        "add element inet t s { 10.0.0.2 }",
        "flush chain inet t a",
        "add rule inet t a drop",
    ]


def test_map_elements_are_deleted_by_key() -> None:
    def table(*elements: str) -> Table:
        return Table("inet", "t", {}, {"m": Container("map", "mark : verdict", frozenset(elements))})

    script = difference((table("1 : jump a", "2 : jump b"),), (table("2 : jump b"),))
    assert script == "delete element inet t m { 1 }\n"


def test_interval_sets_are_filled_anew() -> None:
    def table(*elements: str) -> Table:
        return Table("inet", "t", {}, {"s": Container("set", "ipv4_addr", frozenset(elements), interval=True)})

    script = difference((table("10.0.0.0/24"),), (table("10.0.0.0/24", "10.1.0.1"),))
    assert script.splitlines() == ["flush set inet t s", "add element inet t s { 10.0.0.0/24, 10.1.0.1 }"]


def test_things_go_only_after_nobody_refers_to_them() -> None:
    new = Table("inet", "t", {"in": Chain(("drop",), BASE.chains["in"].hook)}, {})
    lines = difference((BASE,), (new,)).splitlines()
    order = ["flush chain inet t in", "delete chain inet t a", "delete set inet t s"]
    assert [line for line in lines if line in order] == order
