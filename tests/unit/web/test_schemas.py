"""Requests become structs at the edge, or 400."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from pileus.web.errors import BadRequest
from pileus.web.schemas import (
    Body,
    Count,
    Flag,
    OpenBody,
    Query,
    UuidText,
    as_bool,
    decode_body,
    decode_query,
    since,
    until,
)


class Disk(Body):
    size: int
    tag: Annotated[str | UnsetType, since(2, 32), until(2, 41)] = UNSET


class Server(Body):
    name: str
    old: Annotated[str | UnsetType | None, until(2, 56)] = UNSET
    disks: list[Disk] | Literal["none"] = []
    by_name: dict[str, Disk] = {}
    first: Disk | None = None


def _decode(value: Any, version: tuple[int, int] = (2, 1)) -> Any:
    return decode_body(Server, msgspec.json.encode(value), version)


@pytest.mark.parametrize("place", ["disks", "by_name", "first"])
@pytest.mark.parametrize(("version", "fits"), [((2, 31), False), ((2, 32), True), ((2, 41), True), ((2, 42), False)])
def test_fields_exist_in_their_versions_wherever_they_are(place: str, version: tuple[int, int], fits: bool) -> None:
    disk = {"size": 1, "tag": "root"}
    value = {"name": "a", place: {"disks": [disk], "by_name": {"x": disk}, "first": disk}[place]}
    if fits:
        _decode(value, version)
        return
    with pytest.raises(BadRequest, match="'tag' was unexpected"):
        _decode(value, version)


def test_null_counts_as_given() -> None:
    assert _decode({"name": "a", "old": None}, (2, 56)).old is None
    with pytest.raises(BadRequest, match="'old'"):
        _decode({"name": "a", "old": None}, (2, 57))


def test_a_service_without_versions_takes_all() -> None:
    assert decode_body(Disk, b'{"size":1,"tag":"x"}', None).tag == "x"


def test_errors_name_the_place() -> None:
    with pytest.raises(BadRequest, match=r"\$\.disks\[1\]\.size"):
        _decode({"name": "a", "disks": [{"size": 1}, {"size": "x"}]})


def test_unknown_fields_are_refused_where_the_struct_says_so() -> None:
    class Open(OpenBody):
        name: str

    with pytest.raises(BadRequest, match="colour"):
        _decode({"name": "a", "colour": 1})
    assert decode_body(Open, b'{"name":"a","colour":1}', None) == Open(name="a")


@pytest.mark.parametrize("text", ['"\\u0000"', '"a\\\\\\u0000"', '"\\u00000"'])
def test_null_characters_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="null character"):
        decode_body(Server, b'{"name":' + text.encode() + b"}", None)


@pytest.mark.parametrize("text", ['"\\\\u0000"', '"\\\\\\\\u0000"', '"u0000"'])
def test_what_only_looks_like_one_is_not(text: str) -> None:
    assert "u0000" in decode_body(Server, b'{"name":' + text.encode() + b"}", None).name


class Filter(Query):
    name: list[str] = []
    limit: int | None = None
    listener: str = ""
    kind: Literal["list", "tuple"] = "list"
    tags: Annotated[tuple[str, ...] | None, msgspec.Meta(description="a list")] = None
    all: Flag = False


def test_repeats_are_collected_for_lists_alone() -> None:
    pairs = [("name", "a"), ("name", "b"), ("limit", "1"), ("limit", "2"), ("listener", "x"), ("kind", "tuple"),
             ("tags", "t"), ("all", "True")]
    found = decode_query(Filter, pairs)
    assert (found.name, found.limit, found.listener, found.kind, found.tags) == (["a", "b"], 2, "x", "tuple", ("t",))
    assert as_bool(found.all)
    assert decode_query(Filter, [("unknown", "1")]) == Filter()
    with pytest.raises(BadRequest, match="limit"):
        decode_query(Filter, [("limit", "many")])


@pytest.mark.parametrize(("value", "meaning"), [(True, True), ("True", True), ("yes", True), ("1", True), ("on", True),
                                                (False, False), ("false", False), ("0", False), ("no", False)])
def test_flags(value: bool | str, meaning: bool) -> None:
    assert as_bool(msgspec.convert(value, Flag)) is meaning


def test_counts_and_uuids() -> None:
    assert int(msgspec.convert("007", Count)) == 7
    for bad in ("-1", "", "1.0", "9" * 19, -1, 1.5):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, Count)
    msgspec.convert("0123456789abcdef0123456789ABCDEF", UuidText)
    for bad in ("", "x" * 32, "0123456789abcdef0123456789abcde"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, UuidText)
