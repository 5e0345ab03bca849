"""Request schemas: msgspec structs, decoded once at the edge.

A field that exists only in some versions says so: `Annotated[str | UnsetType, since(2, 19)] = UNSET`. An
unknown field is refused where the struct says `forbid_unknown_fields=True`, a field too new for the
request's version is refused as unknown.
"""

from __future__ import annotations

import functools
import re
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta

from pileus.web.errors import BadRequest
from pileus.web.versions import Version


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A request body in which an unknown field is an error."""


class OpenBody(msgspec.Struct, kw_only=True):
    """A request body that may carry more than we know, where the API allows it."""


class Query(msgspec.Struct, kw_only=True):
    """Query parameters. Unknown ones are ignored unless the struct forbids them."""


Flag = bool | Literal["True", "False", "true", "false", "TRUE", "FALSE", "yes", "no", "on", "off", "1", "0", "t", "f"]
"""A boolean as older clients write it; read it with `as_bool`."""

Count = Annotated[int, Meta(ge=0)] | Annotated[str, Meta(pattern=r"^[0-9]+$", max_length=18)]
"""A number that may come as text; read it with `int`."""

UuidText = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$")]


def as_bool(value: bool | str) -> bool:
    """The meaning of a `Flag`."""
    return value if isinstance(value, bool) else value.lower() in ("true", "yes", "on", "1", "t")


def since(major: int, minor: int) -> Meta:
    """The field exists from this version on."""
    return Meta(extra={"since": (major, minor)})


def until(major: int, minor: int) -> Meta:
    """The field exists up to this version."""
    return Meta(extra={"until": (major, minor)})


_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A null character in JSON: an escape that is not itself escaped."""


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_body(kind: Any, data: bytes, version: Version | None) -> Any:
    """The body as `kind`. Raises BadRequest, naming the place and what was expected there."""
    try:
        value = _decoder(kind).decode(data)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid input: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"Malformed request body: it is not valid JSON ({error}).") from None
    if _NULL.search(data):
        raise BadRequest("Invalid input: a text holds a null character, which no database could keep.")
    if version is not None:
        check_versions(value, version, "$")
    return value


def decode_query(kind: Any, pairs: list[tuple[str, str]]) -> Any:
    """Query parameters as `kind`; a field of type list collects repeats. Raises BadRequest."""
    lists = _list_fields(kind)
    values: dict[str, Any] = {}
    for name, text in pairs:
        if name in lists:
            values.setdefault(name, []).append(text)
        else:
            values[name] = text
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid query: {error}") from None


@functools.cache
def _list_fields(kind: Any) -> frozenset[str]:
    hints = get_type_hints(kind)
    return frozenset(f.encode_name for f in msgspec.structs.fields(kind) if _is_list(hints[f.name]))


def _is_list(hint: Any) -> bool:
    """Whether a type is a list, or may be one."""
    if hint in (list, tuple) or get_origin(hint) in (list, tuple):
        return True
    return get_origin(hint) in (Union, UnionType) and any(_is_list(part) for part in get_args(hint))


@functools.cache
def _ranges(kind: type) -> tuple[tuple[str, str, Version | None, Version | None], ...]:
    """Attribute, wire name and version range of the fields that have one, or that hold structs."""
    hints = get_type_hints(kind, include_extras=True)
    rows = []
    for f in msgspec.structs.fields(kind):
        extra: dict[str, Any] = {}
        for meta in _metas(hints[f.name]):
            extra.update(meta.extra or {})
        rows.append((f.name, f.encode_name, extra.get("since"), extra.get("until")))
    return tuple(rows)


def _metas(hint: Any) -> list[Meta]:
    found = []
    if get_origin(hint) is Annotated:
        found = [m for m in get_args(hint)[1:] if isinstance(m, Meta)]
        found += _metas(get_args(hint)[0])
    return found


def check_versions(value: Any, version: Version, place: str) -> None:
    """Refuse fields that the version does not have. Raises BadRequest."""
    if isinstance(value, msgspec.Struct):
        for name, wire, first, last in _ranges(type(value)):
            inner = getattr(value, name)
            if inner is UNSET:
                continue
            if (first is not None and version < first) or (last is not None and version > last):
                raise BadRequest(
                    f"Invalid input: additional properties are not allowed ('{wire}' was unexpected at "
                    f"`{place}` in version {version[0]}.{version[1]})"
                )
            if isinstance(inner, msgspec.Struct | list | tuple | dict):
                check_versions(inner, version, f"{place}.{wire}")
    elif isinstance(value, list | tuple | dict):
        for index, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, msgspec.Struct):
                check_versions(item, version, f"{place}[{index}]")
