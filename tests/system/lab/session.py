"""What users do on a cloud of many nodes, told with the official client: the demo's story, and the GridKa school's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.system.lab.aws import Aws

from pileus.demo.client import Client, host
from pileus.demo.story import Story
from pileus.lab import Lab

_LOGIN = "pileus"
_OPTIONS = (
    "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5", "-o",
    "BatchMode=yes",
)
PAIR = ("one", "two")


class Pair(Story):
    """Two guests of one tenant network, on different nodes; one has a floating address."""

    def __init__(self, lab: Lab, folder: Path, image: Path) -> None:
        super().__init__(lab.clouds, folder, image, "only for tests")
        self.lab = lab

    def begin(self) -> str:
        """All that is needed, and both guests; the floating address of the first."""
        self.prepare()
        self.network()
        return self.boot_pair("m1.nano", "net0", "demo")

    def boot_pair(self, flavor: str, network: str, key: str) -> str:
        """Both guests, kept apart by a server group; the floating address of the first."""
        demo = self.demo
        group = demo.json("server", "group", "create", "--policy", "anti-affinity", "apart")["id"]
        for name in PAIR:
            demo.run("server", "create", "--image", "guest", "--flavor", flavor, "--network", network, "--key-name",
                     key, "--hint", f"group={group}", name)
        for name in PAIR:
            demo.wait(name, "ACTIVE")
        address: str = demo.json("floating", "ip", "create", "public")["floating_ip_address"]
        demo.run("server", "add", "floating", "ip", PAIR[0], address)
        return address

    def hosts(self) -> dict[str, str]:
        """The node of each server."""
        listed = self.admin.json("server", "list", "--all-projects", "--long", show=False)
        return {server["Name"]: server["Host"] for server in listed}

    def fixed_address(self, server: str, network: str) -> str:
        """A server's address on its tenant network."""
        addresses: dict[str, list[str]] = self.demo.json("server", "show", server, show=False)["addresses"]
        return addresses[network][0]

    def through(self, address: str, inner: str, command: str) -> str:
        """What a command prints in the guest at `inner`, reached by SSH through the guest at `address`."""
        key = ("-i", str(self.key))
        way = " ".join(("ssh", *_OPTIONS, *key, "-W", f"{inner}:22", f"{_LOGIN}@{address}"))
        words = ("ssh", *_OPTIONS, *key, "-o", f"ProxyCommand={way}", f"{_LOGIN}@{inner}", command)
        return host(*words, say=f"ssh -J {_LOGIN}@{address} {_LOGIN}@{inner} {command}")

    def show_pair(self, address: str, network: str) -> None:
        """From outside by the floating address, and between the guests: ping and SSH. Fails when something does not."""
        inner = self.fixed_address(PAIR[1], network)
        host("ping", "-c", "1", "-W", "1", address)
        self.expect(self.ssh(address, "hostname"), PAIR[0], "the name of the guest behind the floating address")
        self.expect(self.ssh(address, f"ping -c 3 -W 2 {inner}"), " 0% packet loss", "ping from guest to guest")
        mtu = int(self.ssh(address, "cat /sys/class/net/eth0/mtu"))
        self.expect(str(mtu), "1450", "what VXLAN leaves of the underlay's MTU")
        self.expect(self.ssh(address, f"ping -c 1 -W 2 -s {mtu - 28} {inner}"), " 0% packet loss", "the largest packet")
        self.expect(self.through(address, inner, "hostname"), PAIR[1], "the name of the guest behind the first")


