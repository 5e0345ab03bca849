"""Every option of Pileus, each one declared record: name, type, default, help.

Read from, later wins: defaults, the TOML file, the environment (`PILEUS_NAME`), the command line (`--set name=value`).
The settings reference and the command line derive from this struct.
"""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import quote

import msgspec
from msgspec import Meta

CLASSIC_PORTS = {
    "identity": 5000, "image": 9292, "compute": 8774, "placement": 8778, "network": 9696, "volume": 8776, "ec2": 8773,
}
"""Where each service is found by those who know OpenStack's own ports, by the name of its room."""


def _help(text: str, **rest: Any) -> Meta:
    return Meta(description=text, **rest)


class SettingsError(ValueError):
    """A setting that does not exist or has a value it cannot have."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All options."""

    # where
    state_dir: Annotated[str, _help(
        "Folder of all state: database, images, guests, keys. Without root: ~/.local/state/pileus."
    )] = "/var/lib/pileus"
    run_dir: Annotated[str, _help("Folder of sockets and pid files; empty: `run` inside state_dir.")] = ""
    database: Annotated[
        str,
        _help(
            "Database URL: sqlite:///PATH, postgresql://USER:PASSWORD@HOST/NAME or mysql://…, with several hosts as "
            "HOST1,HOST2:PORT in the order in which they are tried; empty: SQLite in state_dir."
        ),
    ] = ""
    database_password_file: Annotated[
        str, _help("File that holds the password of `database`, when it shall not stand in the URL.")
    ] = ""
    database_wait: Annotated[
        float,
        _help("Seconds for which a request waits for a database server that is away, before it ends with 503.", ge=0),
    ] = 15.0
    database_synchronous: Annotated[
        Literal["FULL", "NORMAL"],
        _help("SQLite only. FULL survives a power cut at any moment, NORMAL may lose the last moments (never more)."),
    ] = "FULL"
    database_pool: Annotated[int, _help("Connections to a database server, and threads that use them.", ge=1)] = 10
    bus: Annotated[
        str,
        _help(
            "What carries wakes between controllers; empty: their own links; RabbitMQ: "
            "amqp://USER:PASSWORD@HOST:PORT,HOST:PORT/VHOST, or amqps://… with ?cafile=PATH."
        ),
    ] = ""

    # web
    listen: Annotated[str, _help("Address and port of all APIs.")] = "127.0.0.1:8080"
    public_url: Annotated[
        str, _help("What clients reach `listen` as; empty: as the request says, and http://LISTEN.")
    ] = ""
    auth_url: Annotated[
        str,
        _help("Where identity is, as clouds.yaml and refusals say; empty: here, or where the catalog says.")
    ] = ""
    classic_ports: Annotated[
        bool, _help(f"Also open each service's classic port: {', '.join(map(str, CLASSIC_PORTS.values()))}.")
    ] = False
    services: Annotated[
        tuple[str, ...], _help("Which services this controller serves; empty: all.")
    ] = ()
    max_body: Annotated[int, _help("Largest request body in bytes, but for uploads.", ge=1024)] = 1 << 20
    region: Annotated[str, _help("Name of the region in the catalog.")] = "RegionOne"
    policy_file: Annotated[str, _help("YAML file in oslo.policy's format whose rules override the defaults.")] = ""
    log_format: Annotated[Literal["text", "json"], _help("Shape of the log lines.")] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _help("Least level that is logged.")
    ] = "info"

    # cluster
    cluster_listen: Annotated[
        str, _help(
            "Address and port on which nodes join and connect (TLS); empty: none with `pileus up`, 0.0.0.0:8443 with "
            "`pileus server`."
        )
    ] = ""
    cluster_address: Annotated[
        str, _help("HOST:PORT at which others reach cluster_listen; empty: found from this host's addresses.")
    ] = ""
    address: Annotated[
        str, _help("This node's address on the network between nodes; empty: the one it reaches its controller from.")
    ] = ""
    roles: Annotated[
        tuple[str, ...],
        _help("What an agent is, of compute, network, storage; empty: all that its join token allows."),
    ] = ()
    server_user: Annotated[
        str, _help("Account that `pileus server` runs as when root starts it; made when missing.")
    ] = "pileus"

    # identity
    admin_password: Annotated[
        str, _help("Password of `admin` at the first start; empty: made up, and written to clouds.yaml.")
    ] = ""
    token_hours: Annotated[float, _help("How long a token is valid.", gt=0)] = 24.0
    bcrypt_rounds: Annotated[int, _help("Cost of password hashes, as a power of two.", ge=4, le=16)] = 12
    password_memory_minutes: Annotated[
        float,
        _help(
            "How long a keyed digest of an accepted password is kept, in memory only, to issue tokens quickly; "
            "0: never.",
            ge=0,
        ),
    ] = 5.0

    lockout_failures: Annotated[int, _help("Wrong passwords in a row that lock an account; 0: never.", ge=0)] = 0
    lockout_minutes: Annotated[float, _help("How long a locked account stays locked.", gt=0)] = 30.0
    password_days: Annotated[int, _help("Days until a password expires; 0: never.", ge=0)] = 0
    password_history: Annotated[int, _help("How many earlier passwords may not be used again.", ge=0)] = 0
    password_minimum_days: Annotated[int, _help("Days a user must keep a new password.", ge=0)] = 0
    password_pattern: Annotated[str, _help("Regular expression that new passwords must match; empty: any.")] = ""

    # image
    image_max_size: Annotated[int, _help("Largest image in bytes.", ge=1)] = 1 << 40
    image_copies: Annotated[
        int, _help("On how many controllers each image is kept; on all where there are fewer.", ge=1)
    ] = 2
    image_extra_size: Annotated[
        int, _help("Bytes of images that a controller keeps beyond the copies that it must have.", ge=0)
    ] = 20 << 30
    image_shared: Annotated[
        bool, _help("The folder `images` of all controllers' state_dir is one and the same (NFS, CephFS).")
    ] = False
    image_format_match: Annotated[
        bool, _help("Refuse uploads whose content is not of the disk_format they claim; unsafe content always is.")
    ] = True
    import_allow_private: Annotated[
        bool, _help("Let web-download fetch from loopback, link-local and private addresses.")
    ] = False

    # compute
    hypervisor: Annotated[
        Literal["qemu", "fake"], _help(
            "qemu boots real guests; fake boots none and says so. Never chosen by itself. Of a controller: what its "
            "nodes are."
        )
    ] = "qemu"
    fake_nodes: Annotated[int, _help("With the fake hypervisor: how many nodes this process plays.", ge=1, le=2000)] = 1
    node_name: Annotated[str, _help("Name of this node; empty: the host's name.")] = ""
    accelerator: Annotated[
        Literal["auto", "kvm", "tcg"], _help("How QEMU runs guests; auto proves KVM with a tiny guest first.")
    ] = "auto"
    image_cache_hours: Annotated[
        float, _help("Hours for which a node keeps an image that no guest there stands on any more.", ge=1)
    ] = 24.0
    cpu_model: Annotated[str, _help(
        "Processor that guests see, by QEMU's name (Skylake-Server-v1); empty: with KVM the host's own, with which a "
        "running guest moves only between hosts of the very same processor."
    )] = ""
    disks_dir: Annotated[str, _help(
        "Folder of guests' disks on storage that several nodes share, so that guests move without them; empty: in "
        "state_dir."
    )] = ""
    move_ports: Annotated[
        tuple[int, int], _help("First and last TCP port on which a node takes in guests and gives out their disks.")
    ] = (49152, 49215)
    qemu_user: Annotated[str, _help("Unprivileged user that QEMU runs as; made when missing.")] = "pileus-qemu"
    volume_ports: Annotated[
        tuple[int, int], _help("First and last TCP port on which a node gives out volumes, one each.")
    ] = (24000, 25999)
    storage_user: Annotated[
        str, _help("Unprivileged user to whom volumes belong, and as which they are given out; made when missing.")
    ] = "pileus-storage"
    cpu_allocation_ratio: Annotated[float, _help("How often each host CPU is promised.", gt=0)] = 16.0
    ram_allocation_ratio: Annotated[float, _help("How often the host's memory is promised.", gt=0)] = 1.0
    disk_allocation_ratio: Annotated[float, _help("How often the host's disk is promised.", gt=0)] = 1.0
    reserved_memory: Annotated[int, _help("Memory in MiB kept from guests.", ge=0)] = 512
    max_instances_per_host: Annotated[
        int, _help("Servers that a node takes at most; 0: any number. Aggregates' metadata may say otherwise.", ge=0)
    ] = 0
    max_io_ops_per_host: Annotated[
        int,
        _help("Servers with a task under way that a node may have to take another; 0: any number. Aggregates' metadata "
              "may say otherwise.", ge=0),
    ] = 0
    ram_weight_multiplier: Annotated[
        float, _help("How much free memory counts when a node is chosen; below 0: the fullest node first. Aggregates' "
                     "metadata may set this and the other multipliers for their nodes.")
    ] = 1.0
    cpu_weight_multiplier: Annotated[float, _help("How much free processors count.")] = 1.0
    disk_weight_multiplier: Annotated[float, _help("How much free disk counts.")] = 1.0
    io_ops_weight_multiplier: Annotated[
        float, _help("How much a node's servers with a task under way count; below 0: against it.")
    ] = -1.0
    num_instances_weight_multiplier: Annotated[float, _help("How much the number of a node's servers counts.")] = 0.0
    hypervisor_version_weight_multiplier: Annotated[float, _help("How much a newer hypervisor counts.")] = 0.0
    soft_affinity_weight_multiplier: Annotated[
        float, _help("How much it counts that members of a server group with soft affinity are on the node.", ge=0)
    ] = 10.0
    soft_anti_affinity_weight_multiplier: Annotated[
        float, _help("How much members of a server group with soft anti-affinity count against a node.", ge=0)
    ] = 10.0
    build_failure_weight_multiplier: Annotated[
        float, _help("How much it counts against a node that it failed to build its last servers.", ge=0)
    ] = 1_000_000.0
    scheduler_query_hint: Annotated[
        bool, _help("Heed the hint `query`, by which users choose nodes by what these are and have free.")
    ] = False
    novnc_dir: Annotated[str, _help("Where noVNC's files are (package novnc).")] = "/usr/share/novnc"
    availability_zone: Annotated[str, _help("Zone of nodes that no aggregate puts into another.")] = "nova"
    purge_deleted_days: Annotated[
        float,
        _help("Days for which deleted servers are remembered: in lists, their logs and projects' usage; 0: for ever.",
              ge=0),
    ] = 30.0
    shutdown_timeout: Annotated[
        float, _help("Seconds a guest may take to shut down before its plug is pulled.", ge=0)
    ] = 60.0
    build_timeout: Annotated[
        float, _help("Seconds after which a task that its node has not done is failed.", gt=0)
    ] = 600.0

    ha_evacuate: Annotated[bool, _help(
        "Build the servers of a node that is down again on other nodes, from their images, once fence_command has "
        "made sure that the node is off. Never without fence_command."
    )] = False
    ha_grace: Annotated[float, _help(
        "Seconds for which a node has to be down (no heartbeat for 30 s) before it is fenced.", ge=0
    )] = 30.0
    fence_command: Annotated[str, _help(
        "Shell command that a controller runs to switch a node off, with PILEUS_NODE and PILEUS_ADDRESS in its "
        "environment; exit code 0 means that the node is off for sure. It may be run again for the same node."
    )] = ""

    # network
    physical_networks: Annotated[
        dict[str, str], _help("Physical network name to Linux bridge on the host.")
    ] = msgspec.field(default_factory=lambda: {"public": "pileus-ex"})
    public_network: Annotated[
        str, _help("CIDR of the external network `public` that the first start makes; empty: none is made.")
    ] = "172.24.4.0/24"
    public_gateway: Annotated[
        str, _help("The host's own address on that network, as its gateway; empty: another router is the gateway.")
    ] = "172.24.4.1"
    host_gateway: Annotated[
        Literal["auto", "yes", "no"],
        _help(
            "Whether this node makes the bridge of `public` with public_gateway as its address, and masquerades; auto: "
            "where all is in one process. A node that joins a cloud only uses bridges that are there."
        ),
    ] = "auto"
    masquerade: Annotated[
        bool, _help("NAT the external network to the host's uplink, so that guests reach the outside.")
    ] = True
    namespace_prefix: Annotated[
        str, _help("Start of the names of all namespaces and devices made here, of each node its own.", max_length=5)
    ] = "pil"
    mtu: Annotated[int, _help("MTU of the underlay between nodes.", ge=576, le=9216)] = 1500
    vni_range: Annotated[tuple[int, int], _help("VXLAN network identifiers for tenant networks.")] = (1, 65535)
    dns_domain: Annotated[str, _help("Domain of guests' names.")] = "pileus.internal"
    dns_servers: Annotated[tuple[str, ...], _help("Where DHCP's DNS forwards to; empty: the host's resolvers.")] = ()

    @property
    def state(self) -> Path:
        """`state_dir` as a path."""
        return Path(self.state_dir)

    @property
    def run(self) -> Path:
        """The folder of sockets and pid files."""
        return Path(self.run_dir) if self.run_dir else self.state / "run"

    @property
    def database_url(self) -> str:
        """The database's URL, the default filled in."""
        if self.database_password_file:
            return _with_password(self.database, Path(self.database_password_file))
        return self.database or f"sqlite:///{self.state / 'pileus.db'}"

    @property
    def endpoint(self) -> str:
        """The URL that the catalog gives, without a slash at the end."""
        return self.public_url.rstrip("/") or f"http://{self.api_address}"

    @property
    def api_address(self) -> str:
        """HOST:PORT at which others reach `listen`, as well as this host can know."""
        host, _, port = self.listen.rpartition(":")
        if host.strip("[]") in ("", "0.0.0.0", "::"):  # no address at which anyone could reach it
            host = self.address or _own_address()
            host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}"


