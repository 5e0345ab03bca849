"""The cluster's certificate authority: who may speak on the cluster port, and as what.

Its key is in the database, which controllers alone can read, as the token keys are. A certificate names its holder
(CN) and what it is (OU: `controller` or `node`). Controllers all answer to one name, so that any of
them can be reached by any address.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pileus.cluster.tables import authority
from pileus.web.errors import BadRequest

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx

SERVER_NAME = "controller.pileus.internal"
"""The name in every controller's certificate."""

_CA_YEARS = 20
_DAYS = 365
_RENEW_DAYS = 120
_CURVE = ec.SECP256R1
_ORGANIZATION = "pileus"


def ensure(tx: Tx, cloud: Cloud) -> str:
    """Make the authority if there is none; its certificate, PEM."""
    tx.serialize("cluster.authority")
    found: str | None = tx.scalar(sa.select(authority.c.certificate).where(authority.c.id == "ca"))
    if found is not None:
        return found
    key = ec.generate_private_key(_CURVE())
    name = _name("authority", "Pileus cluster")
    now = _moment(cloud.world.now())
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    tx.execute(authority.insert().values(id="ca", certificate=pem, private_key=_private(key)))
    return pem


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
    now = _moment(cloud.world.now())
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind == "controller":
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    names = [x509.DNSName(SERVER_NAME)] if kind == "controller" else [x509.DNSName("node.pileus.internal")]
    certificate = (
        x509.CertificateBuilder().subject_name(_name(kind, name)).issuer_name(ca.subject).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def digest_of_request(request: str) -> str:
    """What a node's row remembers of its key: the sha256 of the public key, hex."""
    return _digest(_public_key(request))


def holder(certificate: bytes) -> tuple[str, str, str]:
    """Kind, name and key digest of a certificate (DER) that the TLS library has verified."""
    found = x509.load_der_x509_certificate(certificate)
    public = found.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    kind = found.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value
    name = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return str(kind), str(name), _digest(public)


def fingerprint(certificate: str) -> str:
    """The sha256 of a certificate (PEM), hex: what a join token pins."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    return loaded.fingerprint(hashes.SHA256()).hex()


def wants_renewal(certificate: str, now: float) -> bool:
    """Whether a certificate is near its end."""
    try:
        end = x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
    except ValueError:
        return True
    return end - _moment(now) < datetime.timedelta(days=_RENEW_DAYS)


def keep_key(path: Path) -> str:
    """The private key in the file, made if it is missing (mode 0600); PEM."""
    if path.exists():
        return path.read_text()
    made = _private(ec.generate_private_key(_CURVE()))
    keep(path, made)
    return made


def keep(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_suffix(".new")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    beside.replace(path)


def request_for(key: str, name: str) -> str:
    """A signing request, PEM, of a private key (PEM)."""
    loaded = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    made = x509.CertificateSigningRequestBuilder().subject_name(_name("node", name)).sign(loaded, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def controller_files(tx: Tx, cloud: Cloud, folder: Path) -> None:
    """Have this controller's key, certificate and the authority's certificate in `folder`."""
    pem = ensure(tx, cloud)
    key = keep_key(folder / "key.pem")
    mine = folder / "cert.pem"
    current = mine.read_text() if mine.exists() else ""
    known = (folder / "ca.pem").read_text() if (folder / "ca.pem").exists() else ""
    if not current or known != pem or wants_renewal(current, cloud.world.now()):
        keep(mine, issue(tx, cloud, request_for(key, cloud.controller), "controller", cloud.controller))
        keep(folder / "ca.pem", pem)


def server_context(folder: Path) -> ssl.SSLContext:
    """TLS 1.3 for the cluster port. Who has no certificate may only ask for the authority's, or join."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(ca: str, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 towards a controller, whose certificate has to be this authority's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def _public_key(request: str) -> ec.EllipticCurvePublicKey:
    try:
        loaded = x509.load_pem_x509_csr(request.encode())
        public = loaded.public_key()
        valid = loaded.is_signature_valid
    except (ValueError, InvalidSignature):
        raise BadRequest("This is no certificate signing request in PEM.") from None
    if not valid or not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, _CURVE):
        raise BadRequest("The signing request has to be signed by a key on the curve P-256.")
    return public


def _digest(public: ec.EllipticCurvePublicKey) -> str:
    encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _name(kind: str, name: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ])


def _usage(sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=sign, crl_sign=sign, encipher_only=False, decipher_only=False,
    )


def _moment(now: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(now, datetime.UTC)


def is_address(text: str) -> bool:
    """Whether the text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