class School(Pair):
    """The session of the GridKa school 2013, in its order and in today's commands.

    Its dashboard is not told: Pileus does not have one yet."""

    @contextlib.contextmanager
    def at(self, node: str) -> Iterator[None]:
        """What is in the block is typed on this node."""
        with self.lab.node(node).inside():
            yield

    def tell_school(self) -> str:
        """All of it but the end; the floating address of its first server."""
        self.database_and_messages()
        self.people()
        with self.at("image-node"):
            self.admin.run("image", "create", "--public", "--container-format", "bare", "--disk-format", "qcow2",
                           "--file", str(self.image), "guest")
            assert self.admin.json("image", "list")[0]["Status"] == "active"
        self.testing_cinder()
        self.services()
        self.school_network()
        with self.at("api-node"):
            return self.first_servers()

    def database_and_messages(self) -> None:
        """db-node: RabbitMQ runs, and the database has the cloud's tables."""
        db = self.lab.node("db-node")
        assert "rabbit@db-node" in db.part("rabbitmq").ctl("status")  # type: ignore[attr-defined]
        tables = db.run("mariadb", "--no-defaults", "--socket=/run/mysqld/mysqld.sock", "-N", "pileus",
                        text="SHOW TABLES").stdout.split()
        assert {"identity_user", "image_image", "compute_server", "network_port"} <= set(tables)

    def people(self) -> None:
        """auth-node: what `keystone tenant-create`, `user-create` and `user-role-add` made."""
        admin = self.admin
        with self.at("auth-node"):
            for project in ("service", "demo"):
                admin.run("project", "create", project)
            admin.run("role", "create", "KeystoneAdmin")
            admin.run("user", "create", "--project", "service", "--password-prompt", "glance", secret="glanceServ")
            admin.run("role", "add", "--user", "glance", "--project", "service", "admin")
            admin.run("user", "create", "--project", "demo", "--password-prompt", "demo", secret=self._password)
            admin.run("role", "add", "--user", "demo", "--project", "demo", "member")
            credentials = self.demo.json("ec2", "credentials", "create")
            assert self.demo.json("ec2", "credentials", "list")[0]["Access"] == credentials["access"]

    def testing_cinder(self) -> None:
        """volume-node: a volume is made, and is a file there."""
        with self.at("volume-node"):
            volume = self.admin.json("volume", "create", "--size", "1", "test")
            self._until_volume(self.admin, "test", "available")
            row = next(row for row in self.admin.json("volume", "list") if row["ID"] == volume["id"])
            assert (row["Status"], row["Size"]) == ("available", 1)
            node = self.lab.node("volume-node")
            kept = node.run("find", "/var/lib/pileus-agent", "-name", f"*{volume['id']}*").stdout
            assert kept.strip(), "volume-node has no file of the volume"
            services = {row["Host"]: row["State"] for row in self.admin.json("volume", "service", "list")}
            assert any(host.startswith("volume-node@") and state == "up" for host, state in services.items()), services
            self.admin.run("volume", "delete", "test")

    def services(self) -> None:
        """api-node: the catalog names each service's own node, and all of compute is up."""
        with self.at("auth-node"):
            urls = {row["Service Type"]: row["URL"] for row in self.admin.json("endpoint", "list")}
        for kind, name in (("identity", "auth-node"), ("image", "image-node"), ("compute", "api-node"),
                           ("placement", "api-node"), ("ec2", "api-node"), ("network", "network-node"),
                           ("block-storage", "volume-node")):
            assert self.lab.node(name).address in urls[kind], f"{kind} is at {urls[kind]}, not on {name}"
        with self.at("api-node"):
            found = self.admin.json("compute", "service", "list")
            up = {row["Host"] for row in found if row["Binary"] == "nova-compute" and row["State"] == "up"}
            assert up == {"compute-1", "compute-2"}
            self.demo.run("image", "list")

    def school_network(self) -> None:
        """network-node: `nova-manage network create` and the rules; floating addresses are those of `public`."""
        demo = self.demo
        with self.at("network-node"):
            demo.run("network", "create", "net1")
            demo.run("subnet", "create", "--network", "net1", "--subnet-range", "10.99.0.0/22", "net1-subnet")
            demo.run("router", "create", "router1")
            demo.run("router", "set", "--external-gateway", "public", "router1")
            demo.run("router", "add", "subnet", "router1", "net1-subnet")
            demo.run("security", "group", "rule", "create", "--protocol", "icmp", "--remote-ip", "0.0.0.0/0", "default")
            demo.run("security", "group", "rule", "create", "--protocol", "tcp", "--dst-port", "22:22", "default")

    def first_servers(self) -> str:
        """api-node, "Testing OpenStack": a key, what there is, and servers."""
        demo = self.demo
        self.key.unlink(missing_ok=True)
        host("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key), say="ssh-keygen -t ed25519")
        demo.run("keypair", "create", "--public-key", f"{self.key}.pub", "gridka-api-node")
        assert [row["Name"] for row in demo.json("keypair", "list")] == ["gridka-api-node"]
        self.admin.run("flavor", "create", "--ram", "128", "--disk", "1", "--vcpus", "1", "m1.nano")
        assert {"m1.nano", "m1.tiny"} <= {row["Name"] for row in demo.json("flavor", "list")}
        assert [row["Name"] for row in demo.json("security", "group", "list")] == ["default"]
        address = self.boot_pair("m1.nano", "net1", "gridka-api-node")
        assert {row["Status"] for row in demo.json("server", "list")} == {"ACTIVE"}
        return address

    def attach_volume(self, address: str) -> None:
        """api-node, "Testing cinder": a volume in a running server, which keeps its bytes for the next server."""
        demo = self.demo
        with self.at("api-node"):
            demo.run("volume", "create", "--size", "1", "test2")
            self._until_volume(demo, "test2", "available")
            demo.run("server", "add", "volume", PAIR[0], "test2", "--device", "/dev/vdb")
            self._until_volume(demo, "test2", "in-use")
        self.expect(self.ssh(address, "lsblk -b -n -d -o SIZE /dev/vdb"), str(1 << 30), "the volume in the guest")
        write = "echo persistent | sudo tee /mnt/file"
        self.ssh(address, f"sudo mkfs.ext4 -q /dev/vdb && sudo mount /dev/vdb /mnt && {write} && sudo umount /mnt")
        with self.at("api-node"):
            demo.run("server", "remove", "volume", PAIR[0], "test2")
            self._until_volume(demo, "test2", "available")
            demo.run("server", "add", "volume", PAIR[1], "test2")
            self._until_volume(demo, "test2", "in-use")
        inner = self.fixed_address(PAIR[1], "net1")
        self.expect(self.through(address, inner, "sudo mount /dev/vdb /mnt && cat /mnt/file && sudo umount /mnt"),
                    "persistent", "what the first guest wrote, read in the second")
        with self.at("api-node"):
            demo.run("server", "remove", "volume", PAIR[1], "test2")
            self._until_volume(demo, "test2", "available")
            demo.run("volume", "delete", "test2")

    def _until_volume(self, who: Client, name: str, status: str, seconds: float = 60.0) -> None:
        until = time.monotonic() + seconds
        while (seen := who.json("volume", "show", name, show=False)["status"]) != status:
            assert "error" not in seen, f"volume {name} is {seen}"
            assert time.monotonic() < until, f"volume {name} is still {seen}, not {status}"
            time.sleep(0.5)

    def resize(self) -> None:
        """api-node, "Working with flavors": a larger one, a server that changes to it and back, then for good."""
        demo = self.demo
        with self.at("api-node"):
            self.admin.run("flavor", "create", "--public", "--ram", "192", "--disk", "1", "--vcpus", "1",
                           "x1.tiny")
            for ending, flavor in (("revert", "m1.nano"), ("confirm", "x1.tiny")):
                demo.run("server", "resize", "--flavor", "x1.tiny", PAIR[1])
                demo.wait(PAIR[1], "VERIFY_RESIZE")
                demo.run("server", "resize", ending, PAIR[1])
                demo.wait(PAIR[1], "ACTIVE")
                seen: dict[str, Any] = demo.json("server", "show", PAIR[1], show=False)
                assert flavor in str(seen["flavor"]), seen["flavor"]

    def ec2(self) -> None:
        """api-node, "working with the EC2 interface": a key, and with it images and a server by Amazon's tools."""
        demo = self.demo
        with self.at("api-node"):
            key = demo.json("ec2", "credentials", "create", show=False)
            places = demo.json("catalog", "show", "ec2")["endpoints"]
            aws = Aws(next(place["url"] for place in places if place["interface"] == "public"), key)
            image = next(one for one in aws.json("describe-images")["Images"] if one["Name"] == "guest")
            kinds = aws.json("describe-instance-types", "--instance-types", "m1.nano")["InstanceTypes"]
            assert kinds[0]["MemoryInfo"]["SizeInMiB"] == 128
            made = aws.json("run-instances", "--image-id", image["ImageId"], "--instance-type", "m1.nano", "--key-name",
                            "gridka-api-node")
            instance = made["Instances"][0]["InstanceId"]
            aws.run("wait", "instance-running", "--instance-ids", instance)
            servers = {row["ID"].replace("-", ""): row["Status"] for row in demo.json("server", "list")}
            assert servers[instance.removeprefix("i-")] == "ACTIVE"
            address = aws.json("allocate-address")
            joined = aws.json("associate-address", "--allocation-id", address["AllocationId"],
                              "--instance-id", instance)
        told = self.ssh(address["PublicIp"], "timeout 10 wget -qO- http://169.254.169.254/latest/meta-data/instance-id")
        self.expect(told, instance, "the id that the metadata service tells the guest")
        with self.at("api-node"):
            log = aws.json("get-console-output", "--instance-id", instance)["Output"]
            assert "Linux version" in log or "login:" in log, log[-500:]
            aws.run("disassociate-address", "--association-id", joined["AssociationId"])
            aws.run("release-address", "--allocation-id", address["AllocationId"])
            aws.run("terminate-instances", "--instance-ids", instance)
            aws.run("wait", "instance-terminated", "--instance-ids", instance)
            assert len(demo.json("server", "list")) == len(servers) - 1
            demo.run("ec2", "credentials", "delete", key["access"], show=False)
            self.expect(aws.refused("describe-images"), "AuthFailure", "what a key gets that is not there any more")
