from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pileus.settings import load
from tests.conformance import place
from tests.conformance.rest import CloudError


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A host with nothing on it."""
    (tmp_path / "netns").mkdir()
    (tmp_path / "net").mkdir()
    monkeypatch.setattr(place, "_NAMESPACES", tmp_path / "netns")
    monkeypatch.setattr(place, "_DEVICES", tmp_path / "net")
    monkeypatch.setattr(place, "_routes", lambda: "default via 192.0.2.1 dev eth0")
    return tmp_path


def test_two_at_once_share_nothing(tmp_path: Path) -> None:
    with place.own_place(tmp_path) as one, place.own_place(tmp_path) as other:
        assert not set(one.values()) & set(other.values())
    with place.own_place(tmp_path) as again:
        assert again == one


def test_what_a_cloud_left_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netns" / "ct00-n-aaaa").touch()
    (tmp_path / "net" / "pileus-ct01").mkdir()
    monkeypatch.setattr(place, "_routes", lambda: "172.24.102.0/24 dev br0 proto kernel")
    with place.own_place(tmp_path) as got:
        assert got == place.settings(3)


def test_all_taken(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / "netns" / f"ct{number:02d}-r-b").touch()
    with pytest.raises(CloudError, match="taken"), place.own_place(tmp_path):
        pass


def test_a_place_is_settings_that_the_cloud_takes() -> None:
    got = load(environment={}, overrides=place.settings(7))
    assert got.physical_networks == {"public": "pileus-ct07"}
    assert got.namespace_prefix == "ct07"
