"""What the layouts are, without building one."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from pileus.lab import LAYOUTS, LabError, layout
from pileus.lab.assemble import make_parts, url_of
from pileus.lab.controller import Agent, Controller, toml
from pileus.lab.databases import Galera
from pileus.lab.layouts import Layout
from pileus.lab.machine import Machine
from pileus.lab.part import Part
from pileus.lab.rabbitmq import Rabbitmq
from pileus.lab.record import Choice
from pileus.settings import Settings, load

KINDS = [("devstack", ""), ("gridka", ""), ("gridka", "postgresql"), ("ha", ""), ("ha", "galera")]
SECRETS = {name: f"{name}-secret" for name in ("database", "rabbitmq", "cookie", "admin")}


def parts_of(plan: Layout, **choice: object) -> dict[str, list[Part]]:
    machines = {spec.name: Machine(spec.name, Path("/nowhere") / spec.name) for spec in plan.machines}
    return make_parts(plan, Choice(layout=plan.name, **choice), machines, SECRETS)  # type: ignore[arg-type]


def settings_of(part: Controller | Agent, folder: Path) -> Settings:
    file = folder / "settings.toml"
    file.write_text(toml(part.settings))
    return load(file, environment={})


@pytest.mark.parametrize(("name", "database"), KINDS)
def test_machines_have_names_and_addresses_of_their_own(name: str, database: str) -> None:
    plan = layout(name, 3, database)
    for values in ([spec.name for spec in plan.machines], [spec.address for spec in plan.machines]):
        assert len(set(values)) == len(values)
    for spec in plan.machines:
        ipaddress.ip_address(spec.address)
        assert len(spec.name) <= 13, "its cable's name would be longer than Linux takes"
        assert spec.name not in ("wire", "client")


@pytest.mark.parametrize("name", LAYOUTS)
def test_nodes_says_how_many_run_guests(name: str) -> None:
    for nodes, found in ((0, 2), (5, 5)):
        assert sum("compute" in spec.roles for spec in layout(name, nodes).machines) == found


@pytest.mark.parametrize(("name", "database"), KINDS)
def test_the_settings_files_are_read_by_the_program(name: str, database: str, tmp_path: Path) -> None:
    plan = layout(name, 0, database)
    for spec in plan.machines:
        for part in parts_of(plan, hypervisor="fake", settings={"bcrypt_rounds": "4"})[spec.name]:
            if isinstance(part, Controller | Agent):
                settings = settings_of(part, tmp_path)
                assert settings.node_name == spec.name
                assert settings.hypervisor == "fake"
                assert settings.bcrypt_rounds == 4
                assert settings.physical_networks == (
                    {"public": "br-ex"} if spec.outside or isinstance(part, Controller) else {}
                )


def test_agents_are_told_no_secret(tmp_path: Path) -> None:
    for name, database in KINDS:
        for parts in parts_of(layout(name, 0, database)).values():
            for part in parts:
                if isinstance(part, Agent):
                    assert "secret" not in toml(part.settings)


def test_gridka_has_each_service_on_the_node_of_the_school() -> None:
    plan = layout("gridka")
    places = {"identity": 4, "image": 5, "compute": 6, "placement": 6, "ec2": 6, "network": 7, "volume": 8}
    for service, number in places.items():
        assert url_of(plan, service) == f"http://10.7.0.{number}:8080"
    assert [spec.name for spec in plan.machines] == [
        "db-node", "auth-node", "image-node", "api-node", "network-node", "volume-node", "compute-1", "compute-2",
    ]


def test_ha_is_behind_one_address_and_has_clusters(tmp_path: Path) -> None:
    plan = layout("ha", 0, "galera")
    parts = parts_of(plan)
    assert url_of(plan, "identity") == url_of(plan, "compute") == "http://10.7.0.10:8080"
    galera = [part for each in parts.values() for part in each if isinstance(part, Galera)]
    assert [len(part.others) for part in galera] == [2, 2, 2]
    assert sum(isinstance(part, Rabbitmq) for each in parts.values() for part in each) == 3
    assert sum("network" in spec.roles for spec in plan.machines) == 2, "a router has to have somewhere to go"
    controller = next(part for part in parts["controller-2"] if isinstance(part, Controller))
    settings = settings_of(controller, tmp_path)
    assert settings.database == "mysql://pileus:database-secret@10.7.0.10:3306/pileus"
    assert settings.bus == "amqp://pileus:rabbitmq-secret@10.7.0.11:5672,10.7.0.12:5672,10.7.0.13:5672"


@pytest.mark.parametrize(
    ("name", "nodes", "database", "words"),
    [
        ("packstack", 0, "", "there is no layout 'packstack'"),
        ("devstack", 0, "galera", "one controller with SQLite, not galera"),
        ("gridka", 0, "galera", "takes mariadb or postgresql"),
        ("ha", 0, "mariadb", "takes postgresql or galera"),
        ("ha", 101, "", "give 1 to 100"),
    ],
)
def test_what_cannot_be_is_refused(name: str, nodes: int, database: str, words: str) -> None:
    with pytest.raises(LabError, match=words):
        layout(name, nodes, database)
