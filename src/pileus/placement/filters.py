"""What a query asks of providers: amounts of resources, traits, aggregates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pileus.placement.faults import BadQueryValue
from pileus.placement.schemas import MOST
from pileus.web.errors import BadRequest
from pileus.web.schemas import UuidText
from pileus.web.versions import Version

if TYPE_CHECKING:
    from pileus.db.engine import Tx

import msgspec

_NAMES = 200


@dataclass(frozen=True)
class Wanted:
    """One name of each set must be there, and none of `forbidden`."""

    required: tuple[frozenset[str], ...] = ()
    forbidden: frozenset[str] = frozenset()

    def admits(self, names: Set[str]) -> bool:
        """Whether a set of names has what is wanted."""
        if self.forbidden and not names.isdisjoint(self.forbidden):
            return False
        return not self.required or all(not names.isdisjoint(any_of) for any_of in self.required)

    @property
    def names(self) -> frozenset[str]:
        """Every name that is spoken of."""
        return self.forbidden.union(*self.required)

    @property
    def contradicts(self) -> list[str]:
        """The required sets that can never be met."""
        return [", ".join(sorted(any_of)) for any_of in self.required if any_of <= self.forbidden]


def resources(text: str) -> dict[str, int]:
    """`VCPU:2,MEMORY_MB:1024`. Raises BadRequest."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, number = part.partition(":")
        if not colon or not name or len(name) > 255:
            raise BadRequest(
                "Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {part or 'empty string'}."
            )
        if not number.strip().isdecimal() or not number.strip().isascii() or len(number) > 18:
            raise BadRequest(f"Requested resource {name} expected positive integer amount. Got: {number}.")
        if not 1 <= int(number) <= MOST:
            raise BadRequest(f"Requested resource {name} requires amount >= 1 and <= {MOST}. Got: {number}.")
        found[name] = int(number)
    return found


def traits(values: Sequence[str], version: Version, key: str) -> Wanted:
    """The values of `required`: `A,!B` or, from 1.39 on, `in:A,B`, which is also when it may repeat."""
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    if version < (1, 39):
        values = values[-1:]
    for value in values:
        if value.startswith("in:"):
            required.append(_any_of(value, version, key))
            continue
        for name in (part.strip() for part in value.split(",")):
            bare = name.lstrip("!")
            if not bare or (bare != name and version < (1, 22)):
                raise BadRequest(
                    f"Invalid query string parameters: Expected '{key}' parameter value of the form: "
                    f"HW_CPU_X86_VMX,{'!' if version >= (1, 22) else ''}CUSTOM_MAGIC. Got: {value}"
                )
            if bare == name:
                required.append(frozenset([name]))
            else:
                forbidden.add(bare)
    return Wanted(tuple(required), frozenset(forbidden))


def _any_of(value: str, version: Version, key: str) -> frozenset[str]:
    names = frozenset(part.strip() for part in value[3:].split(","))
    if version < (1, 39):
        raise BadRequest(f"Invalid query string parameters: '{key}=in:…' is only supported since 1.39. Got: {value}")
    if "" in names or any(name.startswith("!") for name in names):
        raise BadRequest(
            f"Invalid query string parameters: '{key}=in:…' takes trait names, none of them empty or forbidden (!). "
            f"Got: {value}"
        )
    return names


def aggregates(values: Sequence[str], version: Version, key: str, several: Version) -> Wanted:
    """The values of `member_of`: `A`, `in:A,B`, `!A`, `!in:A,B`; it may repeat from `several` on."""
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    if len(values) > 1 and version < several:
        raise BadRequest(f"Multiple {key} parameters are not supported in this version.")
    for value in values:
        bare = value.removeprefix("!")
        if bare != value and version < (1, 32):
            raise BadRequest("Forbidden member_of parameters are not supported in this version.")
        ids = bare.removeprefix("in:").split(",")
        if len(ids) > 1 and not bare.startswith("in:"):
            raise BadRequest(f"Multiple values for '{key}' must be prefixed with the 'in:' keyword. Got: {value}")
        for one in ids:
            _uuid(one, key)
        if bare != value:
            forbidden.update(ids)
        else:
            required.append(frozenset(ids))
    return Wanted(tuple(required), frozenset(forbidden))


def _uuid(text: str, key: str) -> None:
    try:
        msgspec.convert(text, UuidText)
    except msgspec.ValidationError:
        raise BadRequest(
            f"Invalid query string parameters: Expected '{key}' parameter to contain valid UUID(s). Got: {text}"
        ) from None


def in_tree(text: str) -> str:
    """The id of a provider. Raises BadRequest."""
    _uuid(text, "in_tree")
    return text


def check_classes(tx: Tx, names: Iterable[str]) -> None:
    """Raises BadRequest when one of the names is no resource class."""
    from pileus.placement.resource_classes import unknown

    missing = unknown(tx, names)
    if missing:
        raise BadRequest(
            f"Invalid resource class in resources parameter: No such resource class {', '.join(missing)}."
        )


def check_traits(tx: Tx, *wanted: Wanted) -> None:
    """Raises BadRequest when one of the names is no trait, or when what is wanted contradicts itself."""
    from pileus.placement.traits import unknown

    missing = unknown(tx, frozenset().union(*(w.names for w in wanted)))
    if missing:
        raise BadRequest(f"No such trait(s): {', '.join(missing[:_NAMES])}.")
    for one in wanted:
        if one.contradicts:
            raise BadQueryValue(f"Conflicting required and forbidden traits found: {'; '.join(one.contradicts)}.")
