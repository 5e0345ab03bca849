"""Members: the projects that an image is shared with, and what they said to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.image.images import ImageInfo, get_visible, target
from pileus.image.tables import image_member
from pileus.image.views import MEMBER
from pileus.web.call import Call
from pileus.web.errors import Conflict, Forbidden, NotFound, TooLarge

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

MOST_MEMBERS = 128


def index(call: Call) -> dict[str, Any]:
    """GET /v2/images/{image_id}/members: 200. The owner sees all, a member itself."""
    found = _shared(call)
    call.enforce("get_members", **target(found, call.context.project_id))
    statement = sa.select(image_member).where(image_member.c.image_id == found.id).order_by(image_member.c.member_id)
    if not _owns(call, found):
        statement = statement.where(image_member.c.member_id == call.context.project_id)
    return {"members": MEMBER.render_all(call.tx.all(statement)), "schema": "/v2/schemas/members"}


def show(call: Call) -> dict[str, Any]:
    """GET /v2/images/{image_id}/members/{member_id}: 200."""
    return MEMBER.render(_need(call, _shared(call)))


def create(call: Call) -> dict[str, Any]:
    """POST /v2/images/{image_id}/members: 200."""
    found = _shared(call)
    call.enforce("add_member", **target(found))
    count = sa.select(sa.func.count()).select_from(image_member).where(image_member.c.image_id == found.id)
    if call.tx.scalar(count) >= MOST_MEMBERS:
        raise TooLarge(f"Image member limit exceeded for image {found.id}: at most {MOST_MEMBERS}.")
    try:
        with call.tx.savepoint():
            call.tx.execute(image_member.insert().values(
                image_id=found.id, member_id=call.body.member, status="pending", created_at=call.now,
                updated_at=call.now,
            ))
    except sa.exc.IntegrityError:
        raise Conflict(f"Member {call.body.member} is duplicated for image {found.id}") from None
    row = _row(call, found.id, call.body.member)
    assert row is not None  # it was just made
    return MEMBER.render(row)


def update(call: Call) -> dict[str, Any]:
    """PUT /v2/images/{image_id}/members/{member_id}: 200. Only the member itself says what it thinks."""
    found = _shared(call)
    row = _need(call, found)
    if _owns(call, found) and not call.context.is_admin:
        raise Forbidden(f"Not allowed to update members for image {found.id}.")
    call.enforce("modify_member", **target(found, row.member_id))
    call.tx.execute(
        image_member.update().where(image_member.c.image_id == found.id, image_member.c.member_id == row.member_id)
        .values(status=call.body.status, updated_at=call.now)
    )
    return MEMBER.render(_need(call, found))


def delete(call: Call) -> None:
    """DELETE /v2/images/{image_id}/members/{member_id}: 204."""
    found = _shared(call)
    call.enforce("delete_member", **target(found))
    row = _need(call, found)
    call.tx.execute(
        image_member.delete().where(image_member.c.image_id == found.id, image_member.c.member_id == row.member_id)
    )


def _shared(call: Call) -> ImageInfo:
    found = get_visible(call.tx, call.context, call.params["image_id"])
    if found.visibility != "shared":
        raise Forbidden("Only shared images have members.")
    return found


def _owns(call: Call, found: ImageInfo) -> bool:
    return call.context.is_admin or found.owner == call.context.project_id


def _row(call: Call, image_id: str, member_id: str) -> Row[Any] | None:
    return call.tx.first(
        sa.select(image_member).where(image_member.c.image_id == image_id, image_member.c.member_id == member_id)
    )


def _need(call: Call, found: ImageInfo) -> Row[Any]:
    """The member that the path names, if the caller may know of it. Raises NotFound."""
    member_id = call.params["member_id"]
    row = _row(call, found.id, member_id)
    if row is None or not (_owns(call, found) or call.context.project_id == member_id):
        raise NotFound(f"{member_id} not found in the member list of the image {found.id}.")
    return row
