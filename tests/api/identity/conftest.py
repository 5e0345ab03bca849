"""A cloud of the identity room alone: what is tested here needs no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.cloud import Cloud
from pileus.settings import Settings
from tests.api.conftest import PASSWORD


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, database_url: str) -> Iterator[Cloud]:
    """A fresh cloud with cheap password hashes."""
    state: Path = tmp_path_factory.mktemp("identity")
    cloud = Cloud(Settings(
        state_dir=str(state), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        listen="cloud.test:80", public_url="http://cloud.test", database=database_url,
    ), rooms=("identity",))
    cloud.open()
    yield cloud
    cloud.close()
