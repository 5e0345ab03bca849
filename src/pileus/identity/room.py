"""Identity as a room of the cloud."""

from pileus.cloud import Room
from pileus.identity import registration
from pileus.identity.bootstrap import bootstrap
from pileus.identity.faults import render
from pileus.identity.policy import RULES
from pileus.identity.routes import ROUTES
from pileus.web.routes import Service

ROOM = Room(
    service=Service(
        name="identity", catalog_type="identity", catalog_path="", routes=ROUTES, faults=render, rules=RULES,
        classic_port=5000, description="Users, projects, roles, tokens and the catalog",
    ),
    bootstrap=bootstrap,
    background=(registration.keep,),
)
