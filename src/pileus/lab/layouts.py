"""The layouts: which machines there are, and what runs on each."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pileus.lab.faults import LabError

UNDERLAY = "10.7.0"
"""The network between the nodes, a /24."""

_ALL = ("compute", "network", "storage")
DATABASES = ("mariadb", "galera", "postgresql")


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that is to be."""

    name: str
    number: int  # its address is UNDERLAY.number
    parts: tuple[str, ...]  # in the order in which they start
    services: tuple[str, ...] = ()  # of its controller; empty: all
    roles: tuple[str, ...] = ()  # of its agent

    @property
    def address(self) -> str:
        """Its address on the underlay."""
        return f"{UNDERLAY}.{self.number}"

    @property
    def outside(self) -> bool:
        """Whether it is joined to the network outside the cloud, as `br-ex`."""
        return "network" in self.roles


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The machines of a lab, and how its cloud is put together."""

    name: str
    machines: tuple[Spec, ...]
    database: str = "sqlite"
    front: str = ""  # the machine with the address that clients use; empty: each service has its own

    def with_part(self, part: str) -> list[Spec]:
        """The machines on which a part runs."""
        return [spec for spec in self.machines if part in spec.parts]


def devstack(nodes: int, database: str) -> Layout:
    """DevStack's multi-node lab: a controller with SQLite, which has routers and volumes too, and compute nodes."""
    if database not in ("", "sqlite"):
        raise LabError(f"layout devstack has one controller with SQLite, not {database}; layout ha takes others")
    head = Spec(name="controller", number=11, parts=("controller", "agent"), roles=("network", "storage"))
    return Layout(name="devstack", machines=(head, *_computes(nodes or 2, 12)), front="controller")


def gridka(nodes: int, database: str) -> Layout:
    """The GridKa school's nodes: a database node, a node for each service, and compute nodes."""
    database = _one_of(database or "mariadb", ("mariadb", "postgresql"), "gridka")
    machines = (
        Spec(name="db-node", number=3, parts=(database, "rabbitmq")),
        Spec(name="auth-node", number=4, parts=("controller",), services=("identity",)),
        Spec(name="image-node", number=5, parts=("controller",), services=("image",)),
        Spec(name="api-node", number=6, parts=("controller",), services=("compute", "placement", "ec2")),
        Spec(name="network-node", number=7, parts=("controller", "agent"), services=("network",), roles=("network",)),
        Spec(name="volume-node", number=8, parts=("controller", "agent"), services=("volume",), roles=("storage",)),
        *_computes(nodes or 2, 20),
    )
    return Layout(name="gridka", machines=machines, database=database)


def ha(nodes: int, database: str) -> Layout:
    """Three controllers behind HAProxy, each with a RabbitMQ (and Galera) of the cluster; nodes that are all roles."""
    database = _one_of(database or "postgresql", ("postgresql", "galera"), "ha")
    own: tuple[str, ...] = ("galera",) if database == "galera" else ()
    controllers = tuple(
        Spec(name=f"controller-{n}", number=10 + n, parts=(*own, "rabbitmq", "controller")) for n in (1, 2, 3)
    )
    single = () if own else (Spec(name="database", number=9, parts=("postgresql",)),)
    balancer = Spec(name="balancer", number=10, parts=("haproxy",))
    agents = tuple(
        Spec(name=f"node-{n}", number=20 + n, parts=("agent",), roles=_ALL if n < 3 else ("compute",))
        for n in range(1, (nodes or 2) + 1)
    )
    return Layout(
        name="ha", machines=(*single, *controllers, balancer, *agents), database=database, front="balancer"
    )


LAYOUTS: dict[str, Callable[[int, str], Layout]] = {"devstack": devstack, "gridka": gridka, "ha": ha}


def layout(name: str, nodes: int = 0, database: str = "") -> Layout:
    """A layout by its name, with so many compute nodes (0: two). Raises LabError for what it cannot be."""
    if name not in LAYOUTS:
        raise LabError(f"there is no layout '{name}'; there are {', '.join(LAYOUTS)}")
    if not 0 <= nodes <= 100:
        raise LabError(f"{nodes} compute nodes: give 1 to 100")
    return LAYOUTS[name](nodes, database)


def _computes(count: int, first: int) -> tuple[Spec, ...]:
    return tuple(
        Spec(name=f"compute-{n + 1}", number=first + n, parts=("agent",), roles=("compute",)) for n in range(count)
    )


def _one_of(database: str, known: tuple[str, ...], name: str) -> str:
    if database not in known:
        raise LabError(f"layout {name} takes {' or '.join(known)} as its database, not {database}")
    return database
