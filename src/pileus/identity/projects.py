"""Projects: what resources belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import assignments, claims, listing, options, removal
from pileus.identity.policy import target
from pileus.identity.schemas import ProjectChange, ProjectNew, ProjectQuery, TagsBody, same_id, split_extra
from pileus.identity.tables import domain, project, project_tag
from pileus.identity.views import collection, project_view
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, Forbidden, NotFound
from pileus.web.schemas import as_bool

if TYPE_CHECKING:
    from pileus.db.engine import Tx


# -- for other modules and rooms


def get(tx: Tx, project_id: str) -> Any:
    """The row of a project. Raises NotFound."""
    row = tx.first(sa.select(project).where(project.c.id == project_id))
    if row is None:
        raise NotFound(f"Could not find project: {project_id}.")
    return row


def allowed(call: Call, rule: str) -> Any:
    """The project of the path, if the caller passes the rule. Raises Forbidden before NotFound."""
    row = call.tx.first(sa.select(project).where(project.c.id == call.params["project_id"]))
    call.enforce(rule, **target(project=row))
    return row if row is not None else get(call.tx, call.params["project_id"])


def below(tx: Tx, ids: Iterable[str]) -> list[str]:
    """The ids of all projects under these, one statement per level."""
    found: list[str] = []
    level = list(ids)
    while level:
        level = tx.scalars(sa.select(project.c.id).where(project.c.parent_id.in_(level)).order_by(project.c.id))
        found += level
    return found


def exists(tx: Tx, project_id: str) -> bool:
    """Whether there is such a project; for rooms whose quotas name one."""
    return tx.first(sa.select(project.c.id).where(project.c.id == project_id)) is not None


def tags_of(tx: Tx, ids: Iterable[str]) -> dict[str, list[str]]:
    """The tags of projects, by project id."""
    found: dict[str, list[str]] = {i: [] for i in ids}
    query = sa.select(project_tag).where(project_tag.c.project_id.in_(found)).order_by(project_tag.c.name)
    for row in tx.all(query):
        found[row.project_id].append(row.name)
    return found


# -- handlers


def create(call: Call) -> dict[str, Any]:
    """POST /v3/projects: 201."""
    new, extra = split_extra(ProjectNew, call.body.project)
    if new.is_domain:
        raise BadRequest("A project cannot be made to act as a domain here; use POST /v3/domains.")
    domain_id, parent_id = _place(call, new.domain_id, new.parent_id)
    call.enforce("identity:create_project", **{"target.project.domain_id": domain_id})
    found = id_by_name(call.tx, domain_id, new.name)
    if found is not None:
        raise Conflict(f"It is not permitted to have two projects with the same name in the same domain: {new.name}.")
    row = {
        "id": call.cloud.world.hex_id(), "name": new.name, "domain_id": domain_id, "parent_id": parent_id,
        "description": new.description or "", "enabled": new.enabled,
        "options": options.merge({}, new.options), "extra": extra,
    }
    call.tx.execute(project.insert(), row)
    _set_tags(call.tx, row["id"], new.tags)
    return {"project": project_view(call, get(call.tx, row["id"]), sorted(set(new.tags)))}


def id_by_name(tx: Tx, domain_id: str, name: str) -> str | None:
    """The id of the project of this name."""
    here = sa.and_(project.c.domain_id == domain_id, project.c.name == name)
    found: str | None = tx.scalar(sa.select(project.c.id).where(here))
    return found


def _place(call: Call, domain_id: str | None, parent_id: str | None) -> tuple[str, str | None]:
    """Domain and parent of a new project; the parent's domain wins, the caller's is the default."""
    if parent_id is not None and parent_id != domain_id:
        parent = call.tx.first(sa.select(project).where(project.c.id == parent_id))
        if parent is not None:
            if domain_id not in (None, parent.domain_id):
                raise BadRequest("The parent project is in another domain than domain_id.")
            if not parent.enabled:
                raise Forbidden(f"Cannot create a project in a branch that is disabled: {parent_id}.")
            if len(assignments.parents(call.tx, parent_id)) >= 4:
                raise Forbidden("The project hierarchy is at most five levels deep.")
            return parent.domain_id, parent_id
        domain_id = domain_id or parent_id
    domain_id = domain_id or call.context.domain_id or call.context.project_domain_id or "default"
    row = call.tx.first(sa.select(domain).where(domain.c.id == domain_id))
    if row is None:
        raise BadRequest(f"Could not find domain: {domain_id}.")
    return domain_id, None


_FILTERS: dict[str, sa.ColumnElement[Any]] = {
    "id": project.c.id, "name": project.c.name, "domain_id": project.c.domain_id, "enabled": project.c.enabled,
}


def index(call: Call) -> dict[str, Any]:
    """GET /v3/projects: 200. A domain-scoped token lists its domain's projects only."""
    query: ProjectQuery = call.query
    own = call.context.domain_id
    call.enforce("identity:list_projects", **({"target.domain_id": own} if own else {}))
    statement = sa.select(project)
    if own:
        statement = statement.where(project.c.domain_id == own)
    if query.parent_id is not None:
        top = sa.and_(project.c.parent_id.is_(None), project.c.domain_id == query.parent_id)
        statement = statement.where(sa.or_(project.c.parent_id == query.parent_id, top))
    if query.is_domain is not None and as_bool(query.is_domain):
        statement = statement.where(sa.false())
    page = listing.find(call, project, _FILTERS, _by_tags(statement, query))
    tags = tags_of(call.tx, [row.id for row in page.rows])
    return collection(call, "projects", [project_view(call, row, tags[row.id]) for row in page.rows], page.next)


