"""Volumes as a user of compute has them: made, given to servers, waited for."""

from __future__ import annotations

from typing import Any

from tests.api.compute.guests import Servers, eventually
from tests.api.conftest import Client

_API = "/volume/v3/volumes"


class Disks:
    """What specifications of servers need of the volume service."""

    def __init__(self, client: Client, servers: Servers) -> None:
        self.client, self.servers = client, servers
        self.made: list[str] = []

    def make(self, size: int = 1, **fields: Any) -> str:
        """A volume that is available; its id."""
        reply = self.client.post(_API, {"volume": {"size": size, **fields}}, version="3.60")
        assert reply.status_code == 202, reply.text
        volume_id: str = reply.json()["volume"]["id"]
        self.made.append(volume_id)
        self.settled(volume_id, "available")
        return volume_id

    def clean(self) -> None:
        """Delete the volumes that were made and are free, so that the quota lasts."""
        for volume_id in self.made:
            self.client.delete(f"{_API}/{volume_id}")
        self.made.clear()

    def bootable(self, size: int = 1) -> str:
        """One with an image on it."""
        return self.make(size, imageRef=self.servers.image_id)

    def show(self, volume_id: str) -> dict[str, Any]:
        reply = self.client.get(f"{_API}/{volume_id}", version="3.60")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()["volume"]
        return found

    def settled(self, volume_id: str, status: str) -> dict[str, Any]:
        """The volume once it has this status."""

        def test() -> Any:
            found = self.show(volume_id)
            return found if found["status"] == status else None

        found: dict[str, Any] = eventually(self.client, test)
        return found

    def gone(self, volume_id: str) -> None:
        """Wait until there is no such volume."""
        eventually(self.client, lambda: self.client.get(f"{_API}/{volume_id}").status_code == 404)

    def boot(self, *devices: dict[str, Any], image: str = "", **options: Any) -> str:
        """A server with these block devices, ACTIVE; its id."""
        return self.servers.boot(
            imageRef=image, block_device_mapping_v2=list(devices), **{"version": "2.79", **options}
        )

    def attach(self, server_id: str, volume_id: str, version: str = "2.79", **fields: Any) -> Any:
        """POST …/os-volume_attachments, whatever it answers."""
        body = {"volumeAttachment": {"volumeId": volume_id, **fields}}
        return self.client.post(f"/compute/v2.1/servers/{server_id}/os-volume_attachments", body, version=version)

    def attached(self, server_id: str, volume_id: str, **options: Any) -> dict[str, Any]:
        """Attach, and wait for it."""
        reply = self.attach(server_id, volume_id, **options)
        assert reply.status_code == 200, reply.text
        self.settled(volume_id, "in-use")
        found: dict[str, Any] = reply.json()["volumeAttachment"]
        return found

    def detach(self, server_id: str, volume_id: str) -> Any:
        """DELETE …/os-volume_attachments/…, whatever it answers."""
        path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{volume_id}"
        return self.client.delete(path, version="2.79")

    def listed(self, server_id: str, version: str = "2.89") -> list[dict[str, Any]]:
        """The server's attachments."""
        path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
        found: list[dict[str, Any]] = self.client.get(path, version=version).json()["volumeAttachments"]
        return found


def from_volume(volume_id: str, **more: Any) -> dict[str, Any]:
    """A block device that is a volume to boot from."""
    return {"source_type": "volume", "destination_type": "volume", "uuid": volume_id, "boot_index": 0, **more}


def from_image(image_id: str, **more: Any) -> dict[str, Any]:
    """A block device that is a new volume with an image on it, to boot from."""
    return {
        "source_type": "image", "destination_type": "volume", "uuid": image_id, "boot_index": 0, "volume_size": 1,
        **more,
    }
