"""What a node is told of a server: the whole of it, every time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from pileus.compute import devices, metadata
from pileus.compute.schemas import FlavorFacts, ImageFacts
from pileus.node.contract import ConfigDriveFile, ImageRef, NicSpec, ServerSpec, VolumeSpec
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.image.images import ImageInfo
    from pileus.network.ports import PortInfo


def image_facts(info: ImageInfo) -> ImageFacts:
    """What a server keeps of its image."""
    ref = info.ref()
    return ImageFacts(
        id=info.id, disk_format=ref.disk_format, size=ref.size, sha512=ref.sha512, virtual_size=ref.virtual_size,
        min_disk=info.min_disk or 0, min_ram=info.min_ram or 0, kernel_id=ref.kernel_id, ramdisk_id=ref.ramdisk_id,
        properties={str(k): str(v) for k, v in info.properties.items()},
    )


def image_ref(facts: ImageFacts) -> ImageRef:
    """The image as a node fetches it."""
    return ImageRef(
        id=facts.id, disk_format=facts.disk_format, size=facts.size, sha512=facts.sha512,
        virtual_size=facts.virtual_size, kernel_id=facts.kernel_id, ramdisk_id=facts.ramdisk_id,
    )


def facts_of(row: Any) -> ImageFacts | None:
    """The image that a server's row holds."""
    return None if row.image is None else msgspec.convert(row.image, ImageFacts)


def is_on_volume(row: Any) -> bool:
    """Whether a server boots from a volume."""
    return bool(row.image and row.image.get("volume"))


def flavor_of(row: Any) -> FlavorFacts:
    """The flavor that a server's row holds."""
    return msgspec.convert(row.flavor, FlavorFacts)


def columns(flavor: FlavorFacts) -> dict[str, Any]:
    """What a server's row holds of its flavor."""
    return {
        "flavor_id": flavor.id, "flavor": msgspec.to_builtins(flavor), "vcpus": flavor.vcpus, "ram": flavor.ram,
    }


def build(
    cloud: Cloud, row: Any, ports: list[PortInfo], disks: Sequence[Any] = (), volumes: tuple[VolumeSpec, ...] = (),
    **changed: Any,
) -> ServerSpec:
    """The spec of a server from its row, its ports, its block devices' rows, and its volumes as they are given out.

    `changed` are fields of the spec that are to be others."""
    image, flavor = facts_of(row), flavor_of(row)
    on_volume = image is not None and image.volume
    ephemeral, swap = devices.local_sizes(flavor, disks)
    rescue = None if row.rescue_image is None else msgspec.convert(row.rescue_image, ImageFacts)
    properties = image.properties if image else {}
    model = properties.get("hw_vif_model", "virtio")
    spec = ServerSpec(
        id=row.id, name=row.name, hostname=row.hostname, project_id=row.project_id, vcpus=flavor.vcpus,
        memory_mib=flavor.ram, root_gib=0 if on_volume else flavor.disk, ephemeral_gib=ephemeral, swap_mib=swap,
        image=image_ref(image) if image and not on_volume else None, volumes=volumes,
        nics=tuple(
            NicSpec(
                port_id=p.id, network_id=p.network_id, mac=p.mac, mtu=p.mtu, model=model, tag=row.nic_tags.get(p.id)
            )
            for p in ports
        ),
        config_drive=_config_drive(cloud, row, ports, disks) if row.config_drive else None,
        image_properties={k: v for k, v in properties.items() if k.startswith(("hw_", "os_"))},
        extra_specs=flavor.extra_specs, metadata=row.metadata, key_name=row.key_name,
        rescue_image=image_ref(rescue) if rescue else None,
    )
    return msgspec.structs.replace(spec, **changed) if changed else spec


def _config_drive(
    cloud: Cloud, row: Any, ports: list[PortInfo], disks: Sequence[Any]
) -> tuple[ConfigDriveFile, ...]:
    return tuple(
        ConfigDriveFile(path=path, content=content) for path, content in metadata.drive_files(cloud, row, ports, disks)
    )


def check_fit(flavor: FlavorFacts, image: ImageFacts) -> None:
    """Raises BadRequest when an image needs more memory or disk than a flavor has."""
    if image.min_ram > flavor.ram:
        raise BadRequest(
            f"Flavor's memory is too small for requested image: {flavor.name} has {flavor.ram} MiB, image {image.id} "
            f"needs {image.min_ram} MiB."
        )
    if flavor.disk == 0 or image.volume:
        return
    size = max(image.size, image.virtual_size)
    if size > flavor.disk << 30:
        raise BadRequest(
            f"Flavor's disk is too small for requested image. Flavor disk is {flavor.disk << 30} bytes, image is "
            f"{size} bytes."
        )
    if image.min_disk > flavor.disk:
        raise BadRequest(
            f"Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is "
            f"{flavor.disk << 30} bytes, minimum size is {image.min_disk << 30} bytes."
        )
