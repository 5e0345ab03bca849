"""Certificates: each is for one key and one kind of member, and another authority's counts for nothing."""

from __future__ import annotations

import base64
import os
import ssl
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pileus.cloud import Cloud
from pileus.cluster import authority, certificates
from pileus.web.errors import BadRequest
from tests.unit.cluster.conftest import OWN
from tests.unit.cluster.members import Member, make_token, run
from tests.unit.kernel import StillWorld, bare_cloud

DAY = 86400.0


@pytest.fixture(autouse=True)
def _now(cloud: Cloud) -> None:
    assert isinstance(cloud.world, StillWorld)
    cloud.world.time = time.time()  # TLS looks at the real clock


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = certificates.SERVER_NAME) -> ssl.SSLObject:
    """A handshake in memory, and one byte back, since the client of TLS 1.3 is done before the server has judged it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(8):
        for end in (here, there):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    assert done == {here, there}
    return there


def _controller(cloud: Cloud, folder: Path) -> ssl.SSLContext:
    run(cloud, lambda tx: authority.controller_files(tx, cloud, folder))
    return certificates.server_context(folder)


def test_the_authority_is_made_once_by_however_many_controllers_start(cloud: Cloud) -> None:
    if cloud.db.embedded:
        found = {run(cloud, lambda tx: authority.ensure(tx, cloud)) for _ in range(3)}
    else:
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda _: run(cloud, lambda tx: authority.ensure(tx, cloud)), range(4)))
    assert len(found) == 1


def test_a_node_and_a_controller_know_each_other(cloud: Cloud, tmp_path: Path) -> None:
    server = _controller(cloud, tmp_path / "c")
    node = Member(cloud, tmp_path / "n")
    node.join(make_token(cloud))
    der = _handshake(server, node.context()).getpeercert(binary_form=True)
    assert der is not None
    assert certificates.holder(der) == ("node", "n1", node.digest)


def test_a_stranger_gets_in_without_a_name(cloud: Cloud, tmp_path: Path) -> None:
    server = _controller(cloud, tmp_path / "c")
    ca = (tmp_path / "c" / "ca.pem").read_text()
    assert _handshake(server, certificates.client_context(ca)).getpeercert(binary_form=True) is None


def test_a_node_cannot_pass_for_a_controller(cloud: Cloud, tmp_path: Path) -> None:
    _controller(cloud, tmp_path / "c")
    node = Member(cloud, tmp_path / "n")
    node.join(make_token(cloud))
    impostor = certificates.server_context(node.folder)
    for name in (certificates.SERVER_NAME, "node.pileus.internal"):
        with pytest.raises(ssl.SSLCertVerificationError):
            _handshake(impostor, certificates.client_context((node.folder / "ca.pem").read_text()), name)


def test_the_certificate_of_another_authority_counts_for_nothing(cloud: Cloud, tmp_path: Path) -> None:
    server = _controller(cloud, tmp_path / "c")
    (tmp_path / "other").mkdir()
    other_cloud = bare_cloud(tmp_path / "other", node_name="c1")
    assert isinstance(other_cloud.world, StillWorld)
    other_cloud.world.time = time.time()
    OWN[0].metadata.create_all(other_cloud.db.engine, tables=OWN)
    stranger = Member(other_cloud, tmp_path / "n")
    stranger.join(make_token(other_cloud))
    context = stranger.context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, context)
    mine = Member(cloud, tmp_path / "m")
    mine.join(make_token(cloud))
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(_controller(other_cloud, tmp_path / "oc"), mine.context())
    other_cloud.db.close()


def test_an_expired_certificate_counts_for_nothing(cloud: Cloud, tmp_path: Path) -> None:
    assert isinstance(cloud.world, StillWorld)
    server = _controller(cloud, tmp_path / "c")
    node = Member(cloud, tmp_path / "n")
    token = make_token(cloud, hours=None)
    cloud.world.time -= 366 * DAY
    node.join(token)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _handshake(server, node.context())


def test_clocks_may_differ_by_hours(cloud: Cloud, tmp_path: Path) -> None:
    assert isinstance(cloud.world, StillWorld)
    cloud.world.time += 20 * 3600
    node = Member(cloud, tmp_path / "n")
    node.join(make_token(cloud))
    assert _handshake(_controller(cloud, tmp_path / "c"), node.context())


def test_only_the_key_of_a_request_is_believed(cloud: Cloud, tmp_path: Path) -> None:
    node = Member(cloud, tmp_path / "n")
    node.join(make_token(cloud), request=certificates.request_for(node.key, "controller"))
    issued = x509.load_pem_x509_certificate((tmp_path / "n" / "cert.pem").read_bytes())
    assert certificates.holder(issued.public_bytes(serialization.Encoding.DER))[:2] == ("node", "n1")


def _request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    made = x509.CertificateSigningRequestBuilder().subject_name(certificates.subject("node", "n"))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_what_is_no_request_or_of_another_kind_of_key_is_refused(cloud: Cloud) -> None:
    good = _request(ec.generate_private_key(certificates.CURVE()))
    forged = x509.load_pem_x509_csr(good.encode()).public_bytes(serialization.Encoding.DER)
    flipped = forged[:-1] + bytes([forged[-1] ^ 1])
    broken = "\n".join(
        ("-----BEGIN CERTIFICATE REQUEST-----", base64.b64encode(flipped).decode(), "-----END CERTIFICATE REQUEST-----")
    )
    wrong = (
        "", "nonsense", broken, _request(rsa.generate_private_key(65537, 1024)),
        _request(ec.generate_private_key(ec.SECP384R1())),
    )
    run(cloud, lambda tx: authority.ensure(tx, cloud))
    for text in wrong:
        with pytest.raises(BadRequest):
            run(cloud, lambda tx, text=text: authority.issue(tx, cloud, text, "node", "n"))


def test_a_controllers_files_are_its_own_and_are_renewed_in_time(cloud: Cloud, tmp_path: Path) -> None:
    assert isinstance(cloud.world, StillWorld)
    folder = tmp_path / "c"

    def keep() -> bool:
        new: bool = run(cloud, lambda tx: authority.controller_files(tx, cloud, folder))
        return new

    assert keep()
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    first = (folder / "cert.pem").read_text()
    assert not keep()
    cloud.world.time += 240 * DAY
    assert not keep()
    cloud.world.time += 10 * DAY
    assert keep()
    assert (folder / "cert.pem").read_text() != first
    (folder / "key.pem").unlink()
    assert keep()
    certificates.server_context(folder)  # raises when key and certificate are not a pair


def test_a_certificate_that_was_cut_off_wants_renewal() -> None:
    assert certificates.wants_renewal("-----BEGIN CERTIFICATE-----\nMII", time.time())
    assert certificates.end("") == 0.0


def test_of_several_certificates_sent_as_one_only_the_first_is_kept(cloud: Cloud) -> None:
    mine = run(cloud, lambda tx: authority.ensure(tx, cloud))
    assert certificates.only(f"junk\n{mine}\n{mine}") == mine
    with pytest.raises(ValueError, match="PEM"):
        certificates.only("")


def test_controllers_take_tls_13_only(cloud: Cloud, tmp_path: Path) -> None:
    server = _controller(cloud, tmp_path / "c")
    old = certificates.client_context((tmp_path / "c" / "ca.pem").read_text())
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        _handshake(server, old)


def test_a_key_is_made_once(tmp_path: Path) -> None:
    assert certificates.keep_key(tmp_path / "k" / "key.pem") == certificates.keep_key(tmp_path / "k" / "key.pem")
    (tmp_path / "k" / "key.new").write_text("left by a process that was killed")
    (tmp_path / "k" / "key.new").chmod(0o644)
    certificates.keep(tmp_path / "k" / "key.pem", "x")
    assert stat.S_IMODE(os.stat(tmp_path / "k" / "key.pem").st_mode) == 0o600


