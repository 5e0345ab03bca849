"""GET /allocation_candidates: the question, read from a query, and its answer on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pileus.placement import filters
from pileus.placement.candidates import Choice, Group, Holder, Request, load, search
from pileus.placement.faults import BadQueryValue, DuplicateQueryKey, MissingQueryValue
from pileus.placement.views import fresh
from pileus.web.call import Call, Reply
from pileus.web.errors import BadRequest
from pileus.web.versions import Version

_SINCE: dict[str, Version] = {
    "resources": (1, 10), "limit": (1, 16), "required": (1, 17), "member_of": (1, 21), "group_policy": (1, 25),
    "in_tree": (1, 31), "root_required": (1, 35), "same_subtree": (1, 36),
}
_OF_GROUPS = ("resources", "required", "member_of", "in_tree")
_NUMBERED = re.compile(r"(resources|required|member_of|in_tree)([1-9][0-9]*)?")
_NAMED = re.compile(r"(resources|required|member_of|in_tree)([a-zA-Z0-9_-]{1,64})?")

Values = dict[str, list[str]]


def index(call: Call) -> Reply:
    """GET /allocation_candidates: 200, from 1.10 on."""
    version = call.version or (1, 0)
    request = read(call.query_pairs, version)
    filters.check_classes(call.tx, {name for group in request.groups for name in group.resources})
    filters.check_traits(call.tx, *(group.traits for group in request.groups), request.root)
    asked = {name for group in request.groups for name in group.resources}
    holders = load(call.tx, None if version >= (1, 27) else asked)
    choices = search(holders, request)
    body = {
        "allocation_requests": [_choice(choice, version) for choice in choices],
        "provider_summaries": _summaries(choices, holders, asked, version),
    }
    return fresh(call, body)


# -- the question


def read(pairs: Iterable[tuple[str, str]], version: Version) -> Request:
    """The question that a query asks. Raises BadRequest for what is unknown, too new, or contradictory."""
    wide: Values = {}
    grouped: dict[str, Values] = {}
    pattern = _NAMED if version >= (1, 33) else _NUMBERED
    for key, value in pairs:
        found = pattern.fullmatch(key)
        name = found[1] if found else key
        if _SINCE.get(name, (9, 0)) > version or (found and found[2] and version < (1, 25)):
            raise BadRequest(f"Invalid query string parameters: '{key}' is not known in this version.")
        if found:
            grouped.setdefault(found[2] or "", {}).setdefault(name, []).append(value)
        else:
            wide.setdefault(name, []).append(value)
    groups = tuple(_group(suffix, values, version) for suffix, values in sorted(grouped.items()))
    subtrees = tuple(_subtree(value) for value in wide.get("same_subtree", []))
    _check_groups(groups, subtrees, version)
    policy = wide.get("group_policy", [None])[0]
    if policy not in (None, "none", "isolate"):
        raise BadRequest(f"Invalid query string parameters: group_policy is none or isolate, not '{policy}'.")
    if policy is None and sum(1 for group in groups if group.suffix) > 1:
        raise BadRequest(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    return Request(
        groups, limit=_limit(wide), isolate=policy == "isolate", root=_root(wide, version), same_subtree=subtrees,
        nested=version >= (1, 29),
    )


def _group(suffix: str, values: Values, version: Version) -> Group:
    return Group(
        suffix,
        filters.resources(values["resources"][-1]) if "resources" in values else {},
        filters.traits(values.get("required", []), version, f"required{suffix}"),
        filters.aggregates(values.get("member_of", []), version, f"member_of{suffix}", several=(1, 24)),
        filters.in_tree(values["in_tree"][-1]) if "in_tree" in values else None,
    )


def _check_groups(groups: tuple[Group, ...], subtrees: tuple[frozenset[str], ...], version: Version) -> None:
    """Before 1.36 each group has resources; from then on one has, and those without stand in a same_subtree."""
    empty = {group.suffix for group in groups if not group.resources}
    if len(empty) == len(groups):
        raise MissingQueryValue("There must be at least one resources or resources[$S] parameter.")
    spoken = frozenset().union(*subtrees)
    if version < (1, 36) and empty:
        names = ", ".join(sorted(f"'{suffix}'" for suffix in empty))
        raise BadRequest(f"All request groups must specify resources; those with these suffixes have none: {names}.")
    if empty - spoken:
        raise BadQueryValue(
            "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - "
            f"{', '.join(sorted(empty - spoken))}."
        )
    unknown = spoken - {group.suffix for group in groups}
    if unknown:
        raise BadQueryValue(f"Real suffixes should be specified in `same_subtree`: {', '.join(sorted(unknown))}.")


def _subtree(value: str) -> frozenset[str]:
    suffixes = frozenset(part.strip() for part in value.split(","))
    if "" in suffixes:
        raise BadQueryValue("Empty string (unsuffixed group) can not be specified in `same_subtree`.")
    return suffixes


def _limit(wide: Values) -> int | None:
    text = wide.get("limit", [None])[0]
    if text is None:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise BadRequest(f"Invalid query string parameters: limit is a number from 1 on, not '{text}'.")
    return int(text)


def _root(wide: Values, version: Version) -> filters.Wanted:
    values = wide.get("root_required", [])
    if len(values) > 1:
        raise DuplicateQueryKey("Query parameter 'root_required' may be specified only once.")
    if values and values[0].startswith("in:"):
        raise BadRequest("Invalid query string parameters: 'root_required' takes no 'in:'.")
    return filters.traits(values, version, "root_required")


# -- the answer


def _choice(choice: Choice, version: Version) -> dict[str, Any]:
    """An answer, in the shape in which PUT /allocations takes it."""
    if version < (1, 12):
        listed = [{"resource_provider": {"uuid": p}, "resources": r} for p, r in choice.amounts.items()]
        return {"allocations": listed}
    body: dict[str, Any] = {"allocations": {p: {"resources": r} for p, r in choice.amounts.items()}}
    if version >= (1, 34):
        body["mappings"] = choice.mappings
    return body


def _summaries(
    choices: list[Choice], holders: Mapping[str, Holder], asked: set[str], version: Version
) -> dict[str, dict[str, Any]]:
    """The providers of the answers and, from 1.29 on, all others of their trees."""
    used = {place for choice in choices for place in choice.amounts}
    if version >= (1, 29):
        roots = {holders[place].root_id for place in used}
        shown = [holder for holder in holders.values() if holder.root_id in roots]
    else:
        shown = [holders[place] for place in used]
    told = _sorted_traits() if version >= (1, 17) else None
    found: dict[str, dict[str, Any]] = {}
    for holder in shown:
        entry: dict[str, Any] = {"resources": {
            name: {"capacity": stock.capacity, "used": stock.used}
            for name, stock in holder.stocks.items() if version >= (1, 27) or name in asked
        }}
        if told is not None:
            entry["traits"] = told(holder.traits)
        if version >= (1, 29):
            entry["parent_provider_uuid"] = holder.parent_id
            entry["root_provider_uuid"] = holder.root_id
        found[holder.id] = entry
    return found


def _sorted_traits() -> Any:
    """Sorts sets of traits, each different one once: the nodes of a cloud have few."""
    known: dict[frozenset[str], list[str]] = {}

    def told(traits: frozenset[str]) -> list[str]:
        if traits not in known:
            known[traits] = sorted(traits)
        return known[traits]

    return told
