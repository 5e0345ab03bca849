"""A cloud with two projects and one of everything in it, for input to be thrown at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pileus.cloud import Cloud
from pileus.settings import Settings
from pileus.web.app import App
from tests.api.compute.guests import eventually, working_nodes
from tests.api.conftest import PASSWORD, Client

V21 = "/compute/v2.1"
V20 = "/network/v2.0"
CINDER = "/volume/v3"
RAW = {"Content-Type": "application/octet-stream"}


class Inhabited:
    """The clients by who they are, and the ids of what there is by kind."""

    def __init__(self, cloud: Cloud, loop: asyncio.AbstractEventLoop) -> None:
        self.cloud = cloud
        self.anonymous = Client(App(cloud, cloud.served, {}), loop)
        self.admin = self.anonymous.login("admin", PASSWORD, "admin")
        self.ids: dict[str, list[str]] = {}
        self.callers: dict[str, Client] = {"admin": self.admin, "anonymous": self.anonymous}
        self.keys: dict[str, dict[str, str]] = {}
        self._shared()
        for name in ("alice", "bob"):
            self.callers[name] = self._person(name)
            self._belongings(self.callers[name], name)
            self.keys[name] = self._key(self.callers[name])
        self.keys["admin"] = self._key(self.admin)
        self._placement()
        self._volume_administration()

    def know(self, kind: str, *ids: str) -> str:
        """Remember ids; the first."""
        self.ids.setdefault(kind, []).extend(ids)
        return ids[0]

    def make(self, client: Client, kind: str, path: str, body: Any, key: str = "id", **options: Any) -> str:
        """POST something that must work; its id."""
        reply = client.post(path, body, **options)
        assert reply.status_code in (200, 201, 202), f"POST {path}: {reply.status_code} {reply.text}"
        [shown] = reply.json().values()
        return self.know(kind, str(shown[key]))

    def _shared(self) -> None:
        admin, v3 = self.admin, "/identity/v3"
        for plural, kind in (("roles", "role"), ("domains", "domain"), ("services", "service"),
                             ("endpoints", "endpoint"), ("regions", "region"), ("users", "user"),
                             ("projects", "project")):
            self.know(kind, *(row["id"] for row in admin.get(f"{v3}/{plural}").json()[plural]))
        for number in range(6):  # so that what everyone depends on is not hit too often
            for kind in ("user", "project", "domain", "role"):
                self.make(admin, kind, f"{v3}/{kind}s", {kind: {"name": f"spare-{number}"}})
        self.make(admin, "group", f"{v3}/groups", {"group": {"name": "staff"}})
        self.make(admin, "flavor", f"{V21}/flavors", {"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1}})
        self.make(admin, "aggregate", f"{V21}/os-aggregates", {"aggregate": {"name": "rack"}})
        public = {"network": {"name": "ext", "router:external": True}}
        network = self.make(admin, "network", f"{V20}/networks", public)
        self.make(admin, "subnet", f"{V20}/subnets", {
            "subnet": {"network_id": network, "cidr": "203.0.113.0/24", "ip_version": 4, "enable_dhcp": False},
        })
        self.external = network

    def _person(self, name: str) -> Client:
        v3 = "/identity/v3"
        project = self.make(self.admin, "project", f"{v3}/projects", {"project": {"name": name}})
        user = self.make(self.admin, "user", f"{v3}/users", {"user": {"name": name, "password": PASSWORD}})
        [role] = self.admin.get(f"{v3}/roles?name=member").json()["roles"]
        given = self.admin.put(f"{v3}/projects/{project}/users/{user}/roles/{role['id']}")
        assert given.status_code == 204, given.text
        client = self.anonymous.login(name, PASSWORD, name)
        self.make(client, "application_credential", f"{v3}/users/{user}/application_credentials",
                  {"application_credential": {"name": "robot"}})
        return client

    def _key(self, client: Client) -> dict[str, str]:
        """An access key of EC2's for the client's user in his project."""
        token = client.get("/identity/v3/auth/tokens", headers={"X-Subject-Token": client.token or ""}).json()["token"]
        path = f"/identity/v3/users/{token['user']['id']}/credentials/OS-EC2"
        key: dict[str, str] = client.post(path, {"tenant_id": token["project"]["id"]}).json()["credential"]
        return key

    def _belongings(self, client: Client, name: str) -> None:
        network = self.make(client, "network", f"{V20}/networks", {"network": {"name": name}})
        subnet = self.make(client, "subnet", f"{V20}/subnets", {
            "subnet": {"network_id": network, "cidr": "10.1.0.0/24", "ip_version": 4},
        })
        router = self.make(client, "router", f"{V20}/routers", {
            "router": {"name": name, "external_gateway_info": {"network_id": self.external}},
        })
        client.put(f"{V20}/routers/{router}/add_router_interface", {"subnet_id": subnet})
        port = self.make(client, "port", f"{V20}/ports", {"port": {"network_id": network}})
        self.make(client, "floatingip", f"{V20}/floatingips", {
            "floatingip": {"floating_network_id": self.external, "port_id": port},
        })
        below = self.make(client, "port", f"{V20}/ports", {"port": {"network_id": network}})
        self.make(client, "trunk", f"{V20}/trunks", {"trunk": {"port_id": port, "sub_ports": [
            {"port_id": below, "segmentation_type": "vlan", "segmentation_id": 101},
        ]}})
        group = self.make(client, "security_group", f"{V20}/security-groups", {"security_group": {"name": name}})
        self.make(client, "rule", f"{V20}/security-group-rules", {
            "security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "tcp"},
        })
        self.make(client, "keypair", f"{V21}/os-keypairs", {"keypair": {"name": f"key-{name}"}}, "name")
        self.make(client, "server_group", f"{V21}/os-server-groups",
                  {"server_group": {"name": name, "policies": ["affinity"]}})
        self._volumes(client, name)
        made = client.post("/image/v2/images", {"name": name, "disk_format": "raw", "container_format": "bare"})
        image = self.know("image", made.json()["id"])
        upload = client.request("PUT", f"/image/v2/images/{image}/file", content=b"x" * 512, headers=RAW)
        assert upload.status_code == 204, upload.text
        self.make(client, "server", f"{V21}/servers", {
            "server": {"name": name, "imageRef": image, "flavorRef": self.ids["flavor"][0],
                       "networks": [{"uuid": network}]},
        })

    def _volumes(self, client: Client, name: str) -> None:
        disk = self.make(client, "volume", f"{CINDER}/volumes", {"volume": {"size": 1, "name": name}})
        eventually(client, lambda: client.get(f"{CINDER}/volumes/{disk}").json()["volume"]["status"] == "available")
        self.make(client, "snapshot", f"{CINDER}/snapshots", {"snapshot": {"volume_id": disk}})
        self.make(client, "backup", f"{CINDER}/backups", {"backup": {"volume_id": disk}})
        taken = self.make(client, "volume", f"{CINDER}/volumes", {"volume": {"size": 1}})
        eventually(client, lambda: client.get(f"{CINDER}/volumes/{taken}").json()["volume"]["status"] == "available")
        self.make(client, "attachment", f"{CINDER}/attachments", {"attachment": {"volume_uuid": taken}}, version="3.71")

    def _volume_administration(self) -> None:
        admin = self.admin
        self.make(admin, "type", f"{CINDER}/types", {"volume_type": {"name": "fast"}})
        made = admin.post(f"{CINDER}/qos-specs", {"qos_specs": {"name": "slow"}})
        self.know("qos_specs", made.json()["qos_specs"]["id"])
        self.make(admin, "group_type", f"{CINDER}/group_types", {"group_type": {"name": "g"}}, version="3.71")
        self.ids["scope"] = self.ids["project"]

    def _placement(self) -> None:
        providers = self.admin.get("/placement/resource_providers", version="1.39").json()["resource_providers"]
        self.know("provider", *(row["uuid"] for row in providers))
        self.know("trait", "HW_CPU_X86_SSE", "CUSTOM_FAST")
        self.know("class", "VCPU", "MEMORY_MB", "CUSTOM_GPU")
        self.ids["consumer"] = self.ids["server"]
        self.know("hypervisor", "1")
        hypervisors = self.admin.get(f"{V21}/os-hypervisors", version="2.53").json()["hypervisors"]
        self.know("hypervisor", *(str(row["id"]) for row in hypervisors))

    def alive(self) -> bool:
        """Whether nobody has locked the callers out, as by disabling their domain."""
        return all(
            client.get("/identity/v3/auth/catalog").status_code == 200
            for client in self.callers.values() if client.token
        )


@contextmanager
def inhabited(folder: Path, loop: asyncio.AbstractEventLoop, database: str = "") -> Iterator[Inhabited]:
    """A fresh one."""
    settings = Settings(
        state_dir=str(folder), hypervisor="fake", admin_password=PASSWORD, bcrypt_rounds=4, log_level="error",
        listen="cloud.test:80", public_url="http://cloud.test", database=database, max_body=65_536,
    )
    cloud = Cloud(settings)
    cloud.open()
    try:
        with working_nodes(cloud, loop):
            yield Inhabited(cloud, loop)
    finally:
        cloud.close()