def _own_address() -> str:
    """This host's address towards others, as its routing table says; nothing is sent."""
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((somewhere, 9))
            except OSError:
                continue
            return str(probe.getsockname()[0])
    return socket.gethostname()


_SECRET = re.compile(r"://[^/@\s]*:[^/@\s]+@")


def holds_password(value: object) -> bool:
    """Whether a setting's value is a URL with a password."""
    return isinstance(value, str) and _SECRET.search(value) is not None


def secrets_for_all(file: Path) -> bool:
    """Whether a settings file has passwords in it and any account of this host may read it."""
    try:
        values = tomllib.loads(file.read_text())
        return bool(file.stat().st_mode & 0o004) and any(
            holds_password(value) or (name == "admin_password" and value) for name, value in values.items()
        )
    except (OSError, ValueError):
        return False


def _with_password(url: str, file: Path) -> str:
    try:
        password = file.read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"setting 'database_password_file': {error}") from None
    return put_password(url, password, "setting 'database_password_file'")


def put_password(url: str, password: str, source: str) -> str:
    """A URL of a user without a password, with it. Raises SettingsError, naming the source of the password."""
    scheme, mark, rest = url.partition("://")
    user, at, place = rest.partition("@")
    if not at or not user or ":" in user:
        raise SettingsError(f"{source}: write the database URL as postgresql://USER@HOST/NAME then")
    return f"{scheme}{mark}{user}:{quote(password, safe='')}@{place}"


