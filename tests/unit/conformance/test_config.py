from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from tests.conformance.config import Administrator, Cloud, Hypervisor, Volumes, available, read_flags, render

URL = "http://127.0.0.1:1/identity/v3"
FLAGS = Path(__file__).parents[2] / "conformance" / "features.conf"


def cloud(**changes: object) -> Cloud:
    facts: dict[str, object] = {
        "administrator": Administrator(URL, "admin", "50%;$x#", "admin", "Default", "RegionOne"),
        "service_types": frozenset({"identity", "image", "compute", "network", "placement"}),
        "compute_ceiling": "2.96",
        "placement_ceiling": "1.39",
        "volumes": Volumes(),
        "network_extensions": ("router", "security-group"),
        "compute_hosts": ("one", "two"),
        "dashboard_url": "",
        "public_network_id": "public-id",
        "image_ref": "image-1",
        "image_ref_alt": "image-2",
        "flavor_ref": "nano",
        "flavor_ref_alt": "micro",
    }
    return Cloud(**{**facts, **changes})  # type: ignore[arg-type]


def rendered(cloud: Cloud, hypervisor: Hypervisor = "fake") -> configparser.ConfigParser:
    conf = configparser.ConfigParser(interpolation=None)
    conf.read_string(render(read_flags(FLAGS), cloud, hypervisor, Path("/logs"), Path("/logs/guest.qcow2")))
    return conf


def test_flags_arrive_unchanged() -> None:
    flags, conf = read_flags(FLAGS), rendered(cloud())
    told_by_the_cloud = {
        ("compute", "max_microversion"), ("validation", "run_validation"),
        ("volume-feature-enabled", "volume_types_for_data_volume"),
    }
    for section in flags.sections():
        for option, value in flags[section].items():
            if (section, option) not in told_by_the_cloud:
                assert conf[section][option] == value


def test_what_the_cloud_tells_is_filled_in() -> None:
    conf = rendered(cloud())
    assert conf["compute"]["max_microversion"] == "2.96"
    assert conf["placement"]["max_microversion"] == "1.39"
    assert "max_microversion" not in conf["volume"]
    assert conf["network"]["public_network_id"] == "public-id"
    assert conf["network-feature-enabled"]["api_extensions"] == "router,security-group"
    assert (conf["compute"]["image_ref"], conf["compute"]["flavor_ref_alt"]) == ("image-1", "micro")
    # Tempest's reader takes `$x` for the name of an option.
    assert conf["auth"]["admin_password"] == "50%;$$x#"


def test_what_the_volume_service_tells_is_filled_in() -> None:
    told = Volumes(
        ceiling="3.71", backend_names=("one@fake", "two@fake"), vendor_name="Pileus", storage_protocol="NBD",
        multiattach_type="shared", data_type="data",
    )
    conf = rendered(cloud(volumes=told))
    assert conf["volume"]["max_microversion"] == "3.71"
    assert conf["volume"]["backend_names"] == "one@fake,two@fake"
    assert conf["volume"]["volume_type_multiattach"] == "shared"
    assert conf["volume-feature-enabled"]["volume_types_for_data_volume"] == "data"


def test_services_follow_the_catalog() -> None:
    today = rendered(cloud())["service_available"]
    services = ("nova", "glance", "neutron", "cinder", "swift", "horizon")
    assert [service for service in services if today[service] == "true"] == ["nova", "glance", "neutron"]
    grown = cloud(
        service_types=frozenset({"identity", "object-store", "block-storage"}),
        dashboard_url="http://127.0.0.1:1/dashboard/",
    )
    conf = rendered(grown)
    assert conf["service_available"]["horizon"] == conf["service_available"]["cinder"] == "true"
    assert conf["volume"]["catalog_type"] == "block-storage"
    assert conf["dashboard"]["dashboard_url"] == "http://127.0.0.1:1/dashboard/"
    assert available(frozenset({"object-store"}))["swift"] == "true"


@pytest.mark.parametrize(("nodes", "expected"), [(1, "1"), (2, "2"), (7, "2"), (0, "1")])
def test_no_more_nodes_are_promised_than_there_are(nodes: int, expected: str) -> None:
    assert rendered(cloud(compute_hosts=tuple(map(str, range(nodes)))))["compute"]["min_compute_nodes"] == expected


@pytest.mark.parametrize(("hypervisor", "expected"), [("fake", "false"), ("qemu", "true")])
def test_only_real_guests_are_logged_in_to(hypervisor: Hypervisor, expected: str) -> None:
    assert rendered(cloud(), hypervisor)["validation"]["run_validation"] == expected
