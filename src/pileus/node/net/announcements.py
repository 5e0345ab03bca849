"""IPv6 router advertisements, sent by a dnsmasq in the router's namespace.

There, because an advertisement must come from the link-local address of the router's own interface. It hands
out no addresses: those come from the network's own DHCP server.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pileus.node.contract import NetworkState, RouterPort, RouterState, SubnetState
from pileus.node.net import names
from pileus.node.net.dhcp import DhcpFiles
from pileus.node.net.settings import NetSettings

# After "dhcp-range=<prefix>,": SLAAC alone; SLAAC and other settings by DHCPv6; addresses by DHCPv6
_MODES = {"slaac": "ra-only,64", "dhcpv6-stateless": "ra-stateless,64", "dhcpv6-stateful": "static,{size}"}


def announced(router: RouterState, networks: dict[str, NetworkState]) -> list[tuple[RouterPort, SubnetState]]:
    """The subnets that the router must announce, each with the interface to do it on."""
    found = []
    for port in router.interfaces:
        network = networks.get(port.network_id)
        addresses = [ipaddress.ip_interface(text).ip for text in port.addresses]
        for subnet in network.subnets if network else ():
            if subnet.ipv6_ra_mode in _MODES and any(ip in ipaddress.ip_network(subnet.cidr) for ip in addresses):
                found.append((port, subnet))
    return found


def render(router: RouterState, networks: dict[str, NetworkState], settings: NetSettings, folder: Path) -> DhcpFiles:
    """dnsmasq's files for a router with announced subnets."""
    lines = [
        "port=0",
        "bind-interfaces",
        "except-interface=lo",
        f"log-facility={folder / 'log'}",
        "quiet-dhcp6",
        "quiet-ra",
        "enable-ra",
        "leasefile-ro",
        # It must not answer for the network's own DHCPv6 server.
        "dhcp-ignore=tag:!nobody",
        f"user={settings.dnsmasq_user}",
        f"pid-file={folder / 'pid'}",
        f"dhcp-optsfile={folder / 'options'}",
    ]
    options = []
    for port, subnet in announced(router, networks):
        leg = names.router_leg(port.port_id, gateway=False)
        net = ipaddress.ip_network(subnet.cidr)
        mode = _MODES[subnet.ipv6_ra_mode or "slaac"].format(size=net.prefixlen)
        lines += [
            f"interface={leg}",
            f"dhcp-range=set:subnet-{subnet.id},{net.network_address},{mode},{settings.dhcp_lease_seconds}s",
            f"ra-param={leg},mtu:{networks[port.network_id].mtu},high,30,1800",
        ]
        if subnet.dns_nameservers:
            servers = ",".join(f"[{ipaddress.ip_address(ip)}]" for ip in subnet.dns_nameservers)
            options.append(f"tag:subnet-{subnet.id},option6:dns-server,{servers}")
    text = "".join(line + "\n" for line in options)
    return DhcpFiles("\n".join(dict.fromkeys(lines)) + "\n", "", text, text, "", {}, {})
