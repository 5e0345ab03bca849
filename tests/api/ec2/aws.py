"""Amazon's own client library against the application in process, and people with access keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.api.conftest import PASSWORD, Client

URL = "http://cloud.test/ec2/services/Cloud"
V3, V20, V21 = "/identity/v3", "/network/v2.0", "/compute/v2.1"
_SESSION = botocore.session.Session()


class _Raw:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> Iterator[bytes]:
        yield self._content


class Person:
    """A user of one project: his OpenStack client, his access key, and botocore's EC2 client with it."""

    def __init__(self, client: Client, user: str, project: str) -> None:
        self.client, self.user, self.project = client, user, project
        self.key = self.new_key()
        self.ec2 = connect(client, self.key)

    def new_key(self) -> dict[str, str]:
        """An access key of his for his project."""
        reply = self.client.post(f"{V3}/users/{self.user}/credentials/OS-EC2", {"tenant_id": self.project})
        assert reply.status_code == 201, reply.text
        key: dict[str, str] = reply.json()["credential"]
        return key


def connect(client: Client, key: dict[str, str], **config: Any) -> Any:
    """botocore's EC2 client with this access key, which speaks to the application without a socket."""
    ec2 = _SESSION.create_client(
        "ec2", region_name="RegionOne", endpoint_url=URL, aws_access_key_id=key["access"],
        aws_secret_access_key=key["secret"], config=Config(retries={"max_attempts": 0}, **config),
    )

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        headers = {
            name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
        }
        reply = client.loop.run_until_complete(
            client.http.request(request.method, request.url, headers=headers, content=request.body or b"")
        )
        return AWSResponse(request.url, reply.status_code, reply.headers, _Raw(reply.content))

    ec2.meta.events.register("before-send.ec2", send)
    return ec2


def make_person(admin: Client, name: str, role: str = "member") -> Person:
    """A new user with a role in a new project, and an access key."""
    project = admin.post(f"{V3}/projects", {"project": {"name": name}}).json()["project"]["id"]
    user = admin.post(f"{V3}/users", {"user": {"name": name, "password": PASSWORD}}).json()["user"]["id"]
    for one in {role, "member"}:
        [found] = admin.get(f"{V3}/roles?name={one}").json()["roles"]
        assert admin.put(f"{V3}/projects/{project}/users/{user}/roles/{found['id']}").status_code == 204
    return Person(admin.login(name, PASSWORD, name), user, project)


def make_network(person: Person, name: str = "net", cidr: str = "10.5.0.0/24") -> str:
    """A network with one subnet; the subnet's id."""
    network = person.client.post(f"{V20}/networks", {"network": {"name": name}}).json()["network"]["id"]
    body = {"subnet": {"network_id": network, "cidr": cidr, "ip_version": 4}}
    subnet: str = person.client.post(f"{V20}/subnets", body).json()["subnet"]["id"]
    return subnet


def refused(code: str, status: int | None = None) -> Any:
    """The block ends in this error of EC2's."""
    return _Refused(code, status)


class _Refused:
    def __init__(self, code: str, status: int | None) -> None:
        self.code, self.status = code, status
        self._raises = pytest.raises(ClientError)

    def __enter__(self) -> Any:
        self.info = self._raises.__enter__()
        return self.info

    def __exit__(self, *error: Any) -> Any:
        done = self._raises.__exit__(*error)
        answer = self.info.value.response
        assert answer["Error"]["Code"] == self.code, answer["Error"]
        if self.status is not None:
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == self.status
        assert answer["ResponseMetadata"]["RequestId"].startswith("req-")
        return done
