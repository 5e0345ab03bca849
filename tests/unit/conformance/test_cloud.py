from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cloud import administrator, furnish, running
from tests.conformance.config import Administrator
from tests.conformance.disk import empty_qcow2
from tests.conformance.rest import CloudError, Session

CLOUDS = """
clouds:
  pileus-admin:
    region_name: Here
    auth:
      auth_url: http://127.0.0.1:1/identity
      username: admin
      password: secret
      project_name: admin
      user_domain_name: Default
"""
SERVICES = {"identity": "identity", "image": "image", "network": "network", "compute": "compute/v2.1",
            "placement": "placement"}


_SERVICES = (("up", "one"), ("down", "two"), ("up", "three"))


class CannedCloud:
    """A cloud's replies, and what was sent to it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any]] = []
        self.url = ""
        self.networks = [{"id": "n1", "name": "other"}, {"id": "n2", "name": "public"}]

    def reply(self, method: str, path: str) -> tuple[int, Any]:
        catalog = [
            {"type": kind, "endpoints": [{"interface": "public", "url": f"{self.url}/{path}"}]}
            for kind, path in SERVICES.items()
        ]
        versions = [{"id": "v2.0", "version": ""}, {"id": "v2.9", "version": "2.9"}, {"id": "v2.1", "version": "2.96"}]
        replies: dict[str, tuple[int, Any]] = {
            "POST /identity/v3/auth/tokens": (201, {"token": {"catalog": catalog}}),
            "GET /compute/v2.1/flavors": (200, {"flavors": [{"id": "f1", "name": "m1.nano"}]}),
            "POST /compute/v2.1/flavors": (200, {"flavor": {"id": "f2"}}),
            "POST /image/v2/images": (201, {"id": f"i{len(self.requests)}"}),
            "GET /compute/": (300, {"versions": versions}),
            "GET /placement/": (200, {"versions": [{"id": "v1.0", "max_version": "1.39"}]}),
            "GET /network/v2.0/extensions": (200, {"extensions": [{"alias": "router"}, {"alias": "agent"}]}),
            "GET /network/v2.0/networks?router:external=True": (200, {"networks": self.networks}),
            "GET /compute/v2.1/os-services?binary=nova-compute": (
                200, {"services": [{"state": state, "host": host} for state, host in _SERVICES]},
            ),
        }
        upload = method == "PUT" and path.startswith("/image/v2/images/")
        return (204, None) if upload else replies.get(f"{method} {path}", (404, {"error": "no such thing"}))


@pytest.fixture
def canned() -> Iterator[CannedCloud]:
    cloud = CannedCloud()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            cloud.requests.append((f"{self.command} {self.path}", body))
            status, reply = cloud.reply(self.command, self.path)
            self.send_response(status)
            self.send_header("X-Subject-Token", "token")
            text = b"" if reply is None else json.dumps(reply).encode()
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        cloud.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield cloud
        server.shutdown()
        thread.join()


def session(canned: CannedCloud) -> Session:
    return Session(Administrator(f"{canned.url}/identity/v3", "admin", "secret", "admin", "Default", "Here"))


def test_account_comes_from_clouds_yaml(tmp_path: Path) -> None:
    path = tmp_path / "clouds.yaml"
    path.write_text(CLOUDS)
    assert administrator(path) == Administrator(
        "http://127.0.0.1:1/identity/v3", "admin", "secret", "admin", "Default", "Here"
    )


def test_file_without_the_account_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="does not describe the cloud 'pileus-admin'"):
        administrator(tmp_path / "clouds.yaml")


def test_cloud_is_furnished_and_asked(canned: CannedCloud, tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    image.write_bytes(empty_qcow2())
    cloud = furnish(session(canned), image)
    assert (cloud.compute_ceiling, cloud.placement_ceiling, cloud.volumes.ceiling) == ("2.96", "1.39", "")
    assert cloud.network_extensions == ("agent", "router")
    assert (cloud.compute_hosts, cloud.public_network_id, cloud.dashboard_url) == (("one", "three"), "n2", "")
    assert (cloud.flavor_ref, cloud.flavor_ref_alt) == ("f1", "f2")
    assert cloud.image_ref != cloud.image_ref_alt
    made = [json.loads(body)["flavor"] for line, body in canned.requests if line == "POST /compute/v2.1/flavors"]
    assert made == [{"name": "m1.micro", "ram": 192, "vcpus": 1, "disk": 1}]
    uploads = [body for line, body in canned.requests if line.startswith("PUT ")]
    assert uploads == [image.read_bytes()] * 2


def test_cloud_of_identity_alone_is_no_error(
    canned: CannedCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in ("image", "network", "compute", "placement"):
        monkeypatch.delitem(SERVICES, service)
    image = tmp_path / "disk.qcow2"
    image.write_bytes(b"x")
    cloud = furnish(session(canned), image)
    assert cloud.service_types == {"identity"}
    assert (cloud.compute_ceiling, cloud.image_ref, cloud.flavor_ref, cloud.public_network_id) == ("", "", "", "")


def test_missing_public_network_is_named(canned: CannedCloud, tmp_path: Path) -> None:
    canned.networks.pop()
    image = tmp_path / "disk.qcow2"
    image.write_bytes(b"x")
    with pytest.raises(CloudError, match=r"no external network is called 'public', only \['other'\]"):
        furnish(session(canned), image)


def test_refusal_names_request_and_reply(canned: CannedCloud) -> None:
    with pytest.raises(CloudError, match=r"GET http://.*/nothing: 404 .*no such thing"):
        session(canned).call("GET", "compute", "/nothing")
    with pytest.raises(CloudError, match="the catalog has no 'volume' service"):
        session(canned).call("GET", "volume", "/volumes")


@pytest.mark.parametrize("keep", [False, True])
def test_cloud_is_started_and_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    state, logs, program = tmp_path / "state", tmp_path / "logs", tmp_path / "pileus"
    state.mkdir()
    logs.mkdir()
    (state / "clouds.yaml").write_text(CLOUDS)
    program.write_text(f'#!/bin/sh\necho "$1 $PILEUS_DATABASE" >>{tmp_path}/calls\necho "$*" >>{tmp_path}/arguments\n')
    program.chmod(0o755)
    monkeypatch.setattr("tests.conformance.cloud.PILEUS", program)
    with running(state, "fake", "postgresql://u:secret@h/d", logs, keep) as account:
        (state / "server.log").write_text("started\n")
        assert account.region == "Here"
    calls = (tmp_path / "calls").read_text().split("\n")[:-1]
    assert [call.split()[0] for call in calls] == (["up"] if keep else ["up", "destroy"])
    assert all(call.endswith("postgresql://u:secret@h/d") for call in calls)
    assert state.exists() == keep
    assert "secret" not in (tmp_path / "arguments").read_text()
    assert (logs / "cloud-server.log").read_text() == "started\n"


def test_cloud_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "pileus"
    program.write_text('#!/bin/sh\n[ "$1" = destroy ] && exit 9\necho "port is taken" >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setattr("tests.conformance.cloud.PILEUS", program)
    with pytest.raises(CloudError, match="'pileus up' failed with 3: port is taken"), running(
        tmp_path, "fake", "", tmp_path, keep=False
    ):
        pytest.fail("the cloud is not up")
    assert tmp_path.exists()  # destroy failed too
