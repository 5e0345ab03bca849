"""nft rules as values: rendered whole, or as the difference from what was applied before.

Both forms are one transaction, so that packets meet either the old rules or the new, never a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class Chain(msgspec.Struct, frozen=True):
    rules: tuple[str, ...]
    hook: str = ""  # "type filter hook forward priority 0; policy accept;" for a base chain


class Container(msgspec.Struct, frozen=True):
    """A set or a map. Elements are nft text, "10.0.0.1" or "1 : jump in_1"."""

    kind: str  # "set" or "map"
    type: str
    elements: frozenset[str] = frozenset()
    interval: bool = False

    def declaration(self) -> str:
        """What stands between the braces."""
        return f"type {self.type}; " + ("flags interval; " if self.interval else "")


class Table(msgspec.Struct, frozen=True):
    family: str
    name: str
    chains: dict[str, Chain] = {}
    containers: dict[str, Container] = {}

    @property
    def path(self) -> str:
        """Family and name, as nft commands take them."""
        return f"{self.family} {self.name}"


Ruleset = tuple[Table, ...]


def replace(new: Ruleset, fresh: bool = False) -> str:
    """The script that makes these tables exactly so, whatever they were.

    `fresh` promises that there are none yet, which spares the kernel half of the work."""
    lines: list[str] = []
    for table in new:
        if not fresh:
            # Adding first makes the deletion succeed whether or not the table is there.
            lines += [f"add table {table.path}", f"delete table {table.path}"]
        lines.append(f"add table {table.path}")
        lines += _difference(Table(table.family, table.name), table)
    return "\n".join(lines) + "\n"


def difference(old: Ruleset, new: Ruleset) -> str:
    """The script that leads from `old`, which is applied now, to `new`; empty if they are the same.

    Both must be of the same tables.
    """
    lines = [line for before, after in zip(old, new, strict=True) for line in _difference(before, after)]
    return "\n".join(lines) + "\n" if lines else ""


def _difference(old: Table, new: Table) -> Iterator[str]:
    """Ordered by who may point at whom: things are made before they are referred to and removed after."""
    if old == new:
        return
    path = new.path
    for name, chain in new.chains.items():
        if name not in old.chains:
            yield f"add chain {path} {name}" + (f" {{ {chain.hook} }}" if chain.hook else "")
    for name, container in new.containers.items():
        if name not in old.containers:
            yield f"add {container.kind} {path} {name} {{ {container.declaration()}}}"
    for name, container in old.containers.items():
        yield from _elements_gone(path, name, container, new.containers.get(name))
    for name, container in new.containers.items():
        yield from _elements_new(path, name, old.containers.get(name), container)
    yield from _chains(path, old.chains, new.chains)
    for name, container in old.containers.items():
        if name not in new.containers:
            yield f"delete {container.kind} {path} {name}"


def _chains(path: str, old: dict[str, Chain], new: dict[str, Chain]) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"flush chain {path} {name}"
    for name, chain in new.items():
        before = old.get(name)
        if before == chain:
            continue
        if before is not None:
            yield f"flush chain {path} {name}"
        for rule in chain.rules:
            yield f"add rule {path} {name} {rule}"
    for name in old:
        if name not in new:
            yield f"delete chain {path} {name}"


def _keys(elements: frozenset[str]) -> str:
    return ", ".join(sorted(element.partition(" : ")[0] for element in elements))


def _elements_gone(path: str, name: str, old: Container, new: Container | None) -> Iterator[str]:
    if new is not None and old == new:
        return
    if new is None or old.interval:
        # Intervals may have been merged, so single ones cannot be taken out safely.
        yield f"flush {old.kind} {path} {name}"
    elif gone := old.elements - new.elements:
        yield f"delete element {path} {name} {{ {_keys(gone)} }}"


def _elements_new(path: str, name: str, old: Container | None, new: Container) -> Iterator[str]:
    if old == new:
        return
    added = new.elements if old is None or new.interval else new.elements - old.elements
    if added:
        yield f"add element {path} {name} {{ {', '.join(sorted(added))} }}"
