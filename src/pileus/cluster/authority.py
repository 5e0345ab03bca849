"""The cluster's certificate authority: who may speak on the cluster port, and as what.

Its key is in the database, which controllers alone can read, as the token keys are.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pileus.cluster import certificates
from pileus.cluster.certificates import CURVE, SERVER_NAME, digest, keep, moment, private_pem, subject
from pileus.cluster.tables import authority
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

_CA_YEARS = 20
_DAYS = 365
_LONGEST_NAME = 64  # of a common name, as X.520 has it


def ensure(tx: Tx, cloud: Cloud) -> str:
    """Make the authority if there is none; its certificate, PEM."""
    tx.serialize("cluster.authority")
    found = certificate(tx)
    if found is not None:
        return found
    key = ec.generate_private_key(CURVE())
    name = subject("authority", "Pileus cluster")
    now = moment(cloud.world.now())
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    tx.execute(authority.insert().values(id="ca", certificate=pem, private_key=private_pem(key)))
    return pem


def certificate(tx: Tx) -> str | None:
    """The authority's certificate, PEM; None before the first controller has started."""
    found: str | None = tx.scalar(sa.select(authority.c.certificate).where(authority.c.id == "ca"))
    return found


def issue(tx: Tx, cloud: Cloud, request: str, kind: str, name: str) -> str:
    """A certificate for the public key of a signing request, PEM. Only its key is taken from the request.

    Raises BadRequest when that is none, or of a kind of key that is not used here."""
    row = tx.first(sa.select(authority).where(authority.c.id == "ca"))
    if row is None:
        raise BadRequest("This cloud has no certificate authority: start a controller with `pileus server` first.")
    public = _public_key(request)
    ca = x509.load_pem_x509_certificate(row.certificate.encode())
    key = serialization.load_pem_private_key(row.private_key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = moment(cloud.world.now())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind == "controller":
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    names = [x509.DNSName(SERVER_NAME)] if kind == "controller" else [x509.DNSName("node.pileus.internal")]
    made = (
        x509.CertificateBuilder().subject_name(subject(kind, name)).issuer_name(ca.subject).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(min(now + datetime.timedelta(days=_DAYS), ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def digest_of_request(request: str) -> str:
    """What a node's row remembers of its key: the sha256 of the public key, hex."""
    return digest(_public_key(request))


def controller_files(tx: Tx, cloud: Cloud, folder: Path) -> bool:
    """Have this controller's key, certificate and the authority's certificate in `folder`; whether any is new."""
    pem = ensure(tx, cloud)
    key = certificates.keep_key(folder / "key.pem")
    mine = folder / "cert.pem"
    current = mine.read_text() if mine.exists() else ""
    known = (folder / "ca.pem").read_text() if (folder / "ca.pem").exists() else ""
    good = known == pem and certificates.is_of(current, key)
    if good and not certificates.wants_renewal(current, cloud.world.now()):
        return False
    request = certificates.request_for(key, "controller")
    keep(mine, issue(tx, cloud, request, "controller", cloud.controller[:_LONGEST_NAME]))
    keep(folder / "ca.pem", pem)
    return True


def _public_key(request: str) -> ec.EllipticCurvePublicKey:
    try:
        loaded = x509.load_pem_x509_csr(request.encode())
        public = loaded.public_key()
        valid = loaded.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        raise BadRequest("This is no certificate signing request in PEM.") from None
    if not valid or not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, CURVE):
        raise BadRequest("The signing request has to be signed by a key on the curve P-256.")
    return public


def _usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=sign, crl_sign=sign, encipher_only=False, decipher_only=False,
    )
