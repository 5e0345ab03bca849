"""The layouts as clouds: what users do on them works from node to node, and the doctor finds all in agreement."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.system.lab.api import Api
from tests.system.lab.building import built, doctor, guest_image
from tests.system.lab.session import Pair, School

from pileus.lab import Lab

pytestmark = pytest.mark.system


def test_devstack_two_computes_that_joined_by_token(tmp_path: Path) -> None:
    image = guest_image()  # before the thread is where nothing can be downloaded
    with built("devstack") as lab, lab.client.inside():
        story = Pair(lab, tmp_path, image)
        address = story.begin()
        assert set(story.hosts().values()) == {"compute-1", "compute-2"}
        story.show_pair(address, "net0")
        assert "All agrees" in doctor(lab)
        _no_secrets_on_nodes(lab)


def test_gridka_the_whole_session(tmp_path: Path) -> None:
    image = guest_image()
    with built("gridka") as lab, lab.client.inside():
        school = School(lab, tmp_path, image)
        address = school.tell_school()
        assert set(school.hosts().values()) == {"compute-1", "compute-2"}
        school.show_pair(address, "net1")
        school.attach_volume(address)
        school.resize()
        school.ec2()
        assert "All agrees" in doctor(lab)
        _no_secrets_on_nodes(lab)


@pytest.mark.parametrize("database", ["postgresql", "galera"])
def test_ha_a_controller_dies_and_the_rest_go_on(database: str) -> None:
    with built("ha", database=database, hypervisor="fake") as lab:
        lab.node("controller-1").part("rabbitmq").wait_for_members(3)  # type: ignore[attr-defined]
        with Api(lab) as api:
            assert {url.split("/")[2] for url in api.urls.values()} == {"10.7.0.10:8080"}
            body = _server_body(api)
            first = _create(api, body, 3)
            _wait_active(api, first)
            lab.node("controller-2").kill("controller")
            time.sleep(1.0)  # the balancer looks once a second
            second = _create(api, body, 3)
            _wait_active(api, first | second)
            assert "All agrees" in doctor(lab)
            lab.node("controller-2").start("controller")
            for server in first | second:
                api.ask("DELETE", "compute", f"/servers/{server}")
            assert "All agrees" in doctor(lab)
            assert api.ask("GET", "compute", "/servers")["servers"] == []


def _server_body(api: Api) -> dict[str, object]:
    image = api.ask("POST", "image", "/v2/images", {
        "name": "test", "disk_format": "raw", "container_format": "bare",
    })["id"]
    api.ask("PUT", "image", f"/v2/images/{image}/file", content=bytes(1 << 20),
            headers={"Content-Type": "application/octet-stream"})
    flavor = api.ask("POST", "compute", "/flavors", {"flavor": {"name": "t", "ram": 64, "vcpus": 1, "disk": 0}})
    network = api.ask("POST", "network", "/v2.0/networks", {"network": {"name": "test"}})["network"]["id"]
    api.ask("POST", "network", "/v2.0/subnets", {
        "subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/24"},
    })
    return {"imageRef": image, "flavorRef": flavor["flavor"]["id"], "networks": [{"uuid": network}]}


def _create(api: Api, body: dict[str, object], count: int) -> set[str]:
    made = (api.ask("POST", "compute", "/servers", {"server": {**body, "name": f"s{n}"}}) for n in range(count))
    return {reply["server"]["id"] for reply in made}


def _wait_active(api: Api, servers: set[str], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while True:
        listed = {s["id"]: s for s in api.ask("GET", "compute", "/servers/detail")["servers"]}
        states = {listed[server]["status"] for server in servers}
        if states == {"ACTIVE"}:
            return
        assert "ERROR" not in states, [s.get("fault") for s in listed.values()]
        assert time.monotonic() < until, states
        time.sleep(0.2)


def _no_secrets_on_nodes(lab: Lab) -> None:
    """What is the controllers' alone is in no file of a machine that only has an agent."""
    secrets = [word for name in ("database", "rabbitmq", "admin") for word in ("-e", lab.secrets[name])]
    for node in lab.nodes.values():
        # Not its exit status: it is 2 also when a file has vanished meanwhile.
        found = node.run("grep", "-rlsF", *secrets, "--", "/etc", "/run", "/var/lib", "/var/log", check=False).stdout
        if set(node.parts) == {"agent"}:
            assert not found, f"{node.name}: {found}"
        elif "controller" in node.parts:
            assert "/etc/pileus/pileus.toml" in found, "it looks in the wrong place"
