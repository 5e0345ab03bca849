"""What all nouns share: finding one, lists with filters, sorting, paging and `fields`, and creating many at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Row

from pileus.network import tags
from pileus.network.faults import not_found
from pileus.web.call import Call
from pileus.web.errors import BadRequest, PreconditionFailed
from pileus.web.pages import page, sort_keys
from pileus.web.schemas import Query, as_bool

Clause = sa.ColumnElement[bool]
Filter = Callable[[Call, list[str]], Clause]

_PAGING = ("limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields")
_TAGS = ("tags", "tags-any", "not-tags", "not-tags-any")
_IF_MATCH = re.compile(r"^\s*\"?revision_number=(\d{1,18})\"?\s*$")
_HARMLESS = (False, None, "", "False", "false")


@dataclass(frozen=True)
class Noun:
    """A kind of resource: where it is kept, who sees it, how it is matched and shown."""

    name: str  # "network"
    plural: str
    title: str  # in messages: "Network"
    error: str  # "NetworkNotFound"
    table: sa.Table
    visible: Callable[[Call], Clause | None]
    """What the caller may see; None: all."""
    render: Callable[[Call, Sequence[Row[Any]]], list[dict[str, Any]]]
    filters: Mapping[str, Filter]
    sorts: Mapping[str, sa.ColumnElement[Any]]
    rule: str = ""  # the noun in policy rules' names, where it is another
    taggable: bool = True
    before_list: Callable[[Call], None] | None = None

    @property
    def in_rules(self) -> str:
        return self.rule or self.name


def text(column: sa.ColumnElement[Any], null: str = "") -> Filter:
    """Matches by equality; an empty value (or "None") also matches a column that is null."""

    def match(call: Call, values: list[str]) -> Clause:
        found: Clause = column.in_(values)
        return sa.or_(found, column.is_(None)) if null in values or "None" in values else found

    return match


def flag(column: sa.ColumnElement[Any]) -> Filter:
    """Matches a boolean, however written."""

    def match(call: Call, values: list[str]) -> Clause:
        return sa.or_(*(column.is_(as_bool(value)) for value in values))

    return match


def integer(column: sa.ColumnElement[Any]) -> Filter:
    """Matches a number; what is none matches nothing."""

    def match(call: Call, values: list[str]) -> Clause:
        numbers = [int(v) for v in values if re.fullmatch(r"-?\d{1,9}", v)]
        return column.in_(numbers)

    return match


def nothing(call: Call, values: list[str]) -> Clause:
    """Matches nothing: an attribute that is never set here."""
    return sa.false()


def standard(table: sa.Table) -> dict[str, Filter]:
    """Filters of the attributes that every resource has."""
    columns = table.c
    found: dict[str, Filter] = {
        "id": text(columns.id), "project_id": text(columns.project_id), "tenant_id": text(columns.project_id),
        "description": text(columns.description), "revision_number": integer(columns.revision),
        "changed_since": _changed_since(columns.updated), "created_at": _at(columns.created),
        "updated_at": _at(columns.updated),
    }
    if "name" in columns:
        found["name"] = text(columns.name)
    return found


def sorts(table: sa.Table, *names: str) -> dict[str, sa.ColumnElement[Any]]:
    """Sortable attributes: the standard ones and `names` (attribute, or attribute=column)."""
    columns = table.c
    found: dict[str, sa.ColumnElement[Any]] = {
        "id": columns.id, "project_id": columns.project_id, "tenant_id": columns.project_id,
        "created_at": columns.created, "updated_at": columns.updated, "description": columns.description,
    }
    for name in names:
        attribute, _, column = name.partition("=")
        found[attribute] = columns[column or attribute]
    return found


def _changed_since(column: sa.ColumnElement[Any]) -> Filter:
    def match(call: Call, values: list[str]) -> Clause:
        return sa.and_(*(column >= _moment(value) for value in values))

    return match


def _at(column: sa.ColumnElement[Any]) -> Filter:
    def match(call: Call, values: list[str]) -> Clause:
        return sa.or_(*(column.between(_moment(v), _moment(v) + 0.999999) for v in values))

    return match


def _moment(value: str) -> float:
    from pileus.world import parse_iso

    try:
        return parse_iso(value)
    except ValueError:
        raise BadRequest(f"'{value}' is not a time; write it as 2026-01-31T12:00:00Z.") from None


def query_of(filters: Mapping[str, Filter], taggable: bool = True, name: str = "List") -> Any:
    """The query struct of a list: every filter, repeatable, and the paging parameters. `name` is the OpenAPI
    document's for it, and each list needs its own there."""
    parameters = [*filters, *(_TAGS if taggable else ()), *_PAGING]
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for number, parameter in enumerate(parameters):
        attribute = re.sub(r"\W", "_", parameter) if parameter.isidentifier() else f"f{number}"
        rename[attribute] = parameter
        fields.append((attribute, list[str], msgspec.field(default_factory=list, name=parameter)))
    return msgspec.defstruct(f"{name}Query", fields, bases=(Query,), kw_only=True)


