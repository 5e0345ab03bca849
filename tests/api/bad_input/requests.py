"""Requests made from a service's OpenAPI document: near to what it says, and far from it.

Most of a request is right, so that it comes far; here and there something is odd: a wrong type, an unknown field, a
number that no column takes, text that no one expects, another project's id, a body that is no JSON.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import strategies as st

Schema = dict[str, Any]

_DEEP: Any = None
for _ in range(60):
    _DEEP = [_DEEP]

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**30, 1.5, -0.0, 1e308, "", " ", "0",
    "-1", "1.5", "null", "true", "None", "inf", "NaN", "1e999", "9" * 30, "\0", "a\0b", "a" * 256, "a" * 2049,
    "a" * 30_000, "é", "\U0001f300", "\u202egnp", "a\u0301", "\ud800", "٣", "²", "\r\nX-Forged: 1",
    "../../etc/passwd", "%00", "%s%n%d", "' OR '1'='1", "<script>", "{}", "[]", [], {}, [None], [[]], {"": ""},
    {"a": {"b": {"c": []}}}, [1, "a", None], _DEEP, "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999-14:00",
    "2026-13-45T99:99:99Z", "10000-01-01", "::/0", "0.0.0.0/0", "0.0.0.0", "255.255.255.255", "10.0.0.0/33",
    "10.0.0.1/24", "fe80::1%eth0", "::ffff:1.2.3.4", "224.0.0.1", "[::1]", "http://[::1", "file:///etc/passwd",
    "http://169.254.169.254/", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "in:", "gte:", "in:,", "neq:\u0000",
    "gt:x", ",", ":", "a:", ":a", "!", "(", ")", "*", "[", "\\", "%", "_", "a=b", "a,b", "=", "&",
)
TEXTS = tuple(value for value in ODD if isinstance(value, str))
_CALLERS = ("admin",) * 10 + ("alice",) * 6 + ("bob", "anonymous")
_WORDS = ("a", "name", "default", "public", "admin", "10.1.0.0/24", "10.1.0.9", "ipv4", "tcp", "raw", "active")


class Draw:
    """Choices of one request. They all follow from one number, so that two requests are hardly ever alike."""

    def __init__(self, data: st.DataObject) -> None:
        self._random = random.Random(data.draw(st.integers(0, 2**62)))
        self.data = data

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of them."""
        return self._random.choice(choices)

    def number(self, low: int, high: int) -> int:
        """A number, both ends included."""
        return self._random.randint(low, high)

    def __call__(self, strategy: st.SearchStrategy[Any]) -> Any:
        """What hypothesis makes."""
        return self.data.draw(strategy)


class Request(msgspec.Struct):
    """One request, and how to say it on one line."""

    method: str
    path: str
    caller: str
    headers: dict[str, str]
    content: bytes | None

    def line(self) -> str:
        """The request as a curl-like line."""
        body = "" if self.content is None else f" --data {self.content[:300]!r}"
        return f"{self.caller}: {self.method} {self.path[:300]} {self.headers}{body}"


