"""What a controller and a node agent say to each other, and what the parts of a node promise.

Everything that crosses the line is a frozen msgspec struct, so that the same message travels as a
function argument (one process), over the agent's connection, or through RabbitMQ. A node holds no
database: these structs are all that it knows.

Units: memory in MiB, disks in GiB where the name says so and otherwise in bytes, times in seconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

DEAD_AFTER = 30.0
"""Seconds without a heartbeat after which a node counts as down, and what is served there is moved elsewhere."""

FACTS_EVERY = 300.0  # seconds after which a node tells again what it is like although nothing of that has changed

LEASE = 25.0
"""Seconds after which a node that reaches no controller stops to serve what may be moved: before it is taken for dead,
by a margin for clocks that differ between controllers and for heartbeats that are written together."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message between controller and node. Only adds fields, and each new one has a default."""


# ---------------------------------------------------------------------------------------------- guests


class ImageRef(Message, frozen=True, kw_only=True):
    """An image as a node needs it. `sha512` is of the stored bytes and names the node's cached copy."""

    id: str
    disk_format: str  # "qcow2" or "raw": what the inspector found, never what a user claimed
    size: int  # bytes as stored
    sha512: str
    virtual_size: int = 0  # bytes
    kernel_id: str | None = None
    ramdisk_id: str | None = None


class NicSpec(Message, frozen=True, kw_only=True):
    port_id: str
    network_id: str
    mac: str
    mtu: int = 1500
    model: str = "virtio"  # hw_vif_model
    tag: str | None = None


class VolumeSpec(Message, frozen=True, kw_only=True):
    """A disk that is not the node's own. `connection` is what QEMU's -blockdev takes, but node-name and tls-creds."""

    attachment_id: str
    volume_id: str
    device: str  # "vdb"
    connection: dict[str, Any]
    secret: str = ""  # hex: the TLS pre-shared key of an NBD connection, whose user is "pileus"; "": no TLS
    serial: str = ""
    boot_index: int | None = None
    delete_on_termination: bool = False
    read_only: bool = False
    tag: str | None = None


class MoveSource(Message, frozen=True, kw_only=True):
    """Where a node gives out the disks of a guest that is off, to be copied by the guest's next node."""

    host: str  # underlay address
    secret: str  # hex: the TLS pre-shared key of this move alone
    disks: dict[str, int]  # name of a disk ("root", "ephemeral", "swap", …) to the port of its NBD server


class MoveTarget(Message, frozen=True, kw_only=True):
    """Where a node takes in a running guest."""

    host: str  # underlay address
    secret: str  # hex: the TLS pre-shared key of this move alone
    memory_port: int
    disks_port: int = 0  # of the NBD server that takes the local disks; 0: no disk has to be copied
    disks: tuple[str, ...] = ()  # names of its exports
    word_port: int = 0  # where the node waits to be told that the guest is gone from where it was


class MoveProgress(Message, frozen=True, kw_only=True):
    """How far a live migration is. Bytes."""

    memory_total: int = 0
    memory_done: int = 0
    memory_left: int = 0
    disk_total: int = 0
    disk_done: int = 0
    disk_left: int = 0


class ConfigDriveFile(Message, frozen=True, kw_only=True):
    path: str  # "openstack/latest/meta_data.json"
    content: bytes


