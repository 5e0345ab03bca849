"""What a guest may ask at 169.254.169.254, and what its config drive holds: one content, two ways.

The layouts are those of the OpenStack metadata service and of EC2's, which cloud-init reads.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.compute import devices, servers
from pileus.compute.schemas import FlavorFacts
from pileus.ec2 import ids
from pileus.network import networks, ports

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.network.ports import PortInfo

Answer = tuple[int, str, bytes]

OPENSTACK = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
    "2020-10-14", "latest",
)
EC2 = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "latest",
)
_MOST_PASSWORD = 1020
_NO_IMAGE = "0" * 32
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"


def answer(tx: Tx, cloud: Cloud, server_id: str, port: PortInfo | None, path: str) -> Answer:
    """One question of a guest: status, content type, body."""
    row = servers.any_row(tx, server_id)
    if row is None or row.deleted:
        return 404, _TEXT, b"404 Not Found\n"
    parts = _parts(path)
    own = ports.of_servers(tx, [server_id]).get(server_id, [])
    disks = devices.of_server(tx, server_id)
    found = (
        _openstack(cloud, row, own, disks, parts[1:]) if parts[:1] == ["openstack"] else _ec2(row, own, disks, parts)
    )
    return found if found is not None else (404, _TEXT, b"404 Not Found\n")


def post(tx: Tx, cloud: Cloud, server_id: str, path: str, body: bytes) -> Answer:
    """What a guest sends: only `openstack/VERSION/password` is kept, and only once."""
    row = servers.held(tx, server_id)
    if row is None or row.deleted:
        return 404, _TEXT, b"404 Not Found\n"
    return _keep_password(tx, row, _parts(path), body)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("?")[0].split("/") if part]


def drive_files(
    cloud: Cloud, row: Any, own: list[PortInfo], disks: Sequence[Any] = ()
) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file of the config drive."""
    for version in OPENSTACK:
        for name, make, since in _FILES:
            if version >= since:  # "latest" sorts behind every date
                content = make(cloud, row, own, disks)
                if content is not None:
                    yield f"openstack/{version}/{name}", content
    yield "ec2/latest/meta-data.json", _encode(_ec2_tree(row, own, disks))
    if row.user_data is not None:
        yield "ec2/latest/user-data", user_data(row)


# -- OpenStack's layout


def _openstack(
    cloud: Cloud, row: Any, own: list[PortInfo], disks: Sequence[Any], parts: list[str]
) -> Answer | None:
    if not parts:
        return 200, _TEXT, "\n".join(OPENSTACK).encode()
    version, rest = parts[0], parts[1:]
    if version not in OPENSTACK:
        return None
    if rest == ["password"] and version >= "2013-10-17":
        return 200, _TEXT, (row.password_data or "").encode()
    files = {name: make for name, make, since in _FILES if version >= since}
    if not rest:
        names = [name for name, make in files.items() if name != "user_data" or row.user_data is not None]
        if version >= "2013-10-17":
            names.append("password")
        return 200, _TEXT, "\n".join(names).encode()
    if len(rest) > 1 or rest[0] not in files:
        return None
    content = files[rest[0]](cloud, row, own, disks)
    if content is None:
        return None
    return 200, "application/octet-stream" if rest[0] == "user_data" else _JSON, content


def _meta_data(cloud: Cloud, row: Any, own: list[PortInfo], disks: Sequence[Any]) -> bytes:
    data: dict[str, Any] = {
        "uuid": row.id, "name": row.name, "hostname": _full_name(cloud, row), "launch_index": row.launch_index,
        "availability_zone": row.zone or "", "project_id": row.project_id,
        "random_seed": base64.b64encode(cloud.world.secret(512).encode()[:512]).decode(),
        "devices": _devices(row, own, disks), "dedicated_cpus": [],
    }
    if row.metadata:
        data["meta"] = row.metadata
    if row.key_data:
        data["public_keys"] = {row.key_name: row.key_data}
        data["keys"] = [{"name": row.key_name, "type": "ssh", "data": row.key_data}]
    return _encode(data)


def _full_name(cloud: Cloud, row: Any) -> str:
    domain = cloud.settings.dns_domain
    return row.hostname if "." in row.hostname or not domain else f"{row.hostname}.{domain}"


def _devices(row: Any, own: list[PortInfo], disks: Sequence[Any]) -> list[dict[str, Any]]:
    """Only devices that the user tagged are told of."""
    found: list[dict[str, Any]] = [
        {"type": "nic", "bus": "none", "address": "none", "mac": port.mac, "tags": [row.nic_tags[port.id]]}
        for port in own if port.id in row.nic_tags
    ]
    for disk in disks:
        if disk.tag:
            serial = {"serial": disk.volume_id} if disk.volume_id else {}
            found.append({
                "type": "disk", "bus": "none", "address": "none", **serial, "path": disk.device, "tags": [disk.tag],
            })
    return found


def _network_data(cloud: Cloud, row: Any, own: list[PortInfo], disks: Sequence[Any]) -> bytes:
    links: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for port in own:
        link = f"tap{port.id[:11]}"
        links.append({"id": link, "vif_id": port.id, "type": "bridge", "mtu": port.mtu,
                      "ethernet_mac_address": port.mac})
        for subnet, (_, address) in zip(port.subnets, port.fixed_ips, strict=True):
            found.append(_network(f"network{len(found)}", link, port, subnet, address))
            for server in subnet.dns_nameservers:
                service = {"type": "dns", "address": server}
                if service not in services:
                    services.append(service)
    return _encode({"links": links, "networks": found, "services": services})


