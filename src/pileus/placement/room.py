"""Placement as a room of the cloud."""

from pileus.cloud import Room
from pileus.placement.discovery import VERSIONS
from pileus.placement.faults import render
from pileus.placement.policy import RULES
from pileus.placement.routes import ROUTES
from pileus.web.routes import Service

ROOM = Room(
    service=Service(
        name="placement", catalog_type="placement", catalog_path="", routes=ROUTES, faults=render, rules=RULES,
        microversions=VERSIONS, classic_port=8778, description="Resource providers, inventories and allocations",
    ),
)
