"""A lab: built from a layout, looked at, cut and mended, and taken down."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pileus.cli import credentials
from pileus.cli.running import healthy
from pileus.lab import record
from pileus.lab.assemble import make_parts, url_of
from pileus.lab.faults import LabError
from pileus.lab.haproxy import Haproxy
from pileus.lab.layouts import DATABASES, UNDERLAY, Layout, layout
from pileus.lab.machine import Machine
from pileus.lab.node import Node
from pileus.lab.part import Part
from pileus.lab.record import Choice
from pileus.lab.wire import CLIENT, CLIENT_UNDERLAY, LEGS, Wire, legs_of
from pileus.node.hypervisor.qemu.process import ProcessId
from pileus.settings import Settings

Progress = Callable[[str, int, int], None]
_WIRE = "wire"
_SECRETS = ("database", "rabbitmq", "cookie", "admin")


class Lab:
    """One lab, in a folder of its own. Several can be on one machine: they share nothing, not even addresses."""

    def __init__(self, choice: Choice, folder: Path, progress: Progress | None = None) -> None:
        """Made, not yet started; `Lab.open` finds one that is there. Raises LabError for what no layout can be."""
        self.choice, self.folder = choice, folder
        self.layout: Layout = layout(choice.layout, choice.nodes, choice.database)
        self._told = progress or (lambda step, done, total: None)
        self._record = record.Record(choice=choice, secrets={name: secrets.token_hex(12) for name in _SECRETS})
        self._lock = threading.Lock()
        self._make()

    @classmethod
    def open(cls, folder: Path, progress: Progress | None = None) -> Lab:
        """The lab of a folder, as an earlier command left it. Raises LabError when there is none."""
        known = record.load(folder)
        lab = cls(known.choice, folder, progress)
        lab._record = known
        lab._make()
        return lab

    def _make(self) -> None:
        names = (_WIRE, CLIENT, *(spec.name for spec in self.layout.machines))
        self._machines = {name: self._machine(name) for name in names}
        self.wire = Wire(self._machines[_WIRE])
        parts = make_parts(self.layout, self.choice, self._machines, self._record.secrets)
        self.nodes = {
            spec.name: Node(spec, self._machines[spec.name], parts[spec.name], self) for spec in self.layout.machines
        }
        for node in self.nodes.values():
            for part in node.parts.values():
                part.process = self._record.parts.get(node.name, {}).get(part.name)
                part.record = self._noter(node.name, part.name)

    def _machine(self, name: str) -> Machine:
        return Machine(name, self.folder / "machines" / name, self._record.machines.get(name))

    # ------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Build it all, or switch it on again as it was. Raises LabError, and leaves what there is to look at."""
        with record.held(self.folder):
            if not self._record.ready:
                self._clear()  # what an earlier attempt left half made
            elif not self._machines[_WIRE].on:
                self._switch_off()  # no cable leads anywhere
            self._save()
            self._each("wire", [self._power_on_wire])
            self._each("machines", [self._power_on_client, *(node.power_on for node in self.nodes.values())])
            for title, actions in self._stages():
                self._each(title, actions)
            self._each("first answer", [self._wait_for_users])
            self._write_credentials()
            self._record.ready = True
            self._save()

    def stop(self) -> None:
        """End every process of the lab, and remove all that it made. What is gone already is no fault."""
        with record.held(self.folder):
            self._clear()
        shutil.rmtree(self.folder)

    def _switch_off(self) -> None:
        self._each("switching off", [machine.power_off for machine in self._machines.values() if machine.on])
        self._record.parts.clear()

    def _clear(self) -> None:
        self._switch_off()
        for path in self.folder.iterdir():
            if path.name not in ("lock", "lab.json"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def __enter__(self) -> Lab:
        """Started; taken down at the end of the block, also when it could not be built."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _stages(self) -> Iterator[tuple[str, list[Callable[[], None]]]]:
        """What starts together, stage after stage: the first of a cluster begins it, the others join."""
        of = self._parts_named
        stores = [of(name) for name in (*DATABASES, "rabbitmq")]
        yield "database and bus", [parts[0].start for parts in stores if parts]
        yield "database and bus", [part.start for parts in stores for part in parts[1:]]
        controllers = of("controller")
        if of("galera"):
            yield "front", [part.start for part in of("haproxy")]  # through which the controllers reach it
        yield "controllers", [part.start for part in controllers[:1]]  # it makes the schema
        yield "controllers", [part.start for part in controllers[1:]]
        yield "front", [self._start_front] if of("haproxy") else []
        yield "nodes", [part.start for part in of("agent")]

    def _start_front(self) -> None:
        for part in self._parts_named("haproxy"):
            if isinstance(part, Haproxy):
                part.make_files()
                part.configure()

    def _parts_named(self, name: str) -> list[Part]:
        return [node.parts[name] for node in self.nodes.values() if name in node.parts]

    def _each(self, step: str, actions: Sequence[Callable[[], None]]) -> None:
        """Do all at once, and tell how far it is. The first fault is raised when all have ended."""
        if not actions:
            return
        self._told(step, 0, len(actions))
        with ThreadPoolExecutor(len(actions)) as pool:
            waiting = [pool.submit(action) for action in actions]
            for done, _ in enumerate(as_completed(waiting), 1):
                self._told(step, done, len(actions))
            for each in waiting:
                each.result()

    # -------------------------------------------------------------------------------- the machines

    def _power_on_wire(self) -> None:
        machine = self._machines[_WIRE]
        if not machine.on:
            machine.power_on(self._note(_WIRE))
            self.wire.make()

    def _power_on_client(self) -> None:
        machine = self.client
        if not machine.on:
            machine.power_on(self._note(CLIENT))
            self._write_hosts(machine)
            self.wire.join_client(machine)

    def power_on(self, node: str) -> None:
        """Start a node's machine and plug it in, unless it runs. Raises LabError."""
        there = self.node(node)
        if not there.machine.on:
            there.machine.power_on(self._note(node))
            self._write_hosts(there.machine)
            self.wire.join(there.machine, there.spec, self._record.cut.get(node, ()))

    def power_off(self, node: str) -> None:
        """Pull a node's plug. Raises LabError."""
        there = self.node(node)
        there.machine.power_off()
        with self._lock:
            self._record.parts.pop(node, None)
            self._save()
        for part in there.parts.values():
            part.process = None

    def node(self, name: str) -> Node:
        """A node by its name. Raises LabError."""
        if name not in self.nodes:
            raise LabError(f"this lab has no node '{name}'; it has {', '.join(self.nodes)}")
        return self.nodes[name]

    @property
    def client(self) -> Machine:
        """The machine of a user: it reaches the APIs, and floating addresses through a router."""
        return self._machines[CLIENT]

    def machine(self, name: str) -> Machine:
        """A node's machine, or the client, or the wire. Raises LabError."""
        return self._machines[name] if name in self._machines else self.node(name).machine

    # -------------------------------------------------------------------------------------- users

    @property
    def identity(self) -> str:
        """The URL at which users begin, without a slash at the end."""
        return url_of(self.layout, "identity")

    @property
    def clouds(self) -> Path:
        """clouds.yaml of the administrator, with the clouds `pileus-admin` and `pileus-system`."""
        return self.folder / "clouds.yaml"

    def _wait_for_users(self, seconds: float = 60.0) -> None:
        """Until identity answers the client where users ask it: the front finds out in its own time who lives."""
        until = time.monotonic() + seconds
        with self.client.inside():
            while (said := healthy(self.identity)) != "ok":
                if time.monotonic() > until:
                    raise LabError(f"{self.identity} does not answer the client after {seconds:.0f} s: {said}")
                time.sleep(0.1)

    def _write_credentials(self) -> None:
        settings = Settings(state_dir=str(self.folder), public_url=self.identity)
        credentials.write(settings, self._record.secrets["admin"])
        (self.client.path("/etc") / "openstack").mkdir(exist_ok=True)
        credentials.private(self.client.path("/etc/openstack/clouds.yaml"), self.clouds.read_text())

    @property
    def secrets(self) -> dict[str, str]:
        """Passwords by what they are for: database, rabbitmq, admin."""
        return dict(self._record.secrets)

    # ------------------------------------------------------------------------------------- faults

    def cut(self, node: str, legs: Sequence[str] = tuple(LEGS)) -> None:
        """Cut a node from its networks: nothing that it sends arrives, and it is not told. Raises LabError.

        One that is off is cut when it is switched on."""
        there = self.node(node)
        known = legs_of(there.spec, legs)
        if there.machine.on:
            self.wire.cut(there.spec, known)
        with self._lock:
            self._record.cut[node] = sorted({*self._record.cut.get(node, ()), *known})
            self._save()

    def mend(self, node: str, legs: Sequence[str] = tuple(LEGS)) -> None:
        """Undo `cut`. Raises LabError."""
        there = self.node(node)
        known = legs_of(there.spec, legs)
        if there.machine.on:
            self.wire.mend(there.spec, known)
        with self._lock:
            left = [leg for leg in self._record.cut.pop(node, ()) if leg not in known]
            if left:
                self._record.cut[node] = left
            self._save()

    @property
    def cut_off(self) -> frozenset[str]:
        """The nodes that are cut from a network."""
        return frozenset(self._record.cut)

    # ------------------------------------------------------------------------------------- record

    def _save(self) -> None:
        record.save(self.folder, self._record)

    def _note(self, name: str) -> Callable[[ProcessId], None]:
        def note(first: ProcessId) -> None:
            with self._lock:
                self._record.machines[name] = first
                self._save()

        return note

    def _noter(self, node: str, part: str) -> Callable[[ProcessId | None], None]:
        def note(process: ProcessId | None) -> None:
            with self._lock:
                known = self._record.parts.setdefault(node, {})
                known.pop(part, None)
                if process is not None:
                    known[part] = process
                self._save()

        return note

    def _write_hosts(self, machine: Machine) -> None:
        known = [("127.0.0.1", "localhost"), (f"{UNDERLAY}.{CLIENT_UNDERLAY}", CLIENT)]
        known += [(spec.address, spec.name) for spec in self.layout.machines]
        machine.path("/etc/hosts").write_text("".join(f"{address} {name}\n" for address, name in known))
