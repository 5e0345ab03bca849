"""Imports: staged content, or content from a URL, made the image's by a durable task."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.image import copies, data, fetching, images, store
from pileus.image.editing import METHODS, allowed
from pileus.image.tables import image, image_task
from pileus.image.views import TASK
from pileus.web.body import Chunks
from pileus.web.call import Call
from pileus.web.errors import BadRequest, Conflict, NotFound, Unavailable
from pileus.work import tasks

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.image.schemas import ImportBody
    from pileus.node.contract import Task, TaskResult

KIND = "image.import"
_TIMEOUT = 6 * 3600.0
_PATIENT_ATTEMPTS = 50
"""For so many, about ten minutes, an import waits for the controller on which its content is staged."""


class Arguments(msgspec.Struct, frozen=True):
    """What the task is told."""

    image_id: str
    method: str
    uri: str
    back: str  # the status that the image goes back to when it fails


async def create(call: Call) -> None:
    """POST /v2/images/{image_id}/import: 202."""
    body: ImportBody = call.body
    method = body.method
    if method.name not in METHODS:
        raise BadRequest(f"Unknown import method name '{method.name}'; there are {', '.join(METHODS)}.")
    if body.stores:
        raise Conflict("There is one store only, and it has no name: leave out 'stores'.")
    if method.name == "web-download":
        if not method.uri:
            raise BadRequest("The import method web-download needs a 'uri'.")
        private = call.cloud.settings.import_allow_private
        await asyncio.get_running_loop().run_in_executor(
            store.pool(call.cloud), fetching.check, method.uri, private
        )

    def write() -> None:
        _write(call, body)

    await call.run(write)


def _write(call: Call, body: ImportBody) -> None:
    found = allowed(call, call.params["image_id"], "modify_image")
    direct = body.method.name == "glance-direct"
    needed = "uploading" if direct else "queued"
    if found.status != needed or found.transfer:
        raise Conflict(
            f"Image is {found.status}; the method '{body.method.name}' takes an image that is "
            + ("staged and waits" if direct else "queued") + "."
        )
    for name in ("container_format", "disk_format"):
        if getattr(found, name) is None:
            raise Conflict(f"'{name}' needs to be set before import")
    call.tx.execute(
        image.update().where(image.c.id == found.id).values(status="importing", updated_at=call.now)
    )
    arguments = Arguments(found.id, body.method.name, body.method.uri or "", "queued")
    task_id = tasks.enqueue(
        call.tx, call.cloud, KIND, resource=found.id, arguments=arguments, request_id=call.request_id,
        timeout=_TIMEOUT,
    )
    call.tx.execute(image_task.insert().values(
        id=task_id, image_id=found.id, owner=found.owner, user_id=call.context.user_id, request_id=call.request_id,
        status="pending", message="", created_at=call.now, updated_at=call.now,
        input={"image_id": found.id, "import_req": msgspec.to_builtins(body), "backend": [None]},
    ))


async def run(cloud: Cloud, task: Task) -> None:
    """Do an import; it may be run again after a crash, from the beginning."""
    arguments = msgspec.json.decode(task.arguments, type=Arguments)

    def start(tx: Tx) -> data.Transfer | None:
        _note(tx, cloud, task.id, "processing", "")
        found = images.info(tx, arguments.image_id)
        if found is None:
            raise NotFound(f"Image {arguments.image_id} was deleted.")
        if found.status == "active":
            return None  # this task did it, and was cut off before it could say so
        return data.begin(tx, cloud, found, "importing", ("importing",))

    moving = await cloud.db.run(start)
    if moving is None:
        return
    path: Path | None = None
    staged = store.staged_path(cloud, arguments.image_id)
    try:
        if arguments.method == "web-download":
            receipt, path = await data.receive(cloud, moving, Chunks(fetching.fetch(cloud, arguments.uri)))
        elif (holder := await _holder(cloud, task, arguments.image_id)) != cloud.controller:
            far = copies.from_peer(cloud, holder, arguments.image_id, "staged")
            receipt, path = await data.receive(cloud, moving, Chunks(far))
        else:
            path = staged
            receipt = await store.take_in(cloud, Chunks(store.read_file(cloud, path)), None, data.keeper(cloud, moving))
        await data.finish(cloud, moving, receipt, path)
    except BaseException:
        if path is not None and path != staged:
            store.discard(cloud, path)
        await asyncio.shield(cloud.db.run(lambda tx: data.put_back(tx, cloud, moving)))
        raise


async def _holder(cloud: Cloud, task: Task, image_id: str) -> str:
    """Where the staged content is. Raises Unavailable while that controller is away, NotFound in the end."""
    name, lives = await cloud.db.run(lambda tx: copies.staged_at(tx, cloud, image_id), write=False)
    if name is not None and lives:
        return name
    if name is not None and task.attempt < _PATIENT_ATTEMPTS:
        raise Unavailable(f"The staged content of image {image_id} is on controller {name}, which does not answer.")
    raise NotFound(
        f"The staged content of image {image_id} is lost: it was on {name or 'a controller'}, which has been away for "
        "long. Stage it again."
    )


def done(tx: Tx, cloud: Cloud, task: Task, result: TaskResult) -> None:
    """The end of an import: a failed one leaves the image queued, without its staged content."""
    arguments = msgspec.json.decode(task.arguments, type=Arguments)
    _note(tx, cloud, task.id, "success" if result.ok else "failure", result.error)
    if result.ok:
        return
    failed = sa.and_(image.c.id == arguments.image_id, image.c.status == "importing")
    tx.execute(image.update().where(failed).values(
        status=arguments.back, transfer="", transfer_lease=0.0, updated_at=cloud.world.now()
    ))
    copies.forget(tx, cloud, arguments.image_id, ("staged",))


def _note(tx: Tx, cloud: Cloud, task_id: str, status: str, message: str) -> None:
    tx.execute(
        image_task.update().where(image_task.c.id == task_id)
        .values(status=status, message=message, updated_at=cloud.world.now())
    )


# -- the tasks API, read only


def index(call: Call) -> dict[str, Any]:
    """GET /v2/tasks: 200."""
    rows = call.tx.all(sa.select(image_task).order_by(image_task.c.created_at.desc(), image_task.c.id).limit(1000))
    return {"tasks": TASK.render_all(rows), "first": "/v2/tasks", "schema": "/v2/schemas/tasks"}


def show(call: Call) -> dict[str, Any]:
    """GET /v2/tasks/{task_id}: 200."""
    row = call.tx.first(sa.select(image_task).where(image_task.c.id == call.params["task_id"]))
    if row is None:
        raise NotFound(f"Failed to find task {call.params['task_id']}.")
    return TASK.render(row)


def of_image(call: Call) -> dict[str, Any]:
    """GET /v2/images/{image_id}/tasks: 200."""
    found = allowed(call, call.params["image_id"], "get_image")
    of = sa.select(image_task).where(image_task.c.image_id == found.id)
    return {"tasks": TASK.render_all(call.tx.all(of.order_by(image_task.c.created_at)))}
