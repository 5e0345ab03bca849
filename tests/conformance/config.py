"""tempest.conf: the feature flags that count, and what the running cloud tells about itself."""

from __future__ import annotations

import configparser
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Hypervisor = Literal["fake", "qemu"]

# Tempest's names of the services, and the catalog types that mean them (the official one and its aliases).
SERVICES = {
    "nova": ("compute",),
    "glance": ("image",),
    "neutron": ("network",),
    "cinder": ("block-storage", "volumev3", "block-store", "volume"),
    "swift": ("object-store",),
}


# The filters, by Nova's names, whose hints and properties the scheduler knows and Tempest asks for.
FILTERS = (
    "ComputeFilter", "ComputeCapabilitiesFilter", "ImagePropertiesFilter", "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter", "SameHostFilter", "DifferentHostFilter",
)


@dataclass(frozen=True)
class Administrator:
    """The account that Tempest makes its own accounts with."""

    auth_url: str
    username: str
    password: str
    project: str
    domain: str
    region: str


@dataclass(frozen=True)
class Volumes:
    """What the volume service tells of its backends, and the volume types made in it for Tempest."""

    ceiling: str = ""
    backend_names: tuple[str, ...] = ()
    vendor_name: str = ""
    storage_protocol: str = ""
    multiattach_type: str = ""
    data_type: str = ""


@dataclass(frozen=True)
class Cloud:
    """What a cloud tells through its APIs, and the things made in it for Tempest."""

    administrator: Administrator
    service_types: frozenset[str]
    compute_ceiling: str
    placement_ceiling: str
    volumes: Volumes
    network_extensions: tuple[str, ...]
    compute_hosts: tuple[str, ...]  # of the nodes that are up
    dashboard_url: str
    public_network_id: str
    image_ref: str
    image_ref_alt: str
    flavor_ref: str
    flavor_ref_alt: str


def read_flags(path: Path) -> configparser.ConfigParser:
    """Read the feature flags; a `#` after a value starts a comment. Raises FileNotFoundError."""
    flags = _parser()
    with path.open(encoding="utf-8") as file:
        flags.read_file(file)
    return flags


def render(
    flags: configparser.ConfigParser, cloud: Cloud, hypervisor: Hypervisor, folder: Path, image: Path
) -> str:
    """Return the text of tempest.conf. `folder` takes logs and locks, scenarios upload the disk `image`.

    Flags stay as they are: a feature that is missing has to show as failed. Only what the cloud itself tells
    is filled in: `latest`, the number of nodes, the volume types and the services of the catalog. Guests that
    do not exist cannot be logged in to: `run_validation` is off on the fake hypervisor.
    """
    conf = _parser()
    for section, options in _facts(cloud, hypervisor, folder, image).items():
        conf[section] = options
    for section in flags.sections():
        if not conf.has_section(section):
            conf.add_section(section)
        for option, value in flags[section].items():
            conf[section][option] = value
    if conf.get("compute", "max_microversion", fallback="latest") == "latest":
        conf.remove_option("compute", "max_microversion")
        if cloud.compute_ceiling:
            conf["compute"]["max_microversion"] = cloud.compute_ceiling
    if conf.get("volume-feature-enabled", "volume_types_for_data_volume", fallback="") == "true":
        conf["volume-feature-enabled"]["volume_types_for_data_volume"] = cloud.volumes.data_type
    wanted = conf.getint("compute", "min_compute_nodes", fallback=1)
    conf["compute"]["min_compute_nodes"] = str(max(1, min(wanted, len(cloud.compute_hosts))))
    if hypervisor == "qemu" and len(cloud.compute_hosts) > 1:
        conf["compute"]["migration_source_host"], conf["compute"]["migration_dest_host"] = cloud.compute_hosts[:2]
    if hypervisor == "fake":
        conf["validation"]["run_validation"] = "false"
    text = io.StringIO()
    conf.write(text)
    return text.getvalue()


