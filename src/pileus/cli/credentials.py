"""clouds.yaml and openrc of a cloud, readable by their owner alone."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from pileus.settings import Settings


def write(settings: Settings, password: str, identity: str = "") -> Path:
    """Write both files into the state folder; the path of clouds.yaml. `identity`: where it is, without the version.

    Without a password, as on a controller that did not make the account, clients ask for it."""
    auth = {"auth_url": f"{identity or settings.endpoint + '/identity'}/v3", "username": "admin"}
    if password:
        auth["password"] = password
    auth["user_domain_id"] = "default"
    common: dict[str, Any] = {"region_name": settings.region, "identity_api_version": "3", "interface": "public"}
    clouds = {
        "pileus-admin": {
            "auth": {**auth, "project_name": "admin", "project_domain_id": "default"}, **common,
        },
        "pileus-system": {"auth": {**auth, "system_scope": "all"}, **common},
    }
    path = settings.state / "clouds.yaml"
    private(path, yaml.safe_dump({"clouds": clouds}, sort_keys=False))
    names = {
        "OS_AUTH_URL": auth["auth_url"], "OS_USERNAME": "admin", "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default", "OS_REGION_NAME": settings.region,
        "OS_IDENTITY_API_VERSION": "3", "OS_INTERFACE": "public",
    }
    if password:
        names["OS_PASSWORD"] = password
    lines = [f"export {name}={shlex.quote(value)}" for name, value in names.items()]
    if not password:
        lines += [
            'if [ -z "${OS_PASSWORD:-}" ]; then',
            "    printf 'Password of admin: ' >&2; stty -echo; read -r OS_PASSWORD; stty echo; echo >&2",
            "fi",
            "export OS_PASSWORD",
        ]
    private(settings.state / "openrc", "\n".join(lines) + "\n")
    return path


def private(path: Path, text: str) -> None:
    """Write a file with mode 0600, whole or not at all."""
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(handle, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    part.rename(path)
