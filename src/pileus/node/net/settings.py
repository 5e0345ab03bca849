"""What a node must be told of itself before it can carry traffic."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from pathlib import Path

import msgspec

_PREFIX = re.compile(r"[a-z][a-z0-9]{0,15}")


class HostBridge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bridge in the host's namespace that the driver makes and, having made it, removes at teardown.

    With `masquerade` the host is the outside of the cloud: IPv4 leaving through another interface takes the
    host's address.
    """

    name: str
    addresses: tuple[str, ...] = ()  # with prefix: "172.24.4.1/24"
    masquerade: bool = False


class NetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the network driver. `prefix` keeps several agents on one machine apart.

    Files of DHCP servers stand apart from other state: an unprivileged user reads them, and like the namespaces
    they serve they do not outlive the machine's start.
    """

    state_dir: Path
    run_dir: Path = Path("/run/pileus-net")
    prefix: str = "pileus"
    physical_networks: dict[str, str] = {}  # physical network: bridge in the host's namespace
    host_bridges: tuple[HostBridge, ...] = ()
    vtep: str | None = None  # this node's underlay address; None: no tunnels
    vxlan_port: int = 4789
    dns_forwarders: tuple[str, ...] = ()  # empty: the host's resolvers
    dhcp_lease_seconds: int = 86400
    dnsmasq_user: str = "dnsmasq"
    tap_wait_seconds: float = 10.0  # how long open_tap waits for a port that it has not heard of

    @property
    def dhcp_dir(self) -> Path:
        """The folder with a folder for each DHCP server of this node."""
        return self.run_dir / self.prefix

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"network prefix {self.prefix!r}: give 1 to 16 of a-z and 0-9, a letter first; it names namespaces"
            )


def resolvers(text: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf(5), without those that only the host itself can reach."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and "%" not in words[1]:
            with contextlib.suppress(ValueError):
                address = ipaddress.ip_address(words[1])
                if not (address.is_loopback or address.is_link_local):
                    found.append(str(address))
    return tuple(found)