def without_password(url: str) -> str:
    """The same URL without its password."""
    scheme, mark, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{account.partition(':')[0]}{at}{place}"


def load(
    file: Path | None = None, environment: Mapping[str, str] | None = None, overrides: Mapping[str, str] | None = None
) -> Settings:
    """The settings from all sources. Raises SettingsError, naming the setting and what it can be."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values.update(tomllib.loads(file.read_text()))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{file}: {error}") from None
    names = set(Settings.__struct_fields__)
    for key, value in (environment if environment is not None else os.environ).items():
        name = key.removeprefix("PILEUS_").lower()
        if key.startswith("PILEUS_") and name in names:
            values[name] = _parse(name, value)
    for name, value in (overrides or {}).items():
        if name not in names:
            raise SettingsError(f"there is no setting '{name}'; `pileus docs settings` lists them")
        values[name] = _parse(name, value)
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings: {error}") from None


def _parse(name: str, value: str) -> Any:
    kind = get_args(get_type_hints(Settings, include_extras=True)[name])[0]
    origin = get_origin(kind)
    if origin is tuple:
        return [part for part in value.split(",") if part]
    if origin is dict:
        parts = [part for part in value.split(",") if part]
        if wrong := next((part for part in parts if ":" not in part), None):
            raise SettingsError(f"setting '{name}': write key:value,key:value, not '{wrong}'")
        return dict(part.split(":", 1) for part in parts)
    return value


def reference() -> list[tuple[str, str, str, str]]:
    """Name, type, default and help of every setting, in order, for the generated documentation."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for f in msgspec.structs.fields(Settings):
        kind, *metas = get_args(hints[f.name])
        text = next((m.description for m in metas if isinstance(m, Meta) and m.description), "")
        default = f.default_factory() if f.default is msgspec.NODEFAULT else f.default
        options = " | ".join(map(str, get_args(kind))) if get_origin(kind) is Literal else _type_name(kind)
        rows.append((f.name, options, msgspec.json.encode(default).decode(), text))
    return rows


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind).replace("typing.", "")