FieldsQuery = msgspec.defstruct(
    "FieldsQuery", [("fields", list[str], msgspec.field(default_factory=list))], bases=(Query,), kw_only=True
)


def is_admin(call: Call) -> bool:
    """Whether the caller sees and may do everything here."""
    return call.allows("context_is_admin")


def visible(call: Call, noun: Noun) -> sa.Select[Any]:
    """The rows of a noun that the caller may see."""
    statement = sa.select(noun.table)
    if not is_admin(call):
        clause = noun.visible(call)
        if clause is not None:
            statement = statement.where(clause)
    return statement


def find(call: Call, noun: Noun, identity: str) -> Row[Any]:
    """The row of this id. Raises NotFound in the noun's own words, also for what the caller may not see."""
    row = call.tx.first(visible(call, noun).where(noun.table.c.id == identity))
    if row is None:
        raise not_found(noun.error, noun.title, identity)
    return row


def find_for(call: Call, noun: Noun, action: str, identity: str, **target: Any) -> Row[Any]:
    """The row, for a change: may the caller do it, and is the revision the one that If-Match names?"""
    row = find(call, noun, identity)
    call.enforce(f"{action}_{noun.in_rules}", project_id=row.project_id, **target)
    wanted = call.headers.get("if-match")
    if wanted:
        shape = _IF_MATCH.match(wanted)
        if shape is None:
            raise BadRequest("If-Match must read revision_number=NUMBER.")
        if int(shape[1]) != row.revision:
            raise PreconditionFailed(
                f"Constrained to {shape[1]}, but current revision is {row.revision}; read it again and repeat."
            )
    return row


def show(call: Call, noun: Noun, identity: str) -> dict[str, Any]:
    """GET of one: 200."""
    row = find(call, noun, identity)
    return {noun.name: _cut(call, noun.render(call, [row]))[0]}


def shown(call: Call, noun: Noun, identity: str) -> dict[str, Any]:
    """The reply to a change: the resource as it is now."""
    row = call.tx.first(sa.select(noun.table).where(noun.table.c.id == identity))
    if row is None:
        raise not_found(noun.error, noun.title, identity)
    return {noun.name: noun.render(call, [row])[0]}