class Maker:
    """Draws requests for the operations of all documents."""

    def __init__(self, documents: dict[str, Any], ids: dict[str, list[str]], versions: dict[str, list[str]]) -> None:
        self.ids, self.versions = ids, versions
        self.documents = documents
        self.operations = [
            (service, path, method, operation)
            for service, document in documents.items()
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]

    def request(self, draw: Draw) -> Request:
        """One request."""
        service, path, method, operation = draw.pick(self.operations)
        parts = self.documents[service]["components"]["schemas"]
        query = []
        for parameter in operation["parameters"]:
            name = parameter["name"]
            if parameter["in"] == "path":
                before = path.split("{" + name + "}")[0].rstrip("/").rsplit("/", 1)[1]
                value = self._text(draw, f"{before} {name}".replace("-", "_"), 12)
                path = path.replace("{" + name + "}", quote(value.encode("utf-8", "replace"), safe=""))
            elif _one_in(draw, 6):
                value = self._value(draw, parameter["schema"], parts, name, 4)
                query += [(name, v) for v in (value if isinstance(value, list) else [value])]
        if _one_in(draw, 20):
            query.append((draw.pick(TEXTS), draw.pick(TEXTS)))
        if query:
            path += "?" + "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in query)
        headers, content = self._body(draw, operation, parts)
        self._headers(draw, service, headers)
        caller = draw.pick(_CALLERS)
        return Request(method.upper(), path, caller, headers, content)

    def _headers(self, draw: Draw, service: str, headers: dict[str, str]) -> None:
        if self.versions.get(service) and not _one_in(draw, 5):
            headers["OpenStack-API-Version"] = f"{service} {draw.pick(self.versions[service])}"
        if service == "identity" and _one_in(draw, 10):
            headers["X-Subject-Token"] = "gAAAAABforged"
        if _one_in(draw, 25):
            name = draw.pick(("Range", "If-Match", "Accept", "X-Subject-Token", "Content-Range", "Prefer"))
            headers[name] = draw.pick(
                ("", "*", "bytes=0-", "bytes=5-1", "bytes=-0", "bytes=99999999999999999999-", "revision_number=x", "٣")
            ).encode("ascii", "replace").decode()

    def _body(self, draw: Draw, operation: Schema, parts: Schema) -> tuple[dict[str, str], bytes | None]:
        content = operation.get("requestBody", {}).get("content")
        if content is None:
            return ({}, None) if not _one_in(draw, 20) else ({"Content-Type": "application/json"}, b'{"a": 1}')
        media, described = draw.pick(sorted(content.items()))
        headers = {"Content-Type": "application/octet-stream" if "*" in media else media}
        if _one_in(draw, 30):
            headers["Content-Type"] = draw.pick(("text/plain", "", "text/xml", "application/json; x"))
        if "schema" not in described:
            return headers, draw(st.binary(max_size=600))
        kind = draw.number(0, 39)
        if kind == 0:
            return headers, b""
        if kind == 1:
            return headers, draw.pick((b"{", b"\xff\xfe{}", b"[" * 5000, b'{"a":' * 3000, b"nul", b"{} {}"))
        if kind == 2:
            return headers, b'{"a": "' + b"x" * 70_000 + b'"}'
        if kind == 3:
            return headers, _encoded(draw.pick(ODD))
        return headers, _encoded(self._value(draw, described["schema"], parts, "", 40 if kind < 25 else 0))

    def _text(self, draw: Draw, name: str, wild: int) -> str:
        """A text for a name: mostly the id of something that there is, if need be of another kind or project."""
        if wild and _one_in(draw, wild):
            text: str = draw.pick(TEXTS)
            return text
        plain = name.lower().replace("_", "")
        kind = max((k for k in self.ids if k.replace("_", "") in plain), key=len, default=None)
        if kind is None or _one_in(draw, 10):
            if name.lower().endswith(("id", "uuid", "ref")):
                kind = draw.pick(sorted(self.ids))
            else:
                word: str = draw.pick(_WORDS)
                return word
        found: str = draw.pick(self.ids[kind])
        return found

    def _value(self, draw: Draw, schema: Schema, parts: Schema, name: str, wild: int, depth: int = 0) -> Any:
        """A value of the schema; of `wild` values one is odd (0: none)."""
        if wild and _one_in(draw, wild):
            return draw.pick(ODD)
        if "$ref" in schema:
            schema = parts[schema["$ref"].rsplit("/", 1)[1]]
        if "anyOf" in schema:
            return self._value(draw, draw.pick(schema["anyOf"]), parts, name, wild, depth)
        if "enum" in schema:
            return draw.pick(schema["enum"])
        if "const" in schema:
            return schema["const"]
        return self._typed(draw, schema, parts, name, wild, depth)

    def _typed(self, draw: Draw, schema: Schema, parts: Schema, name: str, wild: int, depth: int) -> Any:
        match schema.get("type"):
            case "object":
                return self._object(draw, schema, parts, wild, depth)
            case "array":
                fewest = min(schema.get("minItems", 0), 2)
                count = draw.number(fewest, max(fewest, min(schema.get("maxItems", 2), 2) if depth < 6 else 0))
                items = schema.get("items") or {}
                return [self._value(draw, items, parts, name, wild, depth + 1) for _ in range(count)]
            case "integer" | "number":
                low = schema.get("minimum", schema.get("exclusiveMinimum", -1))
                high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2**40))
                return draw.pick((low, high, low + 1, min(low + 4, high)))
            case "boolean":
                return draw.pick((False, True))
            case "null":
                return None
            case "string":
                if "pattern" in schema and not _one_in(draw, 3):
                    return draw(st.from_regex(schema["pattern"], fullmatch=True))[: schema.get("maxLength", 300)]
                return self._text(draw, name, 0) if not _one_in(draw, 12) else draw(st.text(max_size=40))
        return draw.pick((*ODD, *_WORDS))

    def _object(self, draw: Draw, schema: Schema, parts: Schema, wild: int, depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        made: dict[str, Any] = {}
        for key, inner in schema.get("properties", {}).items():
            if (key in required and not (wild and _one_in(draw, 40))) or _one_in(draw, 4 if wild else 8):
                made[key] = self._value(draw, inner, parts, key, wild, depth + 1)
        more = schema.get("additionalProperties")
        if isinstance(more, dict) and depth < 6:
            for _ in range(draw.number(0, 2)):
                key = self._text(draw, "key", 5)
                made[key] = self._value(draw, more, parts, key, wild, depth + 1)
        if wild and _one_in(draw, 40):
            made[draw.pick(TEXTS)] = draw.pick(ODD)
        return made


def _one_in(draw: Draw, count: int) -> bool:
    return bool(draw.number(0, count - 1) == count - 1)


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text.encode("utf-8", "replace"), safe="")


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()
