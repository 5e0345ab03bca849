"""The EC2 API as a room of the cloud. It has no rules of its own: those of compute, network and image decide."""

from pileus.cloud import Room
from pileus.ec2.faults import render
from pileus.ec2.routes import ROUTES
from pileus.ec2.sweep import sweep
from pileus.web.routes import Service
from pileus.work.periodic import Periodic

ROOM = Room(
    service=Service(
        name="ec2", catalog_type="ec2", catalog_path="/services/Cloud", routes=ROUTES, faults=render, rules={},
        classic_port=8773, description="Servers and what belongs to them, as Amazon's tools ask for them",
    ),
    periodic=(Periodic("ec2.sweep", 600.0, sweep),),
)
