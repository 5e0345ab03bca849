"""Requests as EC2's clients send them: `Filter.1.Value.2=x` in the query or in a form, decoded into a struct."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from pileus.ec2.faults import refused
from pileus.web.call import Call
from pileus.web.errors import UnsupportedMediaType

Pairs = list[tuple[str, str]]

_MOST, _DEEPEST = 2000, 8
_SIGNATURE = frozenset({
    "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp", "Expires",
})
_NAMED = re.compile(r"(missing required|contains unknown) field `([^`]*)`(?: - at `\$\.?(.*)`)?")


async def body(call: Call) -> bytes:
    """The request's body; empty for a GET. Raises UnsupportedMediaType for anything but a form."""
    if call.chunks is None:
        return b""
    data = b"".join([chunk async for chunk in call.chunks])
    media = call.headers.get("content-type", "").split(";")[0].strip().lower()
    if data and media not in ("", "application/x-www-form-urlencoded"):
        raise UnsupportedMediaType(f"Content-Type '{media}' is not taken here; send a form.")
    return data


def pairs(data: bytes) -> Pairs:
    """What a form says. Raises BadRequest for what is no form, or a huge one."""
    try:
        text = data.decode("ascii")
        found = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST)
    except (UnicodeDecodeError, ValueError):
        raise refused("MalformedQueryString", f"The body is no form of at most {_MOST} fields in UTF-8.") from None
    if any("\0" in word for pair in found for word in pair):
        raise refused("MalformedQueryString", "The form holds a null character.")
    return found


def single(given: Pairs) -> dict[str, str]:
    """The parameters by name, those of the signature left out. Raises BadRequest for one that comes twice."""
    found: dict[str, str] = {}
    for name, value in given:
        if name in found:
            raise refused("MalformedQueryString", f"The parameter {name[:80]} is there twice.")
        found[name] = value
    return {k: v for k, v in found.items() if k not in _SIGNATURE and not k.startswith("X-Amz-")}


def decode(kind: Any, given: dict[str, str]) -> Any:
    """The parameters as `kind`. Raises BadRequest, with the codes that EC2 has for it."""
    tree: dict[str, Any] = {}
    for name, value in given.items():
        _put(tree, name, value)
    try:
        return msgspec.convert({name: _listed(value) for name, value in tree.items()}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from None


def _put(tree: dict[str, Any], name: str, value: str) -> None:
    *way, last = name.split(".")
    if len(way) >= _DEEPEST:
        raise refused("MalformedQueryString", f"The parameter {name[:80]} has too many parts.")
    place = tree
    for part in way:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise refused("MalformedQueryString", f"The parameter {name[:80]} is within another one.")
    if last in place:
        raise refused("MalformedQueryString", f"The parameter {name[:80]} holds others.")
    place[last] = value


def _listed(value: Any) -> Any:
    """`{"1": …, "2": …}` as a list; other keys stay names."""
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(one) for key, one in value.items()}
    if all(key.isascii() and key.isdigit() and len(key) < 7 for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _named(message: str) -> Exception:
    found = _NAMED.search(message)
    if found is None:
        return refused("InvalidParameterValue", f"Invalid value: {message}")
    where = f"{found[3]}.{found[2]}" if found[3] else found[2]
    if found[1].startswith("missing"):
        return refused("MissingParameter", f"The request must contain the parameter {where}")
    return refused("UnknownParameter", f"The parameter {where} is not recognized")
