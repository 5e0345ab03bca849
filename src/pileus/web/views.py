"""Views: what a resource looks like on the wire, as data, with the versions in which each field exists.

A handler never asks which version it serves; the view's field list does. Replies are exact: conformance
suites reject an unknown key as well as a missing one.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from pileus.web.versions import Version

_FOREVER: Version = (10**9, 0)
_ALWAYS: Version = (0, 0)


class Field:
    """One key of a reply. `get` is an attribute's name or a function of the row."""

    __slots__ = ("get", "name", "since", "until")

    def __init__(
        self,
        name: str,
        get: str | Callable[[Any], Any] | None = None,
        since: Version = _ALWAYS,
        until: Version = _FOREVER,
    ) -> None:
        self.name = name
        self.get = attrgetter(get or name) if get is None or isinstance(get, str) else get
        self.since = since
        self.until = until  # the last version that has it


class View:
    """An ordered list of fields, rendered for a version."""

    def __init__(self, *fields: Field | str) -> None:
        self.fields = tuple(Field(f) if isinstance(f, str) else f for f in fields)
        self._cuts = sorted({f.since for f in self.fields} | {(f.until[0], f.until[1] + 1) for f in self.fields})
        self._by_cut: dict[Version, tuple[tuple[str, Callable[[Any], Any]], ...]] = {}

    def at(self, version: Version | None) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
        """Name and getter of each field that exists in a version; None is a service without versions."""
        version = version or _ALWAYS
        cut = max((c for c in self._cuts if c <= version), default=_ALWAYS)
        if cut not in self._by_cut:
            self._by_cut[cut] = tuple(
                (f.name, f.get) for f in self.fields if f.since <= version <= f.until
            )
        return self._by_cut[cut]

    def render(self, row: Any, version: Version | None = None) -> dict[str, Any]:
        """One resource."""
        return {name: get(row) for name, get in self.at(version)}

    def render_all(self, rows: Any, version: Version | None = None) -> list[dict[str, Any]]:
        """Many, with the field list looked up once."""
        fields = self.at(version)
        return [{name: get(row) for name, get in fields} for row in rows]
