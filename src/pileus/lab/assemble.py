"""Puts the parts of a layout together: which server runs where, and how each finds the others."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from pileus.lab.controller import Agent, Controller
from pileus.lab.databases import Galera, Mariadb, Postgresql
from pileus.lab.faults import LabError
from pileus.lab.haproxy import API_PORT, DATABASE_PORT, Haproxy
from pileus.lab.layouts import UNDERLAY, Layout, Spec
from pileus.lab.machine import Machine
from pileus.lab.part import Part
from pileus.lab.rabbitmq import PORT as BUS_PORT
from pileus.lab.rabbitmq import Rabbitmq
from pileus.lab.record import Choice
from pileus.lab.wire import GATEWAY, OUTSIDE

CLUSTER_PORT = 8443


def make_parts(
    layout: Layout, choice: Choice, machines: Mapping[str, Machine], secrets: Mapping[str, str]
) -> dict[str, list[Part]]:
    """The parts of each machine, by its name, in the order in which they start."""
    controllers: list[Controller] = []
    made: dict[str, list[Part]] = {}
    for spec in layout.machines:
        made[spec.name] = [_part(name, spec, layout, choice, machines[spec.name], secrets) for name in spec.parts]
        controllers += [part for part in made[spec.name] if isinstance(part, Controller)]
    parts = [part for each in made.values() for part in each]
    cluster = [part for part in parts if isinstance(part, Galera)]
    for part in parts:
        if isinstance(part, Galera):
            part.others = [other for other in cluster if other is not part]
        elif isinstance(part, Agent | Haproxy):
            part.controllers = controllers
    return made


def _part(
    name: str, spec: Spec, layout: Layout, choice: Choice, machine: Machine, secrets: Mapping[str, str]
) -> Part:
    address, password = spec.address, secrets["database"]
    if name == "mariadb":
        return Mariadb(machine, address, password)
    if name == "galera":
        return Galera(machine, address, password, [each.address for each in layout.with_part("galera")])
    if name == "postgresql":
        return Postgresql(machine, address, password, f"{UNDERLAY}.0/24")
    if name == "rabbitmq":
        seed = layout.with_part("rabbitmq")[0].name
        return Rabbitmq(machine, address, secrets["rabbitmq"], secrets["cookie"], seed)
    if name == "haproxy":
        galera = {each.name: each.address for each in layout.with_part("galera")}
        return Haproxy(machine, address, galera)
    if name == "controller":
        return Controller(machine, address, _controller_settings(spec, layout, choice, secrets))
    if name == "agent":
        return Agent(machine, address, spec.roles, _agent_settings(spec, choice))
    raise LabError(f"there is no part '{name}'")


def url_of(layout: Layout, service: str) -> str:
    """Where clients reach a service: the front, or the node that serves it."""
    if layout.front:
        return _url(next(spec for spec in layout.machines if spec.name == layout.front))
    return _url(next(spec for spec in layout.with_part("controller") if service in spec.services))


def _url(spec: Spec) -> str:
    return f"http://{spec.address}:{API_PORT}"


def _controller_settings(
    spec: Spec, layout: Layout, choice: Choice, secrets: Mapping[str, str]
) -> dict[str, object]:
    front = next((each for each in layout.machines if each.name == layout.front), spec)
    return {
        "state_dir": "/var/lib/pileus", "node_name": spec.name, "listen": f"{spec.address}:{API_PORT}",
        "cluster_listen": f"{spec.address}:{CLUSTER_PORT}", "public_url": _url(front), "services": list(spec.services),
        "database": _database(layout, secrets["database"]), "bus": _bus(layout, secrets["rabbitmq"]),
        "admin_password": secrets["admin"], "public_network": OUTSIDE, "public_gateway": GATEWAY,
        "hypervisor": choice.hypervisor, "physical_networks": {"public": "br-ex"}, **choice.settings,
    }


def _agent_settings(spec: Spec, choice: Choice) -> dict[str, object]:
    return {
        "state_dir": "/var/lib/pileus-agent", "node_name": spec.name, "address": spec.address,
        "roles": list(spec.roles), "hypervisor": choice.hypervisor,
        # The bridge is the lab's, and so is the gateway: the node makes neither.
        "physical_networks": {"public": "br-ex"} if spec.outside else {}, "public_gateway": "", **choice.settings,
    }


def _database(layout: Layout, password: str) -> str:
    if layout.database == "sqlite":
        return ""
    if layout.database == "galera":
        host = next(each.address for each in layout.with_part("haproxy"))
        return f"mysql://pileus:{quote(password)}@{host}:{DATABASE_PORT}/pileus"
    host = layout.with_part(layout.database)[0].address
    scheme, port = ("postgresql", 5432) if layout.database == "postgresql" else ("mysql", 3306)
    return f"{scheme}://pileus:{quote(password)}@{host}:{port}/pileus"


def _bus(layout: Layout, password: str) -> str:
    hosts = ",".join(f"{spec.address}:{BUS_PORT}" for spec in layout.with_part("rabbitmq"))
    return f"amqp://pileus:{quote(password)}@{hosts}" if hosts else ""
