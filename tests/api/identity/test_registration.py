"""Several controllers and one catalog: who serves what registers it, and nobody writes over another's URL."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from pileus.cli import credentials
from pileus.cloud import Cloud
from pileus.cluster import controllers
from pileus.identity import registration
from pileus.identity.tables import endpoint, service
from pileus.settings import Settings


class Starts:
    """Starts controllers on one database, as often as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clouds: list[Cloud] = []

    def __call__(self, name: str, **settings: Any) -> Cloud:
        cloud = Cloud(Settings(
            state_dir=str(self.folder / name), hypervisor="fake", admin_password="x", bcrypt_rounds=4,
            log_level="error", listen=f"{name}.test:80", database=f"sqlite:///{self.folder / 'db'}", node_name=name,
            **settings,
        ))
        self.clouds.append(cloud)
        cloud.open()
        cloud.db.run_sync(lambda tx: controllers.beat(tx, cloud, f"{name}:1", [], "1", 1.0))
        return cloud

    def stop(self, cloud: Cloud) -> None:
        cloud.db.run_sync(lambda tx: controllers.gone(tx, cloud.controller))

    def urls(self) -> dict[str, str]:
        """Public URL by service."""
        rows = self.clouds[-1].db.run_sync(lambda tx: tx.all(
            sa.select(service.c.type, endpoint.c.url).join(service, service.c.id == endpoint.c.service_id)
            .where(endpoint.c.interface == "public")
        ))
        assert len({row.type for row in rows}) == len(rows)
        return {row.type: row.url for row in rows}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starts]:
    made = Starts(tmp_path)
    yield made
    for cloud in made.clouds:
        cloud.close()


def _look(cloud: Cloud) -> None:
    cloud.db.run_sync(lambda tx: registration.register(tx, cloud))


def test_each_registers_what_it_serves(start: Starts) -> None:
    auth = start("auth", services=("identity",))
    assert start.urls() == {"identity": "http://auth.test:80/identity"}
    start("image", services=("image",))
    start("rest", services=("placement", "network", "compute"), public_url="https://cloud.example/")
    assert start.urls() == {
        "identity": "http://auth.test:80/identity", "image": "http://image.test:80/image",
        "placement": "https://cloud.example/placement", "network": "https://cloud.example/network",
        "compute": "https://cloud.example/compute/v2.1",
    }
    for cloud in (*start.clouds, auth):
        _look(cloud)
    assert start.urls()["identity"] == "http://auth.test:80/identity"


def test_two_with_different_urls_do_not_take_turns(start: Starts) -> None:
    first, second = start("a"), start("b")
    before = start.urls()
    assert set(before.values()) == {url for url in before.values() if url.startswith("http://a.test")}
    for cloud in (second, first, second):
        _look(cloud)
        assert start.urls() == before
    start.stop(first)
    _look(second)
    assert start.urls()["image"] == "http://b.test:80/image"
    start("a")  # back again: the other has it now
    assert start.urls()["image"] == "http://b.test:80/image"


def test_what_an_operator_wrote_wins_and_stays(start: Starts) -> None:
    start("a")
    explicit = start("b", public_url="https://cloud.example")
    assert start.urls()["image"] == "https://cloud.example/image"
    other = start("c", public_url="https://other.example")
    assert start.urls()["image"] == "https://cloud.example/image"
    start.stop(explicit)
    _look(start.clouds[0])
    assert start.urls()["image"] == "https://cloud.example/image"  # the address of many
    _look(other)
    assert start.urls()["image"] == "https://other.example/image"


def test_an_owner_may_change_its_url(start: Starts) -> None:
    start("a")
    start("a", public_url="https://new.example")
    assert start.urls()["network"] == "https://new.example/network"
    start("a")
    assert start.urls()["network"] == "http://a.test:80/network"


def test_a_service_that_is_served_elsewhere_now_moves(start: Starts) -> None:
    start("a")
    start("b", services=("image",))
    assert start.urls()["image"] == "http://a.test:80/image"
    start("a", services=("identity",))
    _look(start.clouds[1])
    assert start.urls()["image"] == "http://b.test:80/image"
    assert start.urls()["identity"] == "http://a.test:80/identity"


def test_what_was_changed_by_hand_is_nobodys(start: Starts) -> None:
    cloud = start("a")
    cloud.db.run_sync(lambda tx: tx.execute(endpoint.update().values(url="http://mine", own=False)))
    start("a", public_url="https://new.example")
    assert set(start.urls().values()) == {"http://mine"}


def test_where_to_log_in(start: Starts) -> None:
    def where(cloud: Cloud) -> str:
        return cloud.db.run_sync(lambda tx: registration.identity_url(tx, cloud), write=False)

    assert where(start("auth", services=("identity",))) == "http://auth.test:80/identity"
    image = start("image", services=("image",))
    assert where(image) == "http://auth.test:80/identity"
    assert where(start("api", services=("compute",), auth_url="https://keys.example/identity/v3")) == (
        "https://keys.example/identity"
    )
    path = credentials.write(image.settings, "", where(image))
    auth = yaml.safe_load(path.read_text())["clouds"]["pileus-admin"]["auth"]
    assert auth["auth_url"] == "http://auth.test:80/identity/v3"
    assert "password" not in auth
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    done = subprocess.run(
        ["sh", "-c", f". {path.parent / 'openrc'} && echo $OS_AUTH_URL $OS_PASSWORD"], env={"OS_PASSWORD": "given"},
        stdout=subprocess.PIPE, text=True, timeout=20, check=True,
    )
    assert done.stdout == "http://auth.test:80/identity/v3 given\n"
