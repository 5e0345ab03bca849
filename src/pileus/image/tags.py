"""Tags of an image."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.image.attributes import check_tags
from pileus.image.editing import allowed
from pileus.image.tables import image, image_tag
from pileus.web.call import Call
from pileus.web.errors import NotFound


def create(call: Call) -> None:
    """PUT /v2/images/{image_id}/tags/{tag}: 204, also for a tag that is there."""
    found = allowed(call, call.params["image_id"], "modify_image")
    tag = call.params["tag"]
    check_tags([*found.tags, tag])
    if tag in found.tags:
        return
    try:
        with call.tx.savepoint():
            call.tx.execute(image_tag.insert().values(image_id=found.id, value=tag))
    except sa.exc.IntegrityError:  # another request made it at the same moment
        return
    call.tx.execute(image.update().where(image.c.id == found.id).values(updated_at=call.now))


def delete(call: Call) -> None:
    """DELETE /v2/images/{image_id}/tags/{tag}: 204."""
    found = allowed(call, call.params["image_id"], "modify_image")
    tag = call.params["tag"]
    if tag not in found.tags:
        raise NotFound(f"Image {found.id} has no tag '{tag}'.")
    call.tx.execute(image_tag.delete().where(image_tag.c.image_id == found.id, image_tag.c.value == tag))
    call.tx.execute(image.update().where(image.c.id == found.id).values(updated_at=call.now))
