"""Starts a fresh cloud, makes in it what Tempest needs, asks it what it is, and removes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.conformance.config import COMPLIANCE_SETTINGS, SERVICES, Administrator, Cloud, Hypervisor, Volumes
from tests.conformance.place import own_place
from tests.conformance.rest import CloudError, Session, send
from tests.ports import free_port

PILEUS = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "pileus"
FLAVORS = {"m1.nano": 128, "m1.micro": 192}
"""Name and memory in MiB of the two flavors; both have one CPU and a disk of 1 GiB."""


@contextmanager
def running(
    state: Path, hypervisor: Hypervisor, database: str, logs: Path, keep: bool, extra: Mapping[str, str] | None = None
) -> Iterator[Administrator]:
    """Start a cloud with its state in `state`, and destroy it at the end unless `keep`.

    `database` is the URL of an empty database, or '' for SQLite in `state`. Raises CloudError when it does
    not start. `extra` are more settings.
    """
    options = {
        "hypervisor": hypervisor,
        "listen": f"127.0.0.1:{free_port()}",
        "import_allow_private": "true",
        **COMPLIANCE_SETTINGS,
        **(extra or {}),
    }
    if hypervisor == "fake":
        options["fake_nodes"] = "2"
    # Through the environment: a database URL holds a password, and arguments are everyone's to read.
    environment = {**os.environ, **({"PILEUS_DATABASE": database} if database else {})}
    with ExitStack() as stack:
        place = stack.enter_context(own_place()) if hypervisor == "qemu" else {}
        sets = [part for name, value in {**options, **place}.items() for part in ("--set", f"{name}={value}")]
        try:
            pileus(["up", "-d", "--state-dir", str(state), *sets], logs, environment)
            yield administrator(state / "clouds.yaml")
        except BaseException:
            # What went wrong first is what has to be told, not that the rest could not be removed either.
            with suppress(CloudError):
                _end(state, logs, environment, keep)
            raise
        _end(state, logs, environment, keep)


def administrator(clouds: Path) -> Administrator:
    """Read the account `pileus-admin` from clouds.yaml. Raises CloudError when it is not there."""
    try:
        cloud = yaml.safe_load(clouds.read_text(encoding="utf-8"))["clouds"]["pileus-admin"]
        auth = cloud["auth"]
        return Administrator(
            auth_url=_versioned(auth["auth_url"]),
            username=auth["username"],
            password=auth["password"],
            project=auth["project_name"],
            domain=auth.get("user_domain_name", "Default"),
            region=cloud.get("region_name", "RegionOne"),
        )
    except (OSError, KeyError, TypeError) as error:
        raise CloudError(f"{clouds} does not describe the cloud 'pileus-admin': {error!r}") from error


def furnish(session: Session, image: Path) -> Cloud:
    """Make flavors and images, and ask the cloud what else tempest.conf has to say. Raises CloudError.

    What belongs to a service that the catalog lacks stays empty: a cloud may serve identity alone.
    """
    there = session.catalog
    flavors = _flavors(session) if "compute" in there else ["", ""]
    content = image.read_bytes()
    images = [_upload(session, f"conformance-{i}", content) for i in (1, 2)] if "image" in there else ["", ""]
    volume = next((kind for kind in SERVICES["cinder"] if kind in there), "")
    return Cloud(
        administrator=session.administrator,
        service_types=frozenset(there),
        compute_ceiling=_ceiling(session, "compute"),
        placement_ceiling=_ceiling(session, "placement"),
        volumes=_volumes(session, volume) if volume else Volumes(),
        network_extensions=_extensions(session) if "network" in there else (),
        compute_hosts=_compute_hosts(session) if "compute" in there else (),
        dashboard_url=_dashboard(session.administrator.auth_url),
        public_network_id=_public_network(session) if "network" in there else "",
        image_ref=images[0],
        image_ref_alt=images[1],
        flavor_ref=flavors[0],
        flavor_ref_alt=flavors[1],
    )


def _volumes(session: Session, service: str) -> Volumes:
    """Make the volume types that Tempest attaches, and ask for the backends. Raises CloudError."""
    pools = session.call("GET", service, "/scheduler-stats/get_pools?detail=true")["pools"]
    told = pools[0]["capabilities"] if pools else {}
    return Volumes(
        ceiling=_ceiling(session, service),
        backend_names=tuple(sorted(pool["capabilities"]["volume_backend_name"] for pool in pools)),
        vendor_name=told.get("vendor_name", ""), storage_protocol=told.get("storage_protocol", ""),
        multiattach_type=_volume_type(session, service, "multiattach", {"multiattach": "<is> True"}),
        data_type=_volume_type(session, service, "data", {}),
    )


def _volume_type(session: Session, service: str, name: str, extra_specs: dict[str, str]) -> str:
    known = {found["name"] for found in session.call("GET", service, "/types")["volume_types"]}
    if name not in known:
        session.call("POST", service, "/types", {"volume_type": {"name": name, "extra_specs": extra_specs}})
    return name


def build_guest(path: Path, logs: Path) -> None:
    """Build the guest image that real guests boot. Raises CloudError."""
    pileus(["image", "build-guest", str(path)], logs, dict(os.environ))


def pileus(arguments: list[str], logs: Path, environment: dict[str, str]) -> None:
    """Run a command of Pileus, its output in `logs`. Raises CloudError when it fails."""
    output = logs / "pileus-command.log"
    command = [str(PILEUS), *arguments]
    try:
        with output.open("ab") as file:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment, timeout=600
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CloudError(f"'pileus {arguments[0]}' did not run to its end: {error}") from error
    if done.returncode:
        last = " / ".join(output.read_text(errors="replace").strip().splitlines()[-5:])
        raise CloudError(f"'pileus {arguments[0]}' failed with {done.returncode}: {last} (all in {output})")


def _end(state: Path, logs: Path, environment: dict[str, str], keep: bool) -> None:
    for log in state.rglob("*.log"):
        shutil.copy(log, logs / f"cloud-{log.name}")
    if not keep:
        # Only what was destroyed is forgotten: the state is needed to remove the rest by hand.
        pileus(["destroy", "--state-dir", str(state)], logs, environment)
        shutil.rmtree(state, ignore_errors=True)


def _versioned(auth_url: str) -> str:
    url = auth_url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def _flavors(session: Session) -> list[str]:
    known = {flavor["name"]: flavor["id"] for flavor in session.call("GET", "compute", "/flavors")["flavors"]}
    for name, memory in FLAVORS.items():
        if name not in known:
            body = {"flavor": {"name": name, "ram": memory, "vcpus": 1, "disk": 1}}
            known[name] = session.call("POST", "compute", "/flavors", body)["flavor"]["id"]
    return [known[name] for name in FLAVORS]


def _upload(session: Session, name: str, content: bytes) -> str:
    body = {
        "name": name,
        "disk_format": "qcow2",
        "container_format": "bare",
        "visibility": "public",
        # The guest has an agent on QEMU's channel, which sets passwords; root has none that could log in.
        "hw_qemu_guest_agent": "yes",
        "os_admin_user": "pileus",
    }
    prefix = "" if session.catalog["image"].endswith("/v2") else "/v2"
    image_id: str = session.call("POST", "image", f"{prefix}/images", body)["id"]
    session.call("PUT", "image", f"{prefix}/images/{image_id}/file", content)
    return image_id


def _ceiling(session: Session, service: str) -> str:
    """The highest microversion of the service's version list, '' when it has none or is not there."""
    if service not in session.catalog:
        return ""
    url = urlsplit(session.catalog[service])
    path = "/".join(part for part in url.path.split("/") if not (part[:1] == "v" and part[1:2].isdigit()))
    root = f"{url.scheme}://{url.netloc}/{path.strip('/')}/"
    versions: list[dict[str, Any]] = send("GET", root)[1]["versions"]
    tops = [version.get("max_version") or version.get("version") or "" for version in versions]
    return max(tops, key=lambda top: tuple(int(part) for part in top.split(".")) if top else (), default="")


def _extensions(session: Session) -> tuple[str, ...]:
    prefix = "" if session.catalog["network"].endswith("/v2.0") else "/v2.0"
    extensions = session.call("GET", "network", f"{prefix}/extensions")["extensions"]
    return tuple(sorted(extension["alias"] for extension in extensions))


def _public_network(session: Session) -> str:
    prefix = "" if session.catalog["network"].endswith("/v2.0") else "/v2.0"
    networks = session.call("GET", "network", f"{prefix}/networks?router:external=True")["networks"]
    for network in networks:
        if network["name"] == "public":
            network_id: str = network["id"]
            return network_id
    names = [network["name"] for network in networks]
    raise CloudError(
        f"no external network is called 'public', only {names}; the setting public_network makes it"
    )


def _compute_hosts(session: Session) -> tuple[str, ...]:
    services = session.call("GET", "compute", "/os-services?binary=nova-compute")["services"]
    return tuple(sorted(service["host"] for service in services if service["state"] == "up"))


def _dashboard(auth_url: str) -> str:
    url = urlsplit(auth_url)
    dashboard = f"{url.scheme}://{url.netloc}/dashboard/"
    try:
        send("GET", dashboard)
    except CloudError:
        return ""
    return dashboard
