"""A real guest: from POST to SSH login, against the same image started by hand with plain QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.ports import free_port

from benchmarks.lab import Lab, running
from benchmarks.promises import Measured
from pileus.node.guestimage import cached

_CACHE = Path(__file__).resolve().parents[1] / ".cache"
_SSH = ("ssh", "-q", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
        "-o", "ConnectTimeout=2")
_RUNS = 3
_PATIENCE = 0.5  # seconds for a connection to be made, and for the first word of the SSH server
# Beside a cloud with the usual names and addresses.
_PLACE = {
    "namespace_prefix": "bench", "physical_networks": "public:pileus-bench",
    "public_network": "172.24.99.0/24", "public_gateway": "172.24.99.1",
}


def _login(key: Path, host: str, port: int, until: float) -> None:
    """Log in over and over until it works.

    A connection that came before the guest's network is given up soon: user-mode networking accepts it at once and
    then says nothing, which would be counted as the guest's time.
    """
    while time.perf_counter() < until:
        with contextlib.suppress(OSError), socket.create_connection((host, port), _PATIENCE) as sock:
            sock.settimeout(_PATIENCE)
            if sock.recv(4):
                words = (*_SSH, "-i", str(key), "-p", str(port), f"pileus@{host}", "true")
                if subprocess.run(words, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0:
                    return
        time.sleep(0.05)
    raise RuntimeError(f"no SSH login at {host}:{port}")


def _config_drive(folder: Path, key: Path) -> Path:
    data = folder / "drive" / "openstack" / "latest"
    data.mkdir(parents=True, exist_ok=True)
    public = key.with_suffix(".pub").read_text()
    known = {"uuid": "by-hand", "hostname": "plain", "public_keys": {"k": public}}
    (data / "meta_data.json").write_text(json.dumps(known))
    iso = folder / "drive.iso"
    subprocess.run(["genisoimage", "-quiet", "-o", iso, "-V", "config-2", "-r", "-J", folder / "drive"], check=True)
    return iso


def _plain(image: Path, folder: Path, key: Path) -> float:
    """Seconds from the start of QEMU to a login, with user-mode networking."""
    disk = folder / "plain.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", disk, "1G"], check=True)
    iso, port = _config_drive(folder, key), free_port()
    words = [
        "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,tb-size=32", "-cpu", "max", "-m", "128", "-nodefaults",
        "-display", "none", "-drive", f"file={disk},format=qcow2,if=virtio",
        "-drive", f"file={iso},format=raw,if=virtio,readonly=on", "-device", "virtio-rng-pci",
        "-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=n,romfile=",
    ]
    began = time.perf_counter()
    process = subprocess.Popen(words)
    try:
        _login(key, "127.0.0.1", port, began + 120)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


class Guests:
    """What is needed to boot a guest and reach it from outside."""

    def __init__(self, cloud: Lab) -> None:
        self.cloud = cloud
        self.body: dict[str, Any] = {}

    async def prepare(self, image: Path, key: Path) -> None:
        """Image, flavor, key, network, router, rules."""
        ask, token = self.cloud.http.ok, self.cloud.token
        new = {"name": "guest", "disk_format": "qcow2", "container_format": "bare"}
        image_id = (await ask("POST", "/image/v2/images", token, new)).json()["id"]
        await ask("PUT", f"/image/v2/images/{image_id}/file", token, await asyncio.to_thread(image.read_bytes))
        flavor = {"flavor": {"name": "nano", "ram": 128, "vcpus": 1, "disk": 1}}
        flavor_id = (await ask("POST", "/compute/v2.1/flavors", token, flavor)).json()["flavor"]["id"]
        public = key.with_suffix(".pub").read_text().strip()
        await ask("POST", "/compute/v2.1/os-keypairs", token, {"keypair": {"name": "k", "public_key": public}})
        made = await ask("POST", "/network/v2.0/networks", token, {"network": {"name": "net0"}})
        network = made.json()["network"]["id"]
        subnet = {"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/24"}}
        subnet_id = (await ask("POST", "/network/v2.0/subnets", token, subnet)).json()["subnet"]["id"]
        listed = await ask("GET", "/network/v2.0/networks?router:external=true", token)
        outside = listed.json()["networks"][0]["id"]
        router = {"router": {"name": "r", "external_gateway_info": {"network_id": outside}}}
        router_id = (await ask("POST", "/network/v2.0/routers", token, router)).json()["router"]["id"]
        await ask("PUT", f"/network/v2.0/routers/{router_id}/add_router_interface", token, {"subnet_id": subnet_id})
        rule: dict[str, Any] = {"protocol": "tcp", "direction": "ingress", "port_range_min": 22, "port_range_max": 22}
        groups = (await ask("GET", f"/network/v2.0/security-groups?project_id={self.cloud.project_id}", token)).json()
        rule["security_group_id"] = groups["security_groups"][0]["id"]
        await ask("POST", "/network/v2.0/security-group-rules", token, {"security_group_rule": rule})
        self.body = {"name": "g", "imageRef": image_id, "flavorRef": flavor_id, "key_name": "k"}
        self.network, self.outside = network, outside

    async def boot(self, key: Path) -> float:
        """Seconds from POST to a login at the floating address, whose port is made before."""
        ask, token = self.cloud.http.ok, self.cloud.token
        wanted = {"port": {"network_id": self.network}}
        port = (await ask("POST", "/network/v2.0/ports", token, wanted)).json()["port"]["id"]
        new = {"floatingip": {"floating_network_id": self.outside, "port_id": port}}
        floating = (await ask("POST", "/network/v2.0/floatingips", token, new)).json()["floatingip"]
        began = time.perf_counter()
        server = {"server": {**self.body, "networks": [{"port": port}]}}
        made = (await ask("POST", "/compute/v2.1/servers", token, server)).json()["server"]["id"]
        await asyncio.to_thread(_login, key, floating["floating_ip_address"], 22, began + 120)
        taken = time.perf_counter() - began
        await ask("DELETE", f"/compute/v2.1/servers/{made}", token)
        while (await self.cloud.http.ask("GET", f"/compute/v2.1/servers/{made}", token)).status != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await ask("DELETE", f"/network/v2.0/floatingips/{floating['id']}", token)
        await ask("DELETE", f"/network/v2.0/ports/{port}", token)
        return taken


async def measure() -> list[Measured]:
    """Both in turn, three times; the medians are compared."""
    image = await asyncio.to_thread(cached, _CACHE)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        key = folder / "key"
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        await asyncio.to_thread(subprocess.run, words, check=True)
        async with running("qemu", **_PLACE) as cloud:
            guests = Guests(cloud)
            await guests.prepare(image, key)
            ours, plain = [], []
            for _ in range(_RUNS):
                plain.append(await asyncio.to_thread(_plain, image, folder, key))
                ours.append(await guests.boot(key))
    slow, fast = statistics.median(ours), statistics.median(plain)
    return [Measured("POST to SSH login, of the same image under plain QEMU", slow / fast, "", 1.25,
                     note=f"{slow:.1f} s; plain QEMU {fast:.1f} s")]
