"""Volumes as a room of the cloud."""

from pileus.cloud import Room
from pileus.volume.faults import render
from pileus.volume.policy import RULES
from pileus.volume.reconcile import reconcile
from pileus.volume.results import RESULTS
from pileus.volume.room_rest import JOBS, PERIODIC, REST_RESULTS, bootstrap
from pileus.volume.routes import ROUTES
from pileus.volume.versions import MICROVERSIONS
from pileus.web.routes import Service
from pileus.work.periodic import Periodic

ROOM = Room(
    service=Service(
        name="volume", catalog_type="block-storage", catalog_path="/v3", routes=ROUTES, faults=render, rules=RULES,
        microversions=MICROVERSIONS, classic_port=8776, catalog_aliases=("volumev3",),
        description="Volumes, their snapshots, backups and attachments",
    ),
    bootstrap=bootstrap,
    results={**RESULTS, **REST_RESULTS},
    jobs=JOBS,
    periodic=(Periodic("volume.reconcile", 15.0, reconcile), *PERIODIC),
)
