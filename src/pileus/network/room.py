"""The network service as a room of the cloud."""

from pileus.cloud import Room
from pileus.network.bootstrap import bootstrap
from pileus.network.faults import render
from pileus.network.moving import EVERY, place
from pileus.network.policy import RULES
from pileus.network.routes import ROUTES
from pileus.web.routes import Service
from pileus.work.periodic import Periodic

ROOM = Room(
    service=Service(
        name="network", catalog_type="network", catalog_path="", routes=ROUTES, faults=render, rules=RULES,
        classic_port=9696, description="Networks, subnets, ports, routers, floating IPs and security groups",
    ),
    bootstrap=bootstrap,
    periodic=(Periodic("network.place", EVERY, place),),
)