class ServerSpec(Message, frozen=True, kw_only=True):
    """All that a hypervisor needs to make, start or rebuild a guest; complete every time it is sent."""

    id: str
    name: str
    hostname: str
    project_id: str
    vcpus: int
    memory_mib: int
    root_gib: int  # 0: as large as the image
    ephemeral_gib: int = 0
    swap_mib: int = 0
    image: ImageRef | None = None  # None: boots from a volume
    nics: tuple[NicSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    config_drive: tuple[ConfigDriveFile, ...] | None = None
    image_properties: dict[str, str] = {}  # hw_*, os_*
    extra_specs: dict[str, str] = {}  # of the flavor
    metadata: dict[str, str] = {}  # of the server; the fake hypervisor takes its faults from here
    key_name: str | None = None
    rescue_image: ImageRef | None = None  # set: boot from this, the root disk attached second


class GuestState(Message, frozen=True, kw_only=True):
    """A guest as the hypervisor sees it now. `power` is one of running, paused, shutdown, suspended, crashed."""

    id: str
    power: str
    pid: int | None = None
    vcpus: int = 0
    memory_mib: int = 0
    disk_bytes: int = 0


class StorageFacts(Message, frozen=True, kw_only=True):
    """What a node with the role storage reports of its volumes' place."""

    backend: str  # "file" or "fake"
    total_gib: float
    free_gib: float


class HypervisorFacts(Message, frozen=True, kw_only=True):
    """What a node reports of itself, at start and with every heartbeat."""

    hypervisor_type: str  # "QEMU" or "fake"
    hypervisor_version: int  # 7002022 for 7.2.22, as libvirt counts
    accelerator: str  # "kvm", "tcg" or "none"
    hostname: str
    architecture: str
    vcpus: int
    memory_mib: int
    disk_gib: int
    cpu_model: str = ""
    cpu_features: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()  # standard traits, for placement
    host_ip: str = ""  # where the node is reached; empty: it has no network
    physical_networks: tuple[str, ...] | None = None  # that guests there can be on; None: any, or not known yet
    moves: bool = False  # guests of other such nodes can be carried on here, disks and all
    storage: StorageFacts | None = None  # None: no volumes are kept there


class GuestGone(Exception):
    """The hypervisor has no such guest."""


class NodeFault(Exception):
    """A node could not do what it was asked. `str()` is shown to the user in the server's fault."""


class Progress(Protocol):
    def __call__(self, step: str, done: int, total: int, /) -> None: ...


GuestEvent = Callable[[str, str], Awaitable[None]]
"""Called with a server id and a new power state when a guest changes by itself (shut down, crashed, reset)."""


class ImageStore(Protocol):
    """Where a node gets images from: filled once per image however many guests ask, checked by hash."""

    async def path(self, image: ImageRef) -> Path:
        """A local, read-only, complete file with the image's bytes.

        Raises NodeFault if it cannot be had or its hash differs."""
        ...


class TapSource(Protocol):
    """How a hypervisor gets the host's end of a NIC. Taps live in namespaces that QEMU never enters."""

    async def open_tap(self, nic: NicSpec) -> int:
        """A file descriptor on the tap device of this port, made if missing and joined to its network.

        The caller hands it to QEMU and closes its own copy; the device lives as long as QEMU holds it."""
        ...

    async def close_tap(self, port_id: str) -> None:
        """The port is no longer used by a guest here; missing is fine."""
        ...


# --------------------------------------------------------------------------------------------- network


class SubnetState(Message, frozen=True, kw_only=True):
    id: str
    cidr: str
    ip_version: int = 4
    gateway_ip: str | None = None
    enable_dhcp: bool = True
    dhcp_ip: str | None = None  # the address of the network's DHCP server in the subnet, on whichever node
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[tuple[str, str], ...] = ()  # (destination, nexthop)
    ipv6_address_mode: str | None = None
    ipv6_ra_mode: str | None = None


class HostEntry(Message, frozen=True, kw_only=True):
    """One port of a network, wherever it is: what DHCP, DNS and the ARP and flood tables need."""

    port_id: str
    mac: str
    ips: tuple[str, ...] = ()
    hostname: str = ""
    dhcp_options: tuple[tuple[str, str, int], ...] = ()  # (name, value, ip version)
    vtep: str | None = None  # the underlay address of the port's node; None: this node


class NetworkState(Message, frozen=True, kw_only=True):
    id: str
    kind: str  # "vxlan", "flat", "vlan", "local"
    mtu: int = 1450
    physical_network: str | None = None
    segment: int | None = None
    subnets: tuple[SubnetState, ...] = ()
    hosts: tuple[HostEntry, ...] = ()
    dhcp_port: HostEntry | None = None  # set: this node serves DHCP, RA-less DNS and metadata for it
    dns_domain: str = ""
    vteps: tuple[str, ...] = ()  # underlay addresses of the other nodes that carry this network


class Branch(Message, frozen=True, kw_only=True):
    """Where a trunk's subport is: tagged frames at the tap of the trunk's parent port."""

    parent_id: str
    network_id: str  # the parent's
    mtu: int  # of that network: no device at the tap may have more
    vlan: int


class PortState(Message, frozen=True, kw_only=True):
    """A guest's port on this node."""

    id: str
    network_id: str
    mac: str
    ips: tuple[str, ...] = ()
    admin_state_up: bool = True
    port_security: bool = True
    allowed_pairs: tuple[tuple[str, str], ...] = ()  # (mac, address or CIDR)
    security_groups: tuple[str, ...] = ()
    server_id: str | None = None
    trunk: bool = False  # the parent of a trunk: tagged frames at its tap are never of its own network
    branch: Branch | None = None  # set: a trunk's subport, which has no tap of its own


class RuleState(Message, frozen=True, kw_only=True):
    id: str
    direction: str  # "ingress" or "egress"
    ethertype: str  # "IPv4" or "IPv6"
    protocol: str | None = None  # name or number; None: any
    port_min: int | None = None  # ICMP: the type
    port_max: int | None = None  # ICMP: the code
    remote_cidr: str | None = None
    remote_group: str | None = None


class SecurityGroupState(Message, frozen=True, kw_only=True):
    id: str
    stateful: bool = True
    rules: tuple[RuleState, ...] = ()
    members: tuple[str, ...] = ()  # every address of its ports anywhere, for rules with remote_group


class RouterPort(Message, frozen=True, kw_only=True):
    port_id: str
    network_id: str
    mac: str
    addresses: tuple[str, ...]  # with prefix: "10.0.0.1/24"


class FloatingState(Message, frozen=True, kw_only=True):
    id: str
    floating_ip: str
    fixed_ip: str
    port_id: str


class RouterState(Message, frozen=True, kw_only=True):
    id: str
    admin_state_up: bool = True
    gateway: RouterPort | None = None
    gateway_nexthops: tuple[str, ...] = ()  # of the external subnets
    enable_snat: bool = True
    interfaces: tuple[RouterPort, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()  # (destination, nexthop)
    floating_ips: tuple[FloatingState, ...] = ()


class NodeNetwork(Message, frozen=True, kw_only=True):
    """The whole network as one node shall be; the driver works out the difference to what is."""

    revision: int
    networks: tuple[NetworkState, ...] = ()
    ports: tuple[PortState, ...] = ()
    security_groups: tuple[SecurityGroupState, ...] = ()
    routers: tuple[RouterState, ...] = ()
    lease: float = 0.0  # seconds without a controller after which routers and DHCP are given up; 0: never
    report_wanted: bool = True  # also when nothing has changed since the last report: something waits for one


class NetworkReport(Message, frozen=True, kw_only=True):
    revision: int
    ports_up: tuple[str, ...] = ()  # ids of the ports that are wired
    errors: dict[str, str] = {}  # id of a network, port or router: why it could not be made
    lease: float = 0.0  # of the state that was applied: the node keeps to it
    physical_networks: tuple[str, ...] | None = None  # that the node reaches; None: any, as nothing is carried


MetadataServer = Callable[[str], Any]
"""Given a network or router id, an ASGI application that answers 169.254.169.254 for it."""


class NetworkDriver(TapSource, Protocol):
    """Carries the traffic. Level-triggered: `apply` is told the whole state, any number of times."""

    name: str
    settle: float
    """Seconds to wait for more changes before `apply`; 0 for a driver that carries traffic."""

    async def start(self) -> None:
        """Adopt what an earlier process of this node left; guests' traffic never stops for a restart."""
        ...

    async def stop(self) -> None: ...
    async def apply(self, state: NodeNetwork) -> NetworkReport: ...
    async def inventory(self) -> dict[str, set[str]]:
        """What exists on this host now, read from the host: {"networks": ids, "ports": ids, "routers": ids}."""
        ...

    async def teardown(self) -> None:
        """Remove every namespace, device, process, rule and file that this driver ever made, nothing else."""
        ...


# ------------------------------------------------------------------------------------------------ work


class Task(Message, frozen=True, kw_only=True):
    """A unit of work for one node, durable in the controller's database until its result is there."""

    id: str
    kind: str  # "server.build"
    node: str
    resource: str  # tasks of one resource run one at a time, in order
    arguments: msgspec.Raw
    attempt: int = 1
    deadline: float | None = None  # seconds since the epoch
    request_id: str = ""


class ServerTask(Message, frozen=True, kw_only=True):
    """The arguments of every task kind `server.…`, which are the methods of Hypervisor by name:
    build, rebuild, destroy, power_on, power_off, reboot, pause, unpause, suspend, resume, rescue, unrescue, resize,
    snapshot, attach_nic, detach_nic, attach_volume, detach_volume, extend_volume, swap_volume, export_disks,
    end_export, fetch_disks, layout, take_in, send, taken; a build with `source` fetches the disks first. A live move is
    layout, take_in, send, taken, and destroy where it was. A password is never in a task: see `Agent.answer`."""

    server_id: str
    spec: ServerSpec | None = None
    hard: bool = False  # reboot
    timeout: float = 0.0  # power_off, soft reboot
    image_id: str | None = None  # snapshot: the image that waits for the data
    port_id: str | None = None  # attach_nic (found in spec.nics), detach_nic
    volume_id: str | None = None  # attach_volume, extend_volume (found in spec.volumes), detach_volume, swap_volume
    new_volume_id: str | None = None  # swap_volume (found in spec.volumes): what takes the place of volume_id
    source: MoveSource | None = None  # build
    target: MoveTarget | None = None  # send
    layout: str = ""  # take_in


class ServerDone(Message, frozen=True, kw_only=True):
    """The value of a finished `server.…` task."""

    guest: GuestState | None = None
    ports_up: tuple[str, ...] = ()
    bytes_stored: int = 0  # snapshot
    source: MoveSource | None = None  # export_disks
    target: MoveTarget | None = None  # take_in
    layout: str = ""  # layout


class VolumeExport(Message, frozen=True, kw_only=True):
    """Where a storage node gives out a volume: NBD over TLS with a pre-shared key. Any number of guests' nodes may be
    connected at once, as in a live migration or with multiattach; all see the same bytes."""

    volume_id: str
    host: str
    port: int
    name: str  # of the export
    secret: str  # hex: the TLS pre-shared key, whose user is "pileus"


class VolumeTask(Message, frozen=True, kw_only=True):
    """The arguments of every task kind `volume.…`, which are the methods of Storage by name: create, delete, extend,
    snapshot, delete_snapshot, revert, export, unexport, upload, backup, restore, delete_backup, fetch, adopt, reimage.
    The task's resource is `volume:<volume_id>`."""

    volume_id: str
    size_gib: int = 0  # create, extend, restore, fetch, reimage
    image: ImageRef | None = None  # create: from an image; reimage
    source_volume_id: str | None = None  # create: from another volume of this node, perhaps in use; adopt: its old id
    snapshot_id: str | None = None  # create: from a snapshot of this node; snapshot, delete_snapshot, revert
    snapshot_of: str | None = None  # create from snapshot: the volume that it is a snapshot of
    image_id: str | None = None  # upload: the image that waits for the data
    disk_format: str = ""  # upload: "raw" or "qcow2"
    backup_id: str | None = None  # create, backup, restore, delete_backup
    parent_id: str | None = None  # backup: the backup of this node to which it may hold the difference only
    secret: str = ""  # export: the key to give it out with; another than before ends the connections made with that
    read_only: bool = False  # export
    source: VolumeExport | None = None  # fetch: copy from another node, which gives it out
    metadata: dict[str, str] = {}  # of the volume; the fake storage takes its faults from here


class VolumeDone(Message, frozen=True, kw_only=True):
    """The value of a finished `volume.…` task."""

    export: VolumeExport | None = None  # export
    bytes_stored: int = 0  # upload, backup
    incremental: bool = False  # backup: it holds the difference to `parent_id` only, and stands on that


class TaskResult(Message, frozen=True, kw_only=True):
    task_id: str
    node: str
    ok: bool
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""  # what, why and what to do; shown to the user
    retry: bool = False  # the failure may pass by itself


class GuestReport(Message, frozen=True, kw_only=True):
    """A guest's power changed by itself."""

    node: str
    server_id: str
    power: str


class NodeLink(Protocol):
    """The one connection of a node to its controllers: in process, over TLS, or through RabbitMQ."""

    node: str

    async def register(self, facts: HypervisorFacts) -> None: ...
    async def heartbeat(self, facts: HypervisorFacts | None = None) -> None: ...
    def tasks(self) -> AsyncIterator[Task]:
        """Every task for this node that is not done: first those missed, then each as it comes."""
        ...

    async def finish(self, result: TaskResult) -> None: ...
    async def guest_changed(self, report: GuestReport) -> bool:
        """A guest changed by itself. True when something is done to its server: then it is to be told again after."""
        ...

    async def network_state(self) -> NodeNetwork: ...
    def network_changes(self) -> AsyncIterator[None]:
        """Yields whenever `network_state` may have changed."""
        ...

    async def network_report(self, report: NetworkReport) -> None: ...
    def image_bytes(self, image_id: str) -> AsyncIterator[bytes]:
        """The stored bytes of an image that a guest placed on this node needs."""
        ...

    async def image_store(self, image_id: str, file: Path) -> None:
        """Upload a snapshot's data into the image that the API made for it."""
        ...

    async def metadata(
        self, network_id: str, address: str, method: str, path: str, body: bytes
    ) -> tuple[int, str, bytes]:
        """Answer a guest's metadata request, from `address` on a network (or router): status, content type, body."""
        ...
