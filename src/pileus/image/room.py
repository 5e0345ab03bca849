"""Image as a room of the cloud."""

from pileus.cloud import Room
from pileus.image import imports, repair, replicate
from pileus.image.faults import render
from pileus.image.policy import RULES
from pileus.image.routes import ROUTES
from pileus.web.routes import Service
from pileus.work.periodic import Periodic

ROOM = Room(
    service=Service(
        name="image", catalog_type="image", catalog_path="", routes=ROUTES, faults=render, rules=RULES,
        classic_port=9292, description="Disk images that servers boot from",
    ),
    bootstrap=repair.at_start,
    results={imports.KIND: imports.done},
    jobs={imports.KIND: imports.run},
    periodic=(Periodic("image.repair", 30.0, repair.expired),),
    background=(replicate.run,),
)
