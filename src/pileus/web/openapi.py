"""The OpenAPI 3.1 document that the route tables give, one per service."""

from __future__ import annotations

from typing import Any

import msgspec

from pileus.web.routes import AUTHENTICATED, PUBLIC, Route, Service
from pileus.web.versions import text

_REF = "#/components/schemas/{name}"


def document(service: Service) -> dict[str, Any]:
    """A service's document; paths begin with its prefix."""
    kinds = list({id(k): k for r in service.routes for k in (r.body, r.query) if k is not None}.values())
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in service.routes:
        path = (service.prefix + route.path).replace("*}", "}").rstrip("/") or service.prefix
        entry = paths.setdefault(path, {})
        entry.setdefault(route.method.lower(), _operation(service, route, by_kind, components))
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Pileus {service.name}", "version": "1", "description": service.description},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
        },
    }


def _operation(
    service: Service, route: Route, by_kind: dict[int, Any], components: dict[str, Any]
) -> dict[str, Any]:
    summary = (route.handler.__doc__ or "").strip().split("\n")[0]
    operation: dict[str, Any] = {
        "operationId": f"{service.name}.{route.method.lower()}{route.path}".replace("/", "."),
        "summary": summary,
        "responses": {str(route.status): {"description": "Success"}, "default": {"description": "A fault"}},
        "parameters": [
            {"name": part[1:-1].removesuffix("*"), "in": "path", "required": True, "schema": {"type": "string"}}
            for part in route.path.split("/")
            if part.startswith("{")
        ],
        "x-policy": route.policy,
    }
    if route.policy != PUBLIC:
        operation["security"] = [{"token": []}]
    if route.policy == AUTHENTICATED:
        operation["description"] = "Any valid token; decided per object."
    if service.microversions:
        operation["x-openstack-min-version"] = text(max(route.since, service.microversions.lowest))
    if route.query is not None:
        operation["parameters"] += _query(by_kind[id(route.query)], components)
    if route.body is not None:
        content = {media: {"schema": by_kind[id(route.body)]} for media in route.media}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.raw:
        operation["requestBody"] = {"content": {media: {} for media in route.media}}
    return operation


def _query(schema: Any, components: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in schema:
        schema = components[schema["$ref"].rsplit("/", 1)[1]]
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        for name, kind in schema.get("properties", {}).items()
    ]


def document_of_all() -> dict[str, Any]:
    """Every room's document, by service name."""
    import importlib

    from pileus.cloud import ROOMS, has_module

    rooms = [importlib.import_module(f"pileus.{n}.room").ROOM for n in ROOMS if has_module(f"pileus.{n}.room")]
    return {room.service.name: document(room.service) for room in rooms}
