"""Replies have exactly the fields of their version."""

from __future__ import annotations

from types import SimpleNamespace

from pileus.web.views import Field, View

VIEW = View(
    "id", Field("label", "name"), Field("new", lambda row: row.name.upper(), since=(2, 5)),
    Field("old", "name", until=(2, 4)), Field("middle", "id", since=(2, 3), until=(2, 7)),
)
ROW = SimpleNamespace(id=1, name="a")


def test_each_version_has_its_own_fields() -> None:
    def keys(version: tuple[int, int] | None) -> str:
        return " ".join(VIEW.render(ROW, version))

    for _ in range(2):  # the second time from memory
        assert keys((2, 1)) == "id label old"
        assert keys((2, 3)) == "id label old middle"
        assert keys((2, 4)) == "id label old middle"
        assert keys((2, 5)) == "id label new middle"
        assert keys((2, 7)) == "id label new middle"
        assert keys((2, 8)) == "id label new"
        assert keys((3, 0)) == "id label new"
        assert keys(None) == "id label old"


def test_values_come_from_attributes_and_functions() -> None:
    assert VIEW.render(ROW, (2, 8)) == {"id": 1, "label": "a", "new": "A"}
    assert VIEW.render_all([ROW, ROW], (2, 8)) == [VIEW.render(ROW, (2, 8))] * 2
    assert VIEW.render_all([]) == []
