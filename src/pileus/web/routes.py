"""Routes as rows of data, and the tree that finds them.

A row says all that the kernel must know: method, path, handler, success status, versions, request schema,
policy rule. 404, 405, 406, 413, version errors and the OpenAPI document come from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pileus.web.errors import Problem
from pileus.web.versions import Microversions, Version

if TYPE_CHECKING:
    from pileus.web.call import Call

Handler = Callable[["Call"], Any]
"""Plain function: runs inside one transaction (`call.tx`). Coroutine function: opens its own (`call.db`)."""

FaultShape = Callable[[Problem, "Call | None"], tuple[Any, dict[str, str]]]

ANY_VERSION: Version = (10**9, 0)


class Rule(str):
    """A policy rule's name, or one of the two below."""

    __slots__ = ()


PUBLIC = Rule("(public)")
"""Needs no token at all."""

AUTHENTICATED = Rule("(any valid token)")
"""Any valid token; the handler itself decides per object. Say in its docstring how."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row. `body` and `query` are msgspec structs; a method that takes no body has None."""

    method: str
    path: str  # "/servers/{server_id}"
    handler: Handler
    policy: str
    status: int = 200
    body: Any = None
    query: Any = None
    since: Version = (0, 0)
    until: Version = ANY_VERSION
    raw: bool = False  # the handler reads the body itself, as a stream
    media: tuple[str, ...] = ("application/json",)
    max_body: int | None = None  # bytes; None: the setting `max_body`
    write: bool | None = None  # None: every method but GET and HEAD

    @property
    def writes(self) -> bool:
        return self.write if self.write is not None else self.method not in ("GET", "HEAD")


@dataclass(slots=True)
class Node:
    """A place in the path tree."""

    words: dict[str, Node] = field(default_factory=dict)
    parameter: Node | None = None
    rest: Node | None = None  # "{name*}": all that is left of the path
    routes: dict[str, list[tuple[tuple[str, ...], Route]]] = field(default_factory=dict)


@dataclass(slots=True)
class Service:
    """One service: its place in the URL space and the catalog, its table, its shape of errors."""

    name: str  # "compute"
    catalog_type: str  # "compute"
    catalog_path: str  # "/v2.1", after the prefix; what clients find in the catalog
    routes: tuple[Route, ...]
    faults: FaultShape
    rules: Mapping[str, str]
    microversions: Microversions | None = None
    classic_port: int | None = None
    description: str = ""
    catalog_aliases: tuple[str, ...] = ()
    """Further types by which clients look for it: each is an entry of the catalog with the same URL."""
    unversioned: frozenset[str] = frozenset()
    """First segments below which there are no microversions: requests are served as the lowest, whatever they ask."""
    tree: Node = field(default_factory=Node)
    _version_headers: dict[Version, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for route in self.routes:
            _insert(self.tree, route)

    def version_headers(self, version: Version) -> dict[str, str]:
        """What each reply says of its microversion; a dict of the service's own, not to be changed."""
        found = self._version_headers.get(version)
        if found is None:
            found = self._version_headers[version] = self.microversions.headers(version) if self.microversions else {}
        return found

    @property
    def prefix(self) -> str:
        return f"/{self.name}"

    def is_unversioned(self, path: str) -> bool:
        """Whether there are no microversions at a path."""
        return path.lstrip("/").partition("/")[0] in self.unversioned


def _insert(tree: Node, route: Route) -> None:
    names: list[str] = []
    node = tree
    for part in segments(route.path):
        if part.startswith("{") and part.endswith("*}"):
            names.append(part[1:-2])
            node.rest = node.rest or Node()
            node = node.rest
        elif part.startswith("{"):
            names.append(part[1:-1])
            node.parameter = node.parameter or Node()
            node = node.parameter
        else:
            node = node.words.setdefault(part, Node())
    node.routes.setdefault(route.method, []).append((tuple(names), route))


def segments(path: str) -> list[str]:
    """The parts of a path; slashes at the ends do not count."""
    stripped = path.strip("/")
    return stripped.split("/") if stripped else []


def find(node: Node, parts: list[str], at: int = 0) -> tuple[Node, list[str]] | None:
    """The node for a path and the values of its parameters. Words win over parameters."""
    if at == len(parts):
        return (node, []) if node.routes else None
    word = node.words.get(parts[at])
    if word is not None:
        found = find(word, parts, at + 1)
        if found:
            return found
    if node.parameter is not None and parts[at]:
        found = find(node.parameter, parts, at + 1)
        if found:
            return found[0], [parts[at], *found[1]]
    if node.rest is not None:
        return node.rest, ["/".join(parts[at:])]
    return None


def pick(
    rows: Iterable[tuple[tuple[str, ...], Route]], version: Version | None
) -> tuple[tuple[str, ...], Route] | None:
    """The row that serves a version."""
    for names, route in rows:
        if version is None or route.since <= version <= route.until:
            return names, route
    return None
