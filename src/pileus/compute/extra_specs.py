"""Extra specs of flavors, and what they may say (2.86)."""

from __future__ import annotations

import re
from typing import Any

from pileus.compute import flavors
from pileus.compute.schemas_rest import Specs
from pileus.compute.tables import flavor
from pileus.web.call import Call
from pileus.web.errors import BadRequest, NotFound

# -- handlers


def index(call: Call) -> dict[str, Any]:
    """GET /flavors/{flavor_id}/os-extra_specs: 200."""
    return {"extra_specs": _of(call).extra_specs}


def show(call: Call) -> dict[str, Any]:
    """GET /flavors/{flavor_id}/os-extra_specs/{key}: 200."""
    found = _of(call)
    return {call.params["key"]: _value(found, call.params["key"])}


def create(call: Call) -> dict[str, Any]:
    """POST /flavors/{flavor_id}/os-extra_specs: 200. Adds to what is there."""
    specs: Specs = call.body.extra_specs
    _store(call, specs)
    return {"extra_specs": specs}


def update(call: Call) -> dict[str, Any]:
    """PUT /flavors/{flavor_id}/os-extra_specs/{key}: 200."""
    specs: Specs = call.body
    if len(specs) != 1:
        raise BadRequest("The request body must hold one extra spec and nothing else.")
    if call.params["key"] not in specs:
        raise BadRequest(f"Request body and URI mismatch: the body does not hold {call.params['key']}.")
    _store(call, specs)
    return specs


def delete(call: Call) -> None:
    """DELETE /flavors/{flavor_id}/os-extra_specs/{key}: 200."""
    found = _of(call)
    _value(found, call.params["key"])
    left = {key: value for key, value in found.extra_specs.items() if key != call.params["key"]}
    _write(call, found, left)


def _of(call: Call) -> flavors.Flavor:
    return flavors.find(call.tx, call.context, call.params["flavor_id"])


def _value(found: flavors.Flavor, key: str) -> str:
    if key not in found.extra_specs:
        raise NotFound(f"Flavor {found.id} has no extra specs with key {key}.")
    return found.extra_specs[key]


def _store(call: Call, specs: Specs) -> None:
    found = _of(call)
    texts = {key: value if isinstance(value, str) else str(value) for key, value in specs.items()}
    for key, text in texts.items():
        if len(text) > 255:
            raise BadRequest(f"Invalid input: the value of {key} is longer than 255 characters.")
        if call.version is not None and call.version >= (2, 86):
            check(key, text)
    _write(call, found, {**found.extra_specs, **texts})


def _write(call: Call, found: flavors.Flavor, specs: dict[str, str]) -> None:
    call.tx.execute(
        flavor.update().where(flavor.c.id == found.id).values(extra_specs=specs, updated=call.now)
    )


# -- what the keys of known namespaces may be

_NUMBER = r"\d+"
_BOOL = r"(?i:1|t|true|on|y|yes|0|f|false|off|n|no)"
_ANY = r".*"

