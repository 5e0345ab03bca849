"""Two projects with a member each, a reader of the first, and a node that reports what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pileus.cloud import Cloud
from pileus.identity.passwords import hash_password
from pileus.identity.tables import assignment, project, role, user
from pileus.network import wiring
from pileus.node.contract import NetworkReport, NodeNetwork
from pileus.settings import Settings
from tests.api.conftest import PASSWORD, Client

Body = dict[str, Any]


def _person(cloud: Cloud, name: str, in_project: str, role_name: str) -> None:
    import sqlalchemy as sa

    def work(tx: Any) -> None:
        if tx.first(sa.select(project).where(project.c.id == in_project)) is None:
            tx.execute(project.insert().values(
                id=in_project, name=in_project, domain_id="default", description="", enabled=True, options={}, extra={}
            ))
        role_id = tx.scalar(sa.select(role.c.id).where(role.c.name == role_name))
        tx.execute(user.insert().values(
            id=name, name=name, domain_id="default", enabled=True, created=0.0, options={}, extra={},
            password_hash=hash_password(PASSWORD, 4), password_changed=0.0, default_project_id=None, tokens_from=0.0,
            failures=0,
        ))
        tx.execute(assignment.insert().values(
            actor_kind="user", actor_id=name, target_kind="project", target_id=in_project, role_id=role_id,
            inherited=False,
        ))

    cloud.db.run_sync(work)


def _client(cloud: Cloud, anonymous: Client, name: str, in_project: str, role_name: str) -> Client:
    _person(cloud, name, in_project, role_name)
    return anonymous.login(name, PASSWORD, in_project)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Cloud]:
    """A fresh cloud of the two rooms that these specifications are about."""
    state: Path = tmp_path_factory.mktemp("cloud")
    settings = Settings(
        state_dir=str(state), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        listen="cloud.test:80", public_url="http://cloud.test", database=database_url,
    )
    cloud = Cloud(settings, rooms=("identity", "network"))
    cloud.open()
    yield cloud
    cloud.close()


@pytest.fixture(scope="module")
def alice(cloud: Cloud, anonymous: Client) -> Client:
    """A member of project `blue`."""
    return _client(cloud, anonymous, "alice", "blue", "member")


@pytest.fixture(scope="module")
def rita(cloud: Cloud, anonymous: Client, alice: Client) -> Client:
    """A reader of project `blue`."""
    return _client(cloud, anonymous, "rita", "blue", "reader")


@pytest.fixture(scope="module")
def bob(cloud: Cloud, anonymous: Client) -> Client:
    """A member of project `red`."""
    return _client(cloud, anonymous, "bob", "red", "member")


@pytest.fixture(scope="module")
def node(cloud: Cloud) -> Callable[[], NodeNetwork]:
    """A fake node's round: it fetches its state, and reports all of it as carried out."""

    def turn() -> NodeNetwork:
        state = cloud.db.run_sync(lambda tx: wiring.node_state(tx, cloud, "node-1"))
        report = NetworkReport(revision=state.revision, ports_up=tuple(port.id for port in state.ports))
        cloud.db.run_sync(lambda tx: wiring.report(tx, cloud, "node-1", report))
        return state

    return turn


def make(client: Client, plural: str, singular: str | None = None, **body: Any) -> Body:
    """POST, and the resource made. Fails the test for anything but 201."""
    name = singular or plural.replace("-", "_").removesuffix("s")
    reply = client.post(f"/network/v2.0/{plural}", {name: body})
    assert reply.status_code == 201, reply.text
    made: Body = reply.json()[name]
    return made


def network_with_subnet(client: Client, cidr: str = "10.0.0.0/24", **subnet: Any) -> tuple[Body, Body]:
    """A network and its subnet."""
    network = make(client, "networks", name="net")
    version = 6 if ":" in cidr else 4
    return network, make(client, "subnets", network_id=network["id"], cidr=cidr, ip_version=version, **subnet)


def public(client: Client) -> str:
    """The id of the external network."""
    found: str = client.get("/network/v2.0/networks?router:external=True").json()["networks"][0]["id"]
    return found


def error_type(reply: Any) -> str:
    """The NeutronError's type."""
    kind: str = reply.json()["NeutronError"]["type"]
    return kind