def available(service_types: frozenset[str]) -> dict[str, str]:
    """Return which of Tempest's services the catalog has, as the options of [service_available]."""
    return {name: _flag(any(kind in service_types for kind in kinds)) for name, kinds in SERVICES.items()}


def _parser() -> configparser.ConfigParser:
    # Tempest's file has no interpolation of its own; a password may hold a per cent sign.
    return configparser.ConfigParser(inline_comment_prefixes=("#",), interpolation=None)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _facts(cloud: Cloud, hypervisor: Hypervisor, folder: Path, image: Path) -> dict[str, dict[str, str]]:
    admin = cloud.administrator
    # Under TCG on a busy machine a guest may need a minute to its login; a fake one is there at once.
    patience = "60" if hypervisor == "fake" else "300"
    facts = {
        "DEFAULT": {
            "log_dir": str(folder),
            "log_file": "tempest.log",
            "debug": "true",
            "use_stderr": "false",
        },
        "oslo_concurrency": {"lock_path": str(folder / "locks")},
        "auth": {
            "admin_username": admin.username,
            "admin_password": admin.password.replace("$", "$$"),
            "admin_project_name": admin.project,
            "admin_domain_name": admin.domain,
            "default_credentials_domain_name": admin.domain,
        },
        "identity": {
            "uri_v3": admin.auth_url,
            "auth_version": "v3",
            "region": admin.region,
            **{f"user_{name}": value for name, value in COMPLIANCE.items()},
        },
        "service_available": {**available(cloud.service_types), "horizon": _flag(bool(cloud.dashboard_url))},
        "compute": {
            "image_ref": cloud.image_ref,
            "image_ref_alt": cloud.image_ref_alt,
            "flavor_ref": cloud.flavor_ref,
            "flavor_ref_alt": cloud.flavor_ref_alt,
            "build_timeout": patience,
        },
        # Nothing is put behind a host name that has a domain already.
        "compute-feature-enabled": {"dhcp_domain": "", "scheduler_enabled_filters": ",".join(FILTERS)},
        "image": {"build_timeout": patience},
        "network": {
            "public_network_id": cloud.public_network_id,
            "floating_network_name": "public",
            "build_timeout": patience,
        },
        "network-feature-enabled": {"api_extensions": ",".join(cloud.network_extensions)},
        "validation": {
            "connect_method": "floating",
            "image_ssh_user": "pileus",
            "image_alt_ssh_user": "pileus",
            "ssh_timeout": patience,
        },
        "volume": _volume_facts(cloud, patience),
        "scenario": {"img_file": str(image), "img_disk_format": "qcow2", "dhcp_client": "udhcpc"},
    }
    if cloud.placement_ceiling:
        facts["placement"] = {"max_microversion": cloud.placement_ceiling}
    if cloud.dashboard_url:
        facts["dashboard"] = {"dashboard_url": cloud.dashboard_url}
    return facts


def _volume_facts(cloud: Cloud, patience: str) -> dict[str, str]:
    told = cloud.volumes
    known = {
        "max_microversion": told.ceiling, "backend_names": ",".join(told.backend_names),
        "vendor_name": told.vendor_name, "storage_protocol": told.storage_protocol,
        "volume_type_multiattach": told.multiattach_type,
    }
    kind = next((kind for kind in SERVICES["cinder"] if kind in cloud.service_types), "block-storage")
    # Backups are files of the nodes, as those of Cinder's posix driver: no object store has them.
    return {
        "catalog_type": kind, "build_timeout": patience, "backup_driver": "posix",
        **{name: value for name, value in known.items() if value},
    }


# The security rules that the tests of [identity-feature-enabled] security_compliance expect to meet. The
# cloud is started with the same ones (COMPLIANCE_SETTINGS), short enough to be waited for.
COMPLIANCE = {"lockout_failure_attempts": "2", "lockout_duration": "6", "unique_last_password_count": "2"}
COMPLIANCE_SETTINGS = {"lockout_failures": "2", "lockout_minutes": "0.1", "password_history": "2"}
