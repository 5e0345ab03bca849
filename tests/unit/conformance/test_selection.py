from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.selection import Selection, SelectionError, name_of, select

LISTED = (
    "tempest.api.compute.test_versions.TestVersions.test_list[id-6c0a,smoke]",
    "tempest.api.image.v2.test_tags.TagsTest.test_update[id-10407036]",
)
INTEROP = Path(__file__).parents[2] / "conformance" / "interop.txt"


def test_name_has_no_tags() -> None:
    assert name_of(LISTED[0]) == "tempest.api.compute.test_versions.TestVersions.test_list"


def test_expression_sees_the_tags() -> None:
    assert select("smoke", LISTED) == Selection((LISTED[0],), ())


def test_file_matches_by_name_and_reports_the_missing(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(
        "# these count\n"
        "tempest.api.image.v2.test_tags.TagsTest.test_update[id-10407036,smoke]\n\n"
        "tempest.api.image.v2.test_tags.TagsTest.test_update  # again\n"
        "tempest.api.image.v2.test_tags.TagsTest.test_gone[id-1]\n"
    )
    assert select(str(wanted), LISTED) == Selection(
        tests=(LISTED[1],), missing=("tempest.api.image.v2.test_tags.TagsTest.test_gone",)
    )


@pytest.mark.parametrize(("wanted", "reason"), [("(", "neither a file nor"), ("no_such_test", "matches none of 2")])
def test_what_names_no_test_is_refused(wanted: str, reason: str) -> None:
    with pytest.raises(SelectionError, match=reason):
        select(wanted, LISTED)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    with pytest.raises(SelectionError, match="names no test"):
        select(str(empty), LISTED)


def test_interop_list_has_each_test_once() -> None:
    names = [name_of(line) for line in INTEROP.read_text().splitlines()]
    assert len(names) == len(set(names)) == 283


def test_an_expression_may_be_longer_than_a_file_name() -> None:
    assert select("|".join(["smoke", *["nothing"] * 100]), LISTED) == Selection((LISTED[0],), ())
