"""The secret of one move between two nodes, or of one volume: a TLS pre-shared key, that one account alone can read."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.files import own, write_atomic
from pileus.node.hypervisor.qemu.settings import Account

USER = "pileus"

GROUP = b"""\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""
"""ffdhe2048 of RFC 7919. Without one QEMU searches for a new group each time: half a second at least."""


def fresh() -> str:
    """A new secret, in hex."""
    return secrets.token_hex(32)


def write(folder: Path, secret: str, who: Account) -> None:
    """Make the folder that QEMU's tls-creds-psk takes as `dir`. Blocks. Raises NodeFault for what is no secret."""
    try:
        sound = len(bytes.fromhex(secret)) >= 16
    except ValueError:
        sound = False
    if not sound:
        raise NodeFault("the secret of a connection is not 16 bytes or more in hex")
    folder.mkdir(mode=0o711, exist_ok=True)
    write_atomic(folder / "dh-params.pem", GROUP, 0o644)
    keys = folder / "keys.psk"
    write_atomic(keys, f"{USER}:{secret}\n".encode())
    own(keys, who)


def read(folder: Path) -> str | None:
    """The secret that was written; None if there is none. Blocks."""
    try:
        handle = os.open(folder / "keys.psk", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(handle) as file:
            return file.read().strip().partition(":")[2] or None
    except FileNotFoundError:
        return None


def remove(folder: Path) -> None:
    """Forget it; missing is fine. Blocks."""
    shutil.rmtree(folder, ignore_errors=True)
