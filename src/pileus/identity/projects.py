"""Projects: what resources belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import assignments, claims
from pileus.identity.schemas import ProjectChange, ProjectNew, ProjectQuery, TagsBody, split_extra
from pileus.identity.tables import application_credential, assignment, domain, project, project_tag, user
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
    call.enforce("identity:create_project", domain_id=domain_id)
    found = id_by_name(call.tx, domain_id, new.name)
    if found is not None:
        raise Conflict(f"It is not permitted to have two projects with the same name in the same domain: {new.name}.")
    row = {
        "id": call.cloud.world.hex_id(), "name": new.name, "domain_id": domain_id, "parent_id": parent_id,
        "description": new.description or "", "enabled": new.enabled, "options": new.options, "extra": extra,
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


def index(call: Call) -> dict[str, Any]:
    """GET /v3/projects: 200."""
    query: ProjectQuery = call.query
    call.enforce("identity:list_projects", domain_id=query.domain_id or call.context.domain_id)
    statement = sa.select(project)
    if call.context.domain_id and not call.allows("admin_required"):
        statement = statement.where(project.c.domain_id == call.context.domain_id)
    if query.domain_id is not None:
        statement = statement.where(project.c.domain_id == query.domain_id)
    if query.parent_id is not None:
        top = sa.and_(project.c.parent_id.is_(None), project.c.domain_id == query.parent_id)
        statement = statement.where(sa.or_(project.c.parent_id == query.parent_id, top))
    if query.name is not None:
        statement = statement.where(project.c.name == query.name)
    if query.enabled is not None:
        statement = statement.where(project.c.enabled.is_(as_bool(query.enabled)))
    if query.is_domain is not None and as_bool(query.is_domain):
        statement = statement.where(sa.false())
    statement = _by_tags(statement, query)
    rows = call.tx.all(statement.order_by(project.c.name, project.c.id))
    tags = tags_of(call.tx, [row.id for row in rows])
    return collection(call, "projects", [project_view(call, row, tags[row.id]) for row in rows])


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
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:get_project", project_id=row.id, domain_id=row.domain_id)
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
        view["subtree"] = [{"project": project_view(call, p, [])} for p in _below(call.tx, row.id)]
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


def _below(tx: Tx, project_id: str) -> list[Any]:
    found = list(tx.all(sa.select(project).where(project.c.parent_id == project_id)))
    for row in list(found):
        found += _below(tx, row.id)
    return found


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/projects/{project_id}: 200."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:update_project", project_id=row.id, domain_id=row.domain_id)
    change, extra = split_extra(ProjectChange, call.body.project)
    if change.domain_id not in (UNSET, row.domain_id):
        raise BadRequest("A project's domain_id cannot be changed.")
    if change.parent_id not in (UNSET, row.parent_id or row.domain_id):
        raise Forbidden("A project's parent_id cannot be changed.")
    if change.is_domain is True:
        raise BadRequest("A project's is_domain cannot be changed.")
    values = {
        name: getattr(change, name)
        for name in ("name", "description", "enabled", "options")
        if getattr(change, name) is not UNSET
    }
    if values.get("name", row.name) != row.name and id_by_name(call.tx, row.domain_id, values["name"]):
        raise Conflict(f"Another project of the domain is named {values['name']}.")
    if values.get("description", "") is None:
        values["description"] = ""
    if extra:
        values["extra"] = {**row.extra, **extra}
    if values:
        call.tx.execute(project.update().where(project.c.id == row.id).values(**values))
        claims.changed(call.tx)
    if change.tags is not UNSET:
        _set_tags(call.tx, row.id, change.tags)
    return {"project": project_view(call, get(call.tx, row.id), tags_of(call.tx, [row.id])[row.id])}


def delete(call: Call) -> None:
    """DELETE /v3/projects/{project_id}: 204."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:delete_project", project_id=row.id, domain_id=row.domain_id)
    if call.tx.first(sa.select(project.c.id).where(project.c.parent_id == row.id)):
        raise Forbidden(f"Project {row.id} has projects below it; delete those first.")
    call.tx.execute(assignment.delete().where(assignment.c.target_kind == "project", assignment.c.target_id == row.id))
    call.tx.execute(application_credential.delete().where(application_credential.c.project_id == row.id))
    call.tx.execute(user.update().where(user.c.default_project_id == row.id).values(default_project_id=None))
    call.tx.execute(project.delete().where(project.c.id == row.id))
    claims.changed(call.tx)


# -- tags


def _set_tags(tx: Tx, project_id: str, tags: Iterable[str]) -> None:
    tx.execute(project_tag.delete().where(project_tag.c.project_id == project_id))
    rows = [{"project_id": project_id, "name": name} for name in sorted(set(tags))]
    if rows:
        tx.execute(project_tag.insert(), rows)


def list_tags(call: Call) -> dict[str, Any]:
    """GET /v3/projects/{project_id}/tags: 200."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:list_project_tags", project_id=row.id, domain_id=row.domain_id)
    return collection(call, "tags", tags_of(call.tx, [row.id])[row.id])  # type: ignore[arg-type]


def replace_tags(call: Call) -> dict[str, Any]:
    """PUT /v3/projects/{project_id}/tags: 200."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:update_project_tags", project_id=row.id, domain_id=row.domain_id)
    body: TagsBody = call.body
    _set_tags(call.tx, row.id, body.tags)
    return collection(call, "tags", tags_of(call.tx, [row.id])[row.id])  # type: ignore[arg-type]


def delete_tags(call: Call) -> None:
    """DELETE /v3/projects/{project_id}/tags: 204."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:delete_project_tags", project_id=row.id, domain_id=row.domain_id)
    _set_tags(call.tx, row.id, ())


def has_tag(call: Call) -> None:
    """GET /v3/projects/{project_id}/tags/{tag}: 204, or 404."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:get_project_tag", project_id=row.id, domain_id=row.domain_id)
    if call.params["tag"] not in tags_of(call.tx, [row.id])[row.id]:
        raise NotFound(f"Project {row.id} has no tag '{call.params['tag']}'.")


def add_tag(call: Call) -> None:
    """PUT /v3/projects/{project_id}/tags/{tag}: 201."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:create_project_tag", project_id=row.id, domain_id=row.domain_id)
    tag = call.params["tag"]
    if "," in tag or "/" in tag or not 1 <= len(tag) <= 255:
        raise BadRequest("A tag has 1 to 255 characters, none of them ',' or '/'.")
    _set_tags(call.tx, row.id, [*tags_of(call.tx, [row.id])[row.id], tag])


def remove_tag(call: Call) -> None:
    """DELETE /v3/projects/{project_id}/tags/{tag}: 204, or 404."""
    row = get(call.tx, call.params["project_id"])
    call.enforce("identity:delete_project_tag", project_id=row.id, domain_id=row.domain_id)
    tags = tags_of(call.tx, [row.id])[row.id]
    if call.params["tag"] not in tags:
        raise NotFound(f"Project {row.id} has no tag '{call.params['tag']}'.")
    _set_tags(call.tx, row.id, [t for t in tags if t != call.params["tag"]])
