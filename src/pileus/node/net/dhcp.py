"""What dnsmasq is told about one network: its configuration, hosts, options and names, as text.

Nothing here touches a host. Addresses are static, by MAC; whoever is not known gets no answer.
Text that tenants chose is checked before it comes near a file (OSSA-2021-005).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pileus.node.contract import HostEntry, NetworkState, SubnetState
from pileus.node.net import names
from pileus.node.net.dhcp_options import option_number
from pileus.node.net.settings import NetSettings

TAG = "set:"
"""dnsmasq 2.90 crashes on SIGHUP once a host with a tag has had an answer: it frees what it never allocated."""

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
_VALUE = re.compile(r'[^"#\\\x00-\x1f\x7f]*')
_STATIC6 = ("dhcpv6-stateful", "dhcpv6-stateless")


class DhcpFiles(msgspec.Struct, frozen=True):
    """The files of one dnsmasq. `config` is read at start only, the others again on SIGHUP."""

    config: str
    hosts: str
    options: str
    plain_options: str  # without what tenants asked for, should dnsmasq refuse that
    addresses: str  # hosts(5)
    owners: dict[str, str]  # address: MAC
    problems: dict[str, str]  # port id: what of its options cannot be used


def served(subnet: SubnetState) -> bool:
    """Whether dnsmasq hands out addresses or options in this subnet."""
    if not subnet.enable_dhcp:
        return False
    return subnet.ip_version == 4 or subnet.ipv6_address_mode in _STATIC6


def render(network: NetworkState, settings: NetSettings, folder: Path) -> DhcpFiles:
    """All files for one network; `folder` is where they will be."""
    problems: dict[str, str] = {}
    plain = [line for subnet in network.subnets if served(subnet) for line in _subnet_options(network, subnet)]
    extra = [line for host in network.hosts for line in _host_options(host, problems)]
    return DhcpFiles(
        config="\n".join(_config(network, settings, folder)) + "\n",
        hosts="".join(line + "\n" for line in _hosts(network)),
        options="".join(line + "\n" for line in [*plain, *extra]),
        plain_options="".join(line + "\n" for line in plain),
        addresses="".join(line + "\n" for host in network.hosts for line in _name_lines(network, host)),
        owners={ip: host.mac for host in network.hosts for ip in host.ips},
        problems=problems,
    )


def _plain(address: str) -> str:
    """An address as text that cannot be anything else; raises ValueError."""
    return str(ipaddress.ip_address(address))


def _domain(network: NetworkState) -> str:
    domain = network.dns_domain.strip(".")
    return domain if _DOMAIN.fullmatch(domain) else ""


def _config(network: NetworkState, settings: NetSettings, folder: Path) -> Iterator[str]:
    yield from (
        f"interface={names.SWITCH}",
        "except-interface=lo",
        "bind-interfaces",
        "no-hosts",
        "no-resolv",
        "no-poll",
        "no-negcache",
        # A file, because the process outlives the agent's own streams; quiet, because nobody rotates it.
        f"log-facility={folder / 'log'}",
        "quiet-dhcp",
        "quiet-dhcp6",
        f"user={settings.dnsmasq_user}",
        f"pid-file={folder / 'pid'}",
        f"dhcp-hostsfile={folder / 'hosts'}",
        f"dhcp-optsfile={folder / 'options'}",
        f"addn-hosts={folder / 'addresses'}",
        "leasefile-ro",
        "dhcp-authoritative",
        f"dhcp-option-force=option:mtu,{network.mtu}",
    )
    if domain := _domain(network):
        yield f"domain={domain}"
        yield f"local=/{domain}/"
    for address in settings.dns_forwarders:
        yield f"server={address}"
    for subnet in network.subnets:
        if served(subnet):
            net = ipaddress.ip_network(subnet.cidr)
            size = net.netmask if net.version == 4 else net.prefixlen
            yield f"dhcp-range=set:{_tag(subnet)},{net.network_address},static,{size},{settings.dhcp_lease_seconds}s"


def _tag(subnet: SubnetState) -> str:
    return f"subnet-{subnet.id}"


def _hostname(host: HostEntry, address: str) -> str:
    if _HOSTNAME.fullmatch(host.hostname):
        return host.hostname.lower()
    return "host-" + address.replace(".", "-").replace(":", "-").strip("-").replace("--", "-")


def _names(network: NetworkState, host: HostEntry, address: str) -> list[str]:
    domain, name = _domain(network), _hostname(host, address)
    return [f"{name}.{domain}", name] if domain else [name]


def _name_lines(network: NetworkState, host: HostEntry) -> Iterator[str]:
    for ip in host.ips:
        yield f"{_plain(ip)} {' '.join(_names(network, host, ip))}"


def _hosts(network: NetworkState) -> Iterator[str]:
    """One line an address: dnsmasq takes the one that fits the subnet it is asked in."""
    ranges = [ipaddress.ip_network(subnet.cidr) for subnet in network.subnets if served(subnet)]
    for host in network.hosts:
        for address in map(ipaddress.ip_address, host.ips):
            if any(address in net for net in ranges):
                shown = f"[{address}]" if address.version == 6 else str(address)
                mac = names.mac_text(host.mac)
                # Only where it is needed: see TAG.
                tag = f"{TAG}port-{host.port_id}," if host.dhcp_options else ""
                yield f"{mac},{tag}{shown},{_hostname(host, str(address))}"


def _server(network: NetworkState, subnet: SubnetState) -> str | None:
    """The DHCP server's own address in a subnet."""
    if subnet.dhcp_ip:
        return subnet.dhcp_ip
    net = ipaddress.ip_network(subnet.cidr)
    own = network.dhcp_port.ips if network.dhcp_port else ()
    return next((ip for ip in own if ipaddress.ip_address(ip) in net), None)


