"""A cloud whose fake node works, with an external network, an image, and two projects."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from pileus.cloud import Cloud
from tests.api.compute.guests import make_image, working_nodes
from tests.api.conftest import Client
from tests.api.ec2.aws import V20, Person, make_network, make_person


@pytest.fixture(scope="module")
def place(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[Cloud]:
    """The cloud at work."""
    with working_nodes(cloud, loop):
        yield cloud


@pytest.fixture(scope="module")
def external(place: Cloud, admin: Client) -> str:
    body = {"network": {"name": "public", "router:external": True}}
    network: str = admin.post(f"{V20}/networks", body).json()["network"]["id"]
    admin.post(f"{V20}/subnets", {"subnet": {
        "network_id": network, "cidr": "203.0.113.0/24", "ip_version": 4, "enable_dhcp": False,
    }})
    return network


@pytest.fixture(scope="module")
def alice(place: Cloud, admin: Client, external: str) -> Person:
    """A member whose project has a network, behind a router."""
    person = make_person(admin, "alice")
    subnet = make_network(person)
    router = person.client.post(
        f"{V20}/routers", {"router": {"name": "r", "external_gateway_info": {"network_id": external}}}
    ).json()["router"]["id"]
    joined = person.client.put(f"{V20}/routers/{router}/add_router_interface", {"subnet_id": subnet})
    assert joined.status_code == 200, joined.text
    quota = {"quota_set": {"instances": 100, "cores": -1, "ram": -1}}
    assert admin.put(f"/compute/v2.1/os-quota-sets/{person.project}", quota).status_code == 200
    return person


@pytest.fixture(scope="module")
def bob(place: Cloud, admin: Client) -> Person:
    """A member of another project."""
    person = make_person(admin, "bob")
    make_network(person)
    return person


@pytest.fixture(scope="module")
def image(place: Cloud) -> str:
    """The id of a public image, as EC2 writes it."""
    return "ami-" + make_image(place).replace("-", "")
