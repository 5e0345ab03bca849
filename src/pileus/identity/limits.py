"""Limits: what a project or domain has instead of the registered default. The model is flat: each stands alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec import UNSET

from pileus.identity import domains, listing, projects, registered_limits
from pileus.identity.schemas_limits import LimitChange, LimitNew
from pileus.identity.tables import limit, project, registered_limit
from pileus.identity.views import collection, links
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound

if TYPE_CHECKING:
    from pileus.db.engine import Tx

_ROWS = sa.select(
    limit, registered_limit.c.service_id, registered_limit.c.region_id, registered_limit.c.resource_name,
    project.c.domain_id.label("project_domain_id"),
).join(registered_limit, registered_limit.c.id == limit.c.registered_limit_id).outerjoin(
    project, project.c.id == limit.c.project_id
)


def get(tx: Tx, limit_id: str) -> Any:
    """The row of a limit, with its resource's names. Raises NotFound."""
    row = tx.first(_ROWS.where(limit.c.id == limit_id))
    if row is None:
        raise NotFound(f"Could not find limit for {limit_id}.")
    return row


def _view(call: Call, row: Any) -> dict[str, Any]:
    return {
        "id": row.id, "project_id": row.project_id, "domain_id": row.domain_id, "service_id": row.service_id,
        "region_id": row.region_id or None, "resource_name": row.resource_name, "resource_limit": row.resource_limit,
        "description": row.description, "links": links(call, "limits", row.id),
    }


def model(call: Call) -> dict[str, Any]:
    """GET /v3/limits/model: 200."""
    text = "Limit enforcement and validation does not take project hierarchy into consideration."
    return {"model": {"name": "flat", "description": text}, "links": links(call, "limits", "model")}


def create(call: Call) -> dict[str, Any]:
    """POST /v3/limits: 201, all or none."""
    call.enforce("identity:create_limits")
    return {"limits": [_create(call, new) for new in call.body.limits]}


def _create(call: Call, new: LimitNew) -> dict[str, Any]:
    if (new.project_id is None) == (new.domain_id is None):
        raise BadRequest("A limit is for a project or for a domain: give one of project_id and domain_id.")
    try:
        if new.project_id is not None:
            projects.get(call.tx, new.project_id)
        else:
            domains.get(call.tx, new.domain_id or "")
    except NotFound as problem:
        raise BadRequest(problem.message) from None
    base = registered_limits.find(call.tx, new.service_id, new.region_id, new.resource_name)
    if base is None:
        raise BadRequest(f"No registered limit of {new.resource_name} exists for this service and region; make it "
                         "first.")
    here = sa.and_(
        limit.c.registered_limit_id == base.id,
        limit.c.project_id == new.project_id if new.project_id is not None else limit.c.domain_id == new.domain_id,
    )
    if call.tx.first(sa.select(limit.c.id).where(here)) is not None:
        raise Conflict(f"There is a limit of {new.resource_name} for this project or domain already.")
    made = call.cloud.world.hex_id()
    call.tx.execute(limit.insert().values(
        id=made, registered_limit_id=base.id, project_id=new.project_id, domain_id=new.domain_id,
        resource_limit=new.resource_limit, description=new.description,
    ))
    return _view(call, get(call.tx, made))


def index(call: Call) -> dict[str, Any]:
    """GET /v3/limits: 200; administrators, services and system readers see all, others what their scope holds."""
    statement, context = _ROWS, call.context
    if not (context.system or {"admin", "service"} & set(context.roles)):
        if context.domain_id:
            inside = sa.or_(limit.c.domain_id == context.domain_id, project.c.domain_id == context.domain_id)
            statement = statement.where(inside)
        else:
            statement = statement.where(limit.c.project_id == context.project_id)
    filters = {
        "service_id": registered_limit.c.service_id, "region_id": registered_limit.c.region_id,
        "resource_name": registered_limit.c.resource_name, "project_id": limit.c.project_id,
        "domain_id": limit.c.domain_id,
    }
    page = listing.find(call, limit, filters, statement)
    return collection(call, "limits", [_view(call, row) for row in page.rows], page.next)


def show(call: Call) -> dict[str, Any]:
    """GET /v3/limits/{limit_id}: 200."""
    row = call.tx.first(_ROWS.where(limit.c.id == call.params["limit_id"]))
    found = {} if row is None else {
        "target.limit.project_id": row.project_id, "target.limit.domain.id": row.domain_id,
        "target.limit.project.domain_id": row.project_domain_id,
    }
    call.enforce("identity:get_limit", **{name: value for name, value in found.items() if value})
    return {"limit": _view(call, get(call.tx, call.params["limit_id"]))}


def update(call: Call) -> dict[str, Any]:
    """PATCH /v3/limits/{limit_id}: 200."""
    call.enforce("identity:update_limit")
    row = get(call.tx, call.params["limit_id"])
    change: LimitChange = call.body.limit
    values = {
        name: getattr(change, name) for name in ("resource_limit", "description") if getattr(change, name) is not UNSET
    }
    if values:
        call.tx.execute(limit.update().where(limit.c.id == row.id).values(**values))
    return {"limit": _view(call, get(call.tx, row.id))}


def delete(call: Call) -> None:
    """DELETE /v3/limits/{limit_id}: 204."""
    call.enforce("identity:delete_limit")
    row = get(call.tx, call.params["limit_id"])
    call.tx.execute(limit.delete().where(limit.c.id == row.id))
