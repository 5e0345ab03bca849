"""Request bodies of image. An image's own are open: attributes.py says what may be in them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from pileus.web.schemas import Body, OpenBody


class MemberNew(Body):
    member: Annotated[str, Meta(min_length=1, max_length=255)]


class MemberChange(OpenBody):
    status: Literal["pending", "accepted", "rejected"]


class ImportMethod(OpenBody):
    name: Annotated[str, Meta(max_length=64)]
    uri: Annotated[str, Meta(max_length=2048)] | None = None


class ImportBody(OpenBody):
    method: ImportMethod
    stores: list[str] = []
    all_stores: bool = False
    all_stores_must_succeed: bool = True


ImageBody = dict[str, Any]
PatchBody = Any