def _by_tags(statement: sa.Select[Any], query: ProjectQuery) -> sa.Select[Any]:
    def has(name: str) -> sa.ColumnElement[bool]:
        return sa.exists().where(project_tag.c.project_id == project.c.id, project_tag.c.name == name)

    if query.tags:
        statement = statement.where(*(has(t) for t in query.tags.split(",")))
    if query.tags_any:
        statement = statement.where(sa.or_(*(has(t) for t in query.tags_any.split(","))))
    if query.not_tags:
        statement = statement.where(~sa.and_(*(has(t) for t in query.not_tags.split(","))))
    if query.not_tags_any:
        statement = statement.where(~sa.or_(*(has(t) for t in query.not_tags_any.split(","))))
    return statement


def show(call: Call) -> dict[str, Any]:
    """GET /v3/projects/{project_id}: 200; with parents_as_ids, subtree_as_ids, parents_as_list, subtree_as_list."""
    row = allowed(call, "identity:get_project")
    view = project_view(call, row, tags_of(call.tx, [row.id])[row.id])
    asked = {name for name, _ in call.query_pairs}
    if "parents_as_ids" in asked:
        view["parents"] = _parents_as_ids(call.tx, row)
    elif "parents_as_list" in asked:
        above = [get(call.tx, i) for i in assignments.parents(call.tx, row.id)]
        view["parents"] = [{"project": project_view(call, p, [])} for p in above]
    if "subtree_as_ids" in asked:
        view["subtree"] = _subtree_as_ids(call.tx, row.id)
    elif "subtree_as_list" in asked:
        view["subtree"] = [{"project": project_view(call, get(call.tx, i), [])} for i in below(call.tx, [row.id])]
    return {"project": view}


def _parents_as_ids(tx: Tx, row: Any) -> Any:
    tree: Any = None
    chain = [*assignments.parents(tx, row.id), row.domain_id]
    for parent in reversed(chain):
        tree = {parent: tree}
    return tree


