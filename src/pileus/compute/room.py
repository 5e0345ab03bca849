"""Compute as a room of the cloud."""

from pileus.cloud import Room
from pileus.compute import drain, ha
from pileus.compute.backups import ROTATE, rotate
from pileus.compute.bootstrap import bootstrap_rest
from pileus.compute.faults import render
from pileus.compute.policy import RULES
from pileus.compute.purge import purge
from pileus.compute.reconcile import reconcile
from pileus.compute.results import JOBS, RESULTS
from pileus.compute.routes import ROUTES
from pileus.compute.versions import MICROVERSIONS
from pileus.web.routes import Service
from pileus.work.periodic import Periodic

ROOM = Room(
    service=Service(
        name="compute", catalog_type="compute", catalog_path="/v2.1", routes=ROUTES, faults=render, rules=RULES,
        microversions=MICROVERSIONS, unversioned=frozenset({"v2"}), classic_port=8774,
        description="Servers, flavors, keypairs and nodes",
    ),
    bootstrap=bootstrap_rest,
    results=RESULTS,
    jobs={ROTATE: rotate, **JOBS},
    periodic=(
        Periodic("compute.reconcile", 15.0, reconcile),
        Periodic("compute.purge", 60.0, purge),
        Periodic("compute.outages", ha.WATCH, ha.watch),
        Periodic("compute.drain", 5.0, drain.work),
    ),
)