def _cut(call: Call, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = {v for k, v in call.query_pairs if k == "fields" and v}
    if not wanted:
        return items
    return [{k: v for k, v in item.items() if k in wanted} for item in items]


def index(call: Call, noun: Noun) -> dict[str, Any]:
    """GET of the list: 200. Filters by every attribute, OR within one, AND between them."""
    if noun.before_list:
        noun.before_list(call)
    asked: dict[str, list[str]] = {}
    for name, value in call.query_pairs:
        asked.setdefault(name, []).append(value)
    statement = visible(call, noun)
    for name, values in asked.items():
        if name in noun.filters:
            statement = statement.where(noun.filters[name](call, values))
        elif noun.taggable and name in _TAGS:
            statement = statement.where(tags.clause(noun.table.c.id, name, values))
        elif name not in _PAGING:
            raise BadRequest(f"['{name}'] is invalid attribute for filtering", type="HTTPBadRequest")
    limit = _limit(asked)
    reverse = as_bool(asked.get("page_reverse", ["False"])[-1])
    keys = sort_keys(noun.sorts, asked.get("sort_key", []), asked.get("sort_dir", []), [])
    marker = find(call, noun, asked["marker"][-1]) if asked.get("marker", [""])[-1] else None
    rows = page(call.tx, statement, keys, noun.table.c.id, limit, marker, reverse)
    items = noun.render(call, rows)
    reply: dict[str, Any] = {noun.plural: _cut(call, items)}
    if limit is not None:
        reply[f"{noun.plural}_links"] = _links(call, [row.id for row in rows], limit, reverse)
    return reply


def _limit(asked: Mapping[str, list[str]]) -> int | None:
    value = asked.get("limit", ["0"])[-1]
    if not re.fullmatch(r"\d{1,9}", value):
        raise BadRequest("Limit must be an integer 0 or greater.")
    return int(value) or None


def _links(call: Call, ids: Sequence[str], limit: int, reverse: bool) -> list[dict[str, str]]:
    if not ids:
        return []
    kept = [(k, v) for k, v in call.query_pairs if k not in ("marker", "page_reverse")]
    here = f"{call.url}{call.path}"
    links = []
    if reverse or len(ids) == limit:
        links.append({"rel": "next", "href": f"{here}?{urlencode([*kept, ('marker', ids[-1])])}"})
    if not reverse or len(ids) == limit:
        back = [*kept, ("marker", ids[0]), ("page_reverse", "True")]
        links.append({"rel": "previous", "href": f"{here}?{urlencode(back)}"})
    return links


def create_all(call: Call, noun: Noun, make: Callable[[Call, Any], str]) -> dict[str, Any]:
    """POST: one or many, all or none; 201."""
    one, many = getattr(call.body, noun.name), getattr(call.body, noun.plural)
    if (one is UNSET) == (many is UNSET):
        raise BadRequest(f"The body must hold either '{noun.name}' or '{noun.plural}'.")
    if one is not UNSET:
        return shown(call, noun, make(call, one))
    ids = [make(call, new) for new in many]
    rows = {row.id: row for row in call.tx.all(sa.select(noun.table).where(noun.table.c.id.in_(ids)))}
    return {noun.plural: noun.render(call, [rows[i] for i in ids])}


def owner(call: Call, new: Any, rule: str, **target: Any) -> str:
    """The project of a new resource; naming another than the token's needs the policy's leave."""
    named = new.project_id if new.project_id is not UNSET else new.tenant_id
    if named is not UNSET and new.tenant_id is not UNSET and new.tenant_id != named:
        raise BadRequest("'project_id' and 'tenant_id' do not match; send one of them.")
    project_id: str | None = named if named is not UNSET and named else call.context.project_id
    if not project_id:
        raise BadRequest("The token has no project; name one with 'project_id', or use a token scoped to a project.")
    if project_id != call.context.project_id and not is_admin(call):
        raise BadRequest(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires "
            "admin privileges"
        )
    call.enforce(rule, project_id=project_id, **target)
    return project_id


def enforce_attributes(call: Call, rule: str, sent: msgspec.Struct, **target: Any) -> None:
    """Attributes that have a policy rule of their own, `RULE:ATTRIBUTE`. Raises Forbidden."""
    updating = rule.startswith("update")
    for name, wire in zip(sent.__struct_fields__, sent.__struct_encode_fields__, strict=True):
        full = f"{rule}:{wire}"
        if full not in call.cloud.policy.text:
            continue
        value = getattr(sent, name)
        if value is UNSET or (not updating and (value in _HARMLESS and wire != "port_security_enabled")):
            continue
        if not value and not updating and isinstance(value, list | dict):
            continue
        call.enforce(full, **target)


def given(sent: msgspec.Struct, *skip: str) -> dict[str, Any]:
    """What was sent, by attribute of the struct, but for `skip`."""
    return {
        name: value for name in sent.__struct_fields__
        if name not in skip and (value := getattr(sent, name)) is not UNSET
    }


def base(call: Call, project_id: str, description: str | None) -> dict[str, Any]:
    """The columns that every new row has."""
    return {
        "id": call.cloud.world.uuid(), "project_id": project_id, "description": description or "",
        "created": call.now, "updated": call.now, "revision": 0,
    }


def update(call: Call, table: sa.Table, identity: str, values: Mapping[str, Any]) -> None:
    """Change columns of a row, and count the change."""
    call.tx.execute(
        table.update().where(table.c.id == identity).values(
            **values, updated=call.now, revision=table.c.revision + 1
        )
    )