_KNOWN: tuple[tuple[str, str], ...] = (
    (r"accel:device_profile", _ANY),
    (r"hide_hypervisor_id", _BOOL),
    (r"hw:boot_menu", _BOOL),
    (r"hw:cpu_cores|hw:cpu_sockets|hw:cpu_threads|hw:cpu_max_cores|hw:cpu_max_sockets|hw:cpu_max_threads", _NUMBER),
    (r"hw:cpu_policy", r"dedicated|shared|mixed"),
    (r"hw:cpu_thread_policy", r"prefer|isolate|require"),
    (r"hw:emulator_threads_policy", r"isolate|share"),
    (r"hw:cpu_realtime|hw:hide_hypervisor_id|hw:locked_memory|hw:mem_encryption|hw:mem_secure|hw:pmu", _BOOL),
    (r"hw:vif_multiqueue_enabled|hw:virtio_packed_ring|hw:tpm_secret_security_enabled", _BOOL),
    (r"hw:cpu_realtime_mask", r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"),
    (r"hw:cpu_dedicated_mask", r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"),
    (r"hw:mem_page_size", r"(?i:large|small|any|\d+([kmgt]i?)?(b|bit)?)"),
    (r"hw:mem_encryption_model", r"amd-sev|amd-sev-es"),
    (r"hw:numa_nodes|hw:pci_numa_affinity_nodes|hw:serial_port_count|hw:ephemeral_encryption_count", _NUMBER),
    (r"hw:numa_cpus\.\d+", r"\^?\d+((-\d+)?(,\^?\d+(-\d+)?)?)*"),
    (r"hw:numa_mem\.\d+", _NUMBER),
    (r"hw:pci_numa_affinity_policy", r"required|preferred|legacy|socket"),
    (r"hw:pmem|hw:machine_type|hw:cpu_model", _ANY),
    (r"hw:watchdog_action", r"none|pause|poweroff|reset|disabled"),
    (r"hw:viommu_model", r"intel|smmuv3|virtio|auto"),
    (r"hw:tpm_version", r"1\.2|2\.0"),
    (r"hw:tpm_model", r"tpm-tis|tpm-crb"),
    (r"hw:sound_model", _ANY),
    (r"hw:usb_model", _ANY),
    (r"hw:redirected_usb_ports", _NUMBER),
    (r"hw:maxphysaddr_bits", _NUMBER),
    (r"hw:maxphysaddr_mode", r"passthrough|emulate"),
    (r"hw:ephemeral_encryption", _BOOL),
    (r"hw:ephemeral_encryption_format", r"luks|plain"),
    (r"hw_rng:allowed", _BOOL),
    (r"hw_rng:rate_bytes|hw_rng:rate_period", _NUMBER),
    (r"hw_video:ram_max_mb", _NUMBER),
    (r"os:secure_boot", r"required|optional|disabled"),
    (r"pci_passthrough:alias", r"[^:]+:\d+(,[^:]+:\d+)*"),
    (r"quota:(cpu|memory)_(limit|reservation|shares_share)", _NUMBER),
    (r"quota:(disk_io_limit|disk_io_reservation|disk_io_shares_share|vif_limit|vif_reservation)", _NUMBER),
    (r"quota:vif_shares_share|quota:cpu_shares|quota:cpu_period", _NUMBER),
    (r"quota:cpu_quota", r"-?\d+"),
    (r"quota:(cpu_shares_level|memory_shares_level|disk_io_shares_level|vif_shares_level)", r"custom|high|normal|low"),
    (r"quota:disk_(read|write|total)_(bytes|iops)_sec", _NUMBER),
    (r"quota:vif_(inbound|outbound)_(average|burst|peak)", _NUMBER),
    (r"resources([a-zA-Z0-9_-]{1,64})?:[A-Z0-9_]+", _NUMBER),
    (r"trait([a-zA-Z0-9_-]{1,64})?:[A-Z0-9_]+", r"required|forbidden"),
    (r"group_policy", r"isolate|none"),
    (r"aggregate_instance_extra_specs:.+|capabilities:.+|powervm:.+|vmware:.+", _ANY),
)

_OWN = re.compile(
    r"(hw|hw_rng|hw_video|os|accel|pci_passthrough|quota|resources[a-zA-Z0-9_-]*|trait[a-zA-Z0-9_-]*):"
)
_RULES = tuple((re.compile(key), re.compile(value)) for key, value in _KNOWN)


def check(key: str, value: str) -> None:
    """Refuse a key that a known namespace does not have, and a value that its key cannot have.

    Keys without a namespace, or in one that nobody knows, may say what they like. Raises BadRequest."""
    for name, allowed in _RULES:
        if name.fullmatch(key):
            if not allowed.fullmatch(value):
                raise BadRequest(f"Validation failed; extra spec '{key}' cannot be '{value}'.")
            return
    if _OWN.match(key):
        raise BadRequest(f"Validation failed; extra spec '{key}' does not appear to be a valid extra spec.")