def _network(name: str, link: str, port: PortInfo, subnet: networks.SubnetInfo, address: str) -> dict[str, Any]:
    cidr = ipaddress.ip_network(subnet.cidr)
    v6 = cidr.version == 6
    everything = "::" if v6 else "0.0.0.0"
    routes = []
    if subnet.gateway_ip:
        routes.append({"network": everything, "netmask": everything, "gateway": subnet.gateway_ip})
    for destination, nexthop in subnet.host_routes:
        to = ipaddress.ip_network(destination, strict=False)
        routes.append({"network": str(to.network_address), "netmask": str(to.netmask), "gateway": nexthop})
    kind = f"ipv{cidr.version}"
    if v6 and subnet.ipv6_address_mode:
        kind = f"ipv6_{subnet.ipv6_address_mode.replace('-', '_')}" if "slaac" not in subnet.ipv6_address_mode else (
            "ipv6_slaac"
        )
    data = {"id": name, "link": link, "network_id": port.network_id, "type": kind}
    if subnet.enable_dhcp and not v6:
        return {**data, "type": "ipv4_dhcp"}
    return {
        **data, "ip_address": address, "netmask": str(cidr.netmask), "routes": routes,
        "services": [{"type": "dns", "address": server} for server in subnet.dns_nameservers],
    }


def user_data(row: Any) -> bytes:
    """User data as the guest gets it, decoded."""
    return base64.b64decode("".join(row.user_data.split()))


_Make = Callable[["Cloud", Any, "list[PortInfo]", Sequence[Any]], "bytes | None"]
_FILES: tuple[tuple[str, _Make, str], ...] = (
    ("meta_data.json", _meta_data, "2012-08-10"),
    ("user_data", lambda cloud, row, own, disks: None if row.user_data is None else user_data(row), "2012-08-10"),
    ("vendor_data.json", lambda cloud, row, own, disks: b"{}", "2013-10-17"),
    ("network_data.json", _network_data, "2015-10-15"),
    ("vendor_data2.json", lambda cloud, row, own, disks: b"{}", "2016-10-06"),
)


def _keep_password(tx: Tx, row: Any, parts: list[str], body: bytes) -> Answer:
    """The guest's own administrator password, encrypted by it with the user's key. Kept once."""
    if len(parts) != 3 or parts[0] != "openstack" or parts[1] not in OPENSTACK or parts[2] != "password":
        return 405, _TEXT, b"405 Method Not Allowed\n"
    if row.password_data:
        return 409, _TEXT, b"409 Conflict: the password was posted before\n"
    if len(body) > _MOST_PASSWORD:
        return 400, _TEXT, b"400 Bad Request: the request is too long\n"
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        return 400, _TEXT, b"400 Bad Request: the password must be base64 text\n"
    servers.change(tx, row.id, row.updated, password_data=text)
    return 200, _TEXT, b""


# -- EC2's layout


def _ec2(row: Any, own: list[PortInfo], disks: Sequence[Any], parts: list[str]) -> Answer | None:
    if not parts:
        return 200, _TEXT, "\n".join(EC2).encode()
    if parts[0] not in EC2:
        return None
    if len(parts) == 1:
        names = ["meta-data/"] + (["user-data"] if row.user_data is not None else [])
        return 200, _TEXT, "\n".join(names).encode()
    if parts[1] == "user-data" and len(parts) == 2:
        return (200, "application/octet-stream", user_data(row)) if row.user_data is not None else None
    if parts[1] != "meta-data":
        return None
    place: Any = _ec2_tree(row, own, disks)
    for part in parts[2:]:
        if not isinstance(place, dict):
            return None
        # Keys are listed as "0=name" and asked for as "0".
        matching = [value for key, value in place.items() if part in (key, key.partition("=")[0])]
        if not matching:
            return None
        place = matching[0]
    return 200, _TEXT, _ec2_text(place).encode()


def _ec2_text(place: Any) -> str:
    if not isinstance(place, dict):
        return str(place)
    return "\n".join(f"{key}/" if isinstance(value, dict) and "=" not in key else key for key, value in place.items())


def _ec2_tree(row: Any, own: list[PortInfo], disks: Sequence[Any]) -> dict[str, Any]:
    fixed = [address for port in own for _, address in port.fixed_ips if ":" not in address]
    floating = [address for port in own for _, address in port.floating_ips]
    groups = dict.fromkeys(name for port in own for name in port.security_group_names)
    tree: dict[str, Any] = {
        "ami-id": ids.write(ids.IMAGE, row.image_id or _NO_IMAGE), "ami-launch-index": row.launch_index,
        "hostname": row.hostname, "instance-action": "none",
        "instance-id": ids.write(ids.INSTANCE, row.id), "instance-type": row.flavor["name"],
        "local-hostname": row.hostname,
        "local-ipv4": fixed[0] if fixed else "", "placement": {"availability-zone": row.zone or ""},
        "public-hostname": row.hostname, "public-ipv4": floating[0] if floating else "",
        "reservation-id": row.reservation_id, "security-groups": "\n".join(groups),
        "block-device-mapping": _ec2_disks(row, disks),
    }
    if row.key_data:
        tree["public-keys"] = {f"0={row.key_name}": {"openssh-key": row.key_data}}
    return tree


def _ec2_disks(row: Any, disks: Sequence[Any]) -> dict[str, str]:
    """Disks by EC2's names: the root disk, those of the node, and volumes as `ebs0` and on."""
    image = row.image or {}
    local = devices.local_names(msgspec.convert(row.flavor, FlavorFacts), disks, not image.get("volume"))
    volumes = sorted(disk.device for disk in disks if disk.volume_id)
    return {
        "ami": "vda", "root": "/dev/vda", **{name: path for name, path in local.items() if name != "root"},
        **{f"ebs{number}": path for number, path in enumerate(volumes)},
    }


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)
