"""Members of a cluster, as tests make them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from pileus.cloud import Cloud
from pileus.cluster import authority, certificates, invitation, nodes, tokens

WHERE = "192.0.2.7"


def run(cloud: Cloud, work: Any) -> Any:
    """A transaction."""
    return cloud.db.run_sync(work)


def make_token(cloud: Cloud, **more: Any) -> invitation.Parts:
    """A token, taken apart."""
    options: dict[str, Any] = {"roles": ("compute", "network"), "hours": 1.0, "uses": None, **more}
    return invitation.parse(run(cloud, lambda tx: tokens.create(tx, cloud, **options)))


class Member:
    """A node with a key in a folder."""

    def __init__(self, cloud: Cloud, folder: Path, name: str = "n1") -> None:
        self.cloud, self.folder, self.name = cloud, folder, name
        self.key = certificates.keep_key(folder / "key.pem")

    @property
    def digest(self) -> str:
        """Of its key."""
        return authority.digest_of_request(certificates.request_for(self.key, self.name))

    def join(self, token: invitation.Parts, **more: Any) -> tuple[str, ...]:
        """As the node does; its roles. Keeps the certificate."""
        given: dict[str, Any] = {
            "token_id": token.id, "secret": token.secret, "name": self.name, "roles": (), "address": WHERE,
            "version": "1", "request": certificates.request_for(self.key, self.name), **more,
        }
        certificate, roles = run(self.cloud, lambda tx: nodes.join(tx, self.cloud, **given))
        self.keep(certificate)
        return tuple(roles)

    def keep(self, certificate: str) -> None:
        """Have it as a certificate."""
        certificates.keep(self.folder / "cert.pem", certificate)
        certificates.keep(self.folder / "ca.pem", run(self.cloud, lambda tx: authority.ensure(tx, self.cloud)))

    def admit(self, instance: str = "aa", digest: str = "", address: str = "") -> tuple[Any, str]:
        """As the cluster port does."""
        found: tuple[Any, str] = run(self.cloud, lambda tx: nodes.admit(
            tx, self.cloud, self.name, digest or self.digest, instance=instance, address=address
        ))
        return found

    def context(self) -> ssl.SSLContext:
        """TLS as this node."""
        ca = (self.folder / "ca.pem").read_text()
        return certificates.client_context(ca, self.folder / "cert.pem", self.folder / "key.pem")