def _subnet_options(network: NetworkState, subnet: SubnetState) -> Iterator[str]:
    tag = f"tag:{_tag(subnet)}"
    server = _server(network, subnet)
    if subnet.ip_version == 6:
        resolvers = subnet.dns_nameservers or ((server,) if server else ())
        if resolvers:
            yield f"{tag},option6:dns-server,{','.join(f'[{_plain(ip)}]' for ip in resolvers)}"
        if domain := _domain(network):
            yield f"{tag},option6:domain-search,{domain}"
        return
    yield f"{tag},option:router" + (f",{_plain(subnet.gateway_ip)}" if subnet.gateway_ip else "")
    resolvers = subnet.dns_nameservers or ((server,) if server else ())
    if resolvers:
        yield f"{tag},option:dns-server,{','.join(map(_plain, resolvers))}"
    routes = _routes(network, subnet, server)
    if routes:
        text = ",".join(f"{ipaddress.ip_network(destination)},{_plain(nexthop)}" for destination, nexthop in routes)
        # 249 is what Windows asks for instead of 121
        yield f"{tag},121,{text}"
        yield f"{tag},249,{text}"


def _routes(network: NetworkState, subnet: SubnetState, server: str | None) -> list[tuple[str, str]]:
    """Clients that read option 121 ignore option 3 (RFC 3442), so that the default route is here too."""
    routes = list(subnet.host_routes)
    if server and not any(destination == f"{names.METADATA4}/32" for destination, _ in routes):
        routes.append((f"{names.METADATA4}/32", server))
    others = [other for other in network.subnets if other.ip_version == 4 and other.id != subnet.id]
    routes += [(other.cidr, "0.0.0.0") for other in others]
    if subnet.gateway_ip and not any(destination == "0.0.0.0/0" for destination, _ in routes):
        routes.append(("0.0.0.0/0", subnet.gateway_ip))
    return routes


def _host_options(host: HostEntry, problems: dict[str, str]) -> Iterator[str]:
    for name, value, version in host.dhcp_options:
        number = option_number(name, version)
        if number is None:
            problems[host.port_id] = f"DHCP option {name!r} is not known for IPv{version}; it is not sent"
        elif not _VALUE.fullmatch(value):
            problems[host.port_id] = f"DHCP option {name!r}: its value has characters that cannot be sent"
        else:
            kind = "option6:" if version == 6 else ""
            yield f"tag:port-{host.port_id},{kind}{number}" + (f",{value}" if value else "")
