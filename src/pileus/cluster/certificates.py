"""Keys and certificates of the cluster's members, as files and in TLS; nothing here needs the database.

A certificate names its holder (CN) and what it is (OU: `controller` or `node`). Controllers all answer to one name, so
that any of them can be reached by any address.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SERVER_NAME = "controller.pileus.internal"
"""The name in every controller's certificate."""

CURVE = ec.SECP256R1
_RENEW_DAYS = 120
_ORGANIZATION = "pileus"


def only(pem: str) -> str:
    """The first certificate of a text, alone. Raises ValueError when there is none.

    What a stranger sends as one certificate may be several, and TLS would trust them all."""
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.PEM).decode()


def fingerprint(certificate: str) -> str:
    """The sha256 of a certificate (PEM), hex: what a join token pins."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    return loaded.fingerprint(hashes.SHA256()).hex()


def holder(certificate: bytes) -> tuple[str, str, str]:
    """Kind, name and key digest of a certificate (DER) that the TLS library has verified."""
    found = x509.load_der_x509_certificate(certificate)
    public = found.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    kind = found.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value
    name = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    return str(kind), str(name), digest(public)


def end(certificate: str) -> float:
    """Until when a certificate (PEM) is good, in seconds since the epoch; 0 for what is none."""
    try:
        return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc.timestamp()
    except ValueError:
        return 0.0


def wants_renewal(certificate: str, now: float) -> bool:
    """Whether a certificate is near its end."""
    return end(certificate) - now < _RENEW_DAYS * 86400


def is_of(certificate: str, key: str) -> bool:
    """Whether a certificate is for this private key; both PEM."""
    try:
        public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    except ValueError:
        return False
    return public == _load(key).public_key()


def keep_key(path: Path) -> str:
    """The private key in the file, made if it is missing (mode 0600); PEM."""
    if path.exists():
        return path.read_text()
    made = private_pem(ec.generate_private_key(CURVE()))
    keep(path, made)
    return made


def keep(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    beside.replace(path)


def request_for(key: str, name: str) -> str:
    """A signing request, PEM, of a private key (PEM)."""
    made = x509.CertificateSigningRequestBuilder().subject_name(subject("node", name))
    return made.sign(_load(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


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


def digest(public: ec.EllipticCurvePublicKey) -> str:
    """What is remembered of a member's key: the sha256 of its public half, hex."""
    encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as text."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def subject(kind: str, name: str) -> x509.Name:
    """The name in a certificate."""
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, kind),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ])


def moment(now: float) -> datetime.datetime:
    """Seconds since the epoch as certificates have time."""
    return datetime.datetime.fromtimestamp(now, datetime.UTC)


def _load(key: str) -> ec.EllipticCurvePrivateKey:
    loaded = serialization.load_pem_private_key(key.encode(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    return loaded
