"""A cloud with two fake nodes that keep volumes, and volumes as a user has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.controller import LocalNodes
from pileus.settings import Settings
from tests.api.compute.guests import several_nodes
from tests.api.compute.people import Person, join
from tests.api.conftest import PASSWORD, Client
from tests.api.volume.bench import Volumes


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Cloud]:
    """A fresh cloud in which nothing takes longer than three seconds."""
    state: Path = tmp_path_factory.mktemp("cloud")
    cloud = Cloud(Settings(
        state_dir=str(state), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        listen="cloud.test:80", public_url="http://cloud.test", database=database_url, build_timeout=3.0,
    ))
    cloud.open()
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def nodes(cloud: Cloud, loop: asyncio.AbstractEventLoop) -> Iterator[LocalNodes]:
    with several_nodes(cloud, loop, 2) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def operator(admin: Client, nodes: LocalNodes) -> Volumes:
    """The administrator's volumes."""
    return Volumes(admin)


@pytest.fixture
def person(cloud: Cloud, anonymous: Client, nodes: LocalNodes) -> Person:
    """A member of a project of his own."""
    return join(cloud, anonymous)


@pytest.fixture
def volumes(person: Person) -> Volumes:
    """The volumes of a project that has none yet."""
    return Volumes(person.client)
