"""The external network `public`, which the first start makes where the setting `public_network` names its CIDR."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pileus.db.locks import read_revision
from pileus.identity import projects
from pileus.network import networks, subnets, touch
from pileus.network.schemas import NetworkNew, SubnetNew
from pileus.network.tables import network

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

PHYSICAL = "public"


def bootstrap(tx: Tx, cloud: Cloud) -> None:
    """Make it once: a cloud in which any network has ever been changed is left alone."""
    settings = cloud.settings
    if not settings.public_network or PHYSICAL not in settings.physical_networks:
        return
    owner = projects.id_by_name(tx, "default", "admin")
    if owner is None or read_revision(tx, touch.COUNTER):
        return
    network_id = networks.insert(tx, cloud, owner, NetworkNew(
        name="public", network_type="flat", physical_network=PHYSICAL, external=True, is_default=True,
    ))
    row = tx.first(sa.select(network).where(network.c.id == network_id))
    assert row is not None
    cidr = ipaddress.ip_network(settings.public_network, strict=False)
    gateway = settings.public_gateway or str(cidr.network_address + 1)
    subnets.insert(tx, cloud, row, owner, SubnetNew(
        network_id=network_id, name="public-subnet", ip_version=cidr.version, enable_dhcp=False, gateway_ip=gateway,
    ), cidr)
