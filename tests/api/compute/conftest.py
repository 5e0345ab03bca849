"""What many tests of servers begin with."""

from __future__ import annotations

import pytest

from pileus.cloud import Cloud
from tests.api.compute.guests import Servers, make_image
from tests.api.conftest import Client


@pytest.fixture(scope="module")
def guests(cloud: Cloud, admin: Client) -> Servers:
    """The administrator's servers, of one image."""
    return Servers(admin, make_image(cloud))