def _subtree_as_ids(tx: Tx, project_id: str) -> Any:
    children = tx.scalars(sa.select(project.c.id).where(project.c.parent_id == project_id))
    return {child: _subtree_as_ids(tx, child) for child in children} or None


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/projects/{project_id}: 200. A disabled project voids its tokens at once."""
    row = allowed(call, "identity:update_project")
    same_id(call.body.project, row.id)
    change, extra = split_extra(ProjectChange, call.body.project)
    options.guard_change("project", row, change.options)
    _check_place(call.tx, row, change)
    values: dict[str, Any] = {"extra": {**row.extra, **extra}, "options": options.merge(row.options, change.options)}
    if change.name is not UNSET and change.name != row.name:
        if id_by_name(call.tx, row.domain_id, change.name):
            raise Conflict(f"Another project of the domain is named {change.name}.")
        values["name"] = change.name
    if change.description is not UNSET:
        values["description"] = change.description or ""
    if change.enabled is not UNSET:
        values["enabled"] = change.enabled
    call.tx.execute(project.update().where(project.c.id == row.id).values(**values))
    claims.changed(call.tx)
    if change.tags is not UNSET:
        _set_tags(call.tx, row.id, change.tags)
    return {"project": project_view(call, get(call.tx, row.id), tags_of(call.tx, [row.id])[row.id])}


def _check_place(tx: Tx, row: Any, change: ProjectChange) -> None:
    """Raises BadRequest or Forbidden for what a project's place in the tree does not let it become."""
    if change.domain_id not in (UNSET, row.domain_id):
        raise BadRequest("A project's domain_id cannot be changed.")
    if change.parent_id not in (UNSET, row.parent_id or row.domain_id):
        raise Forbidden("A project's parent_id cannot be changed.")
    if change.is_domain is True:
        raise BadRequest("A project's is_domain cannot be changed.")
    if change.enabled is False and row.enabled:
        inside = below(tx, [row.id])
        if tx.first(sa.select(project.c.id).where(project.c.id.in_(inside), project.c.enabled.is_(True))):
            raise Forbidden(f"Cannot disable project {row.id}: projects below it are enabled; disable those first.")
    if change.enabled is True and not row.enabled and row.parent_id and not get(tx, row.parent_id).enabled:
        raise Forbidden(f"Cannot enable project {row.id}: its parent {row.parent_id} is disabled.")


def delete(call: Call) -> None:
    """DELETE /v3/projects/{project_id}: 204."""
    row = allowed(call, "identity:delete_project")
    options.guard_removal("project", row)
    if call.tx.first(sa.select(project.c.id).where(project.c.parent_id == row.id)):
        raise Forbidden(f"Project {row.id} has projects below it; delete those first.")
    removal.remove_projects(call.tx, [row.id])


# -- tags


def _set_tags(tx: Tx, project_id: str, tags: Iterable[str]) -> None:
    tx.execute(project_tag.delete().where(project_tag.c.project_id == project_id))
    rows = [{"project_id": project_id, "name": name} for name in sorted(set(tags))]
    if rows:
        tx.execute(project_tag.insert(), rows)


def list_tags(call: Call) -> dict[str, Any]:
    """GET /v3/projects/{project_id}/tags: 200."""
    row = allowed(call, "identity:list_project_tags")
    return collection(call, "tags", tags_of(call.tx, [row.id])[row.id])


def replace_tags(call: Call) -> dict[str, Any]:
    """PUT /v3/projects/{project_id}/tags: 200."""
    row = allowed(call, "identity:update_project_tags")
    body: TagsBody = call.body
    _set_tags(call.tx, row.id, body.tags)
    return collection(call, "tags", tags_of(call.tx, [row.id])[row.id])


def delete_tags(call: Call) -> None:
    """DELETE /v3/projects/{project_id}/tags: 204."""
    row = allowed(call, "identity:delete_project_tags")
    _set_tags(call.tx, row.id, ())


def has_tag(call: Call) -> None:
    """GET /v3/projects/{project_id}/tags/{tag}: 204, or 404."""
    row = allowed(call, "identity:get_project_tag")
    if call.params["tag"] not in tags_of(call.tx, [row.id])[row.id]:
        raise NotFound(f"Project {row.id} has no tag '{call.params['tag']}'.")


def add_tag(call: Call) -> None:
    """PUT /v3/projects/{project_id}/tags/{tag}: 201."""
    row = allowed(call, "identity:create_project_tag")
    tag = call.params["tag"]
    if "," in tag or "/" in tag or not 1 <= len(tag) <= 255:
        raise BadRequest("A tag has 1 to 255 characters, none of them ',' or '/'.")
    _set_tags(call.tx, row.id, [*tags_of(call.tx, [row.id])[row.id], tag])


def remove_tag(call: Call) -> None:
    """DELETE /v3/projects/{project_id}/tags/{tag}: 204, or 404."""
    row = allowed(call, "identity:delete_project_tag")
    tags = tags_of(call.tx, [row.id])[row.id]
    if call.params["tag"] not in tags:
        raise NotFound(f"Project {row.id} has no tag '{call.params['tag']}'.")
    _set_tags(call.tx, row.id, [t for t in tags if t != call.params["tag"]])
