"""Who may speak: signatures right and wrong, old, replayed, changed, and of those who may not any more."""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from botocore.auth import SigV2Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pileus.cloud import Cloud
from pileus.web.app import App
from tests.api.conftest import PASSWORD, Client
from tests.api.ec2.aws import URL, V3, Person, connect, make_person, refused

ASK = {"Action": "DescribeInstances", "Version": "2016-11-15"}


def credentials(key: dict[str, str]) -> Credentials:
    return Credentials(key["access"], key["secret"])


def signed(key: dict[str, str], params: dict[str, str] = ASK, service: str = "ec2", url: str = URL) -> Any:
    """A POST with a signature of version 4 in its header."""
    request = AWSRequest("POST", url, data=urlencode(params), headers={
        "Content-Type": "application/x-www-form-urlencoded",
    })
    SigV4Auth(credentials(key), service, "RegionOne").add_auth(request)
    return request


def send(client: Client, request: Any) -> httpx.Response:
    """Send it as it is."""
    prepared = request.prepare()
    headers = {k: v.decode() if isinstance(v, bytes) else v for k, v in prepared.headers.items()}
    return client.loop.run_until_complete(
        client.http.request(prepared.method, prepared.url, headers=headers, content=prepared.body or b"")
    )


def code(reply: httpx.Response) -> str:
    """The error's code; "" for an answer."""
    assert reply.headers["content-type"] == "text/xml;charset=UTF-8"
    found = ET.fromstring(reply.content).find("Errors/Error/Code")
    return "" if found is None else found.text or ""


@pytest.fixture(scope="module")
def nobody(anonymous: Client) -> Client:
    return anonymous


# -- right ones


def test_version_4_in_a_header(alice: Person, nobody: Client) -> None:
    reply = send(nobody, signed(alice.key))
    assert reply.status_code == 200, reply.text
    root = ET.fromstring(reply.content)
    assert root.tag == "{http://ec2.amazonaws.com/doc/2016-11-15/}DescribeInstancesResponse"
    assert root.findtext("{*}requestId") == reply.headers["x-openstack-request-id"]


@pytest.mark.parametrize("path", ["/ec2", "/ec2/", "/ec2/services/Cloud", "/ec2/services/Cloud/"])
def test_every_way_to_the_place(alice: Person, nobody: Client, path: str) -> None:
    assert send(nobody, signed(alice.key, url="http://cloud.test" + path)).status_code == 200


def test_at_its_classic_port(alice: Person, place: Cloud) -> None:
    """There the room is at the root, and that is the path that is signed."""
    inner = App(place, place.served, {})

    async def port(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "pileus.service": "ec2"}, receive, send)

    client = Client(port, alice.client.loop)  # type: ignore[arg-type]
    for path in ("/", "/services/Cloud"):
        reply = send(client, signed(alice.key, url="http://cloud.test:8773" + path))
        assert reply.status_code == 200, reply.text


def test_version_4_in_the_query(alice: Person, nobody: Client) -> None:
    request = AWSRequest("GET", f"{URL}?{urlencode(ASK)}")
    SigV4QueryAuth(credentials(alice.key), "ec2", "RegionOne", expires=60).add_auth(request)
    assert send(nobody, request).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_version_2(alice: Person, nobody: Client, method: str) -> None:
    request = AWSRequest(method, URL, data=dict(ASK) if method == "POST" else None,
                         params=dict(ASK) if method == "GET" else None)
    SigV2Auth(credentials(alice.key)).add_auth(request)
    assert send(nobody, request).status_code == 200


def test_an_older_version_is_answered_in_its_namespace(alice: Person, nobody: Client) -> None:
    reply = send(nobody, signed(alice.key, {**ASK, "Version": "2013-10-15"}))
    assert ET.fromstring(reply.content).tag.startswith("{http://ec2.amazonaws.com/doc/2013-10-15/}")
    assert code(send(nobody, signed(alice.key, {**ASK, "Version": "2030-01-01"}))) == "NoSuchVersion"
    assert code(send(nobody, signed(alice.key, {**ASK, "Version": "newest"}))) == "NoSuchVersion"


# -- wrong ones


def test_no_signature(nobody: Client) -> None:
    for reply in (nobody.get("/ec2/services/Cloud", params=ASK), nobody.request("POST", "/ec2", data=ASK),
                  nobody.get("/ec2"), nobody.get("/ec2", headers={"X-Auth-Token": "x"})):
        assert (reply.status_code, code(reply)) == (400, "IncompleteSignature")


def test_a_token_is_no_signature(alice: Person) -> None:
    reply = alice.client.get("/ec2", params=ASK)
    assert code(reply) == "IncompleteSignature"


def test_an_unknown_key_and_a_wrong_secret(alice: Person, nobody: Client) -> None:
    reply = send(nobody, signed({**alice.key, "access": "0" * 32}))
    assert (reply.status_code, code(reply)) == (401, "AuthFailure")
    reply = send(nobody, signed({**alice.key, "secret": "0" * 32}))
    assert (reply.status_code, code(reply)) == (403, "SignatureDoesNotMatch")


def test_what_was_changed_after_signing(alice: Person, nobody: Client) -> None:
    def change_body(request: Any) -> None:
        request.data = urlencode({**ASK, "Action": "DescribeVpcs"})

    def change_query(request: Any) -> None:
        request.url += "?DryRun=true"

    def change_path(request: Any) -> None:
        request.url = "http://cloud.test/ec2"

    def change_method(request: Any) -> None:
        request.method, request.data = "GET", None

    def change_host(request: Any) -> None:
        request.headers["Host"] = "another.test"

    def change_date(request: Any) -> None:
        del request.headers["X-Amz-Date"]
        request.headers["X-Amz-Date"] = f"{datetime.datetime.now(datetime.UTC):%Y%m%d}T000001Z"

    for change in (change_body, change_query, change_path, change_method, change_host, change_date):
        request = signed(alice.key)
        change(request)
        reply = send(nobody, request)
        assert (reply.status_code, code(reply)) == (403, "SignatureDoesNotMatch"), change.__name__


def test_what_was_added_after_signing(alice: Person, nobody: Client) -> None:
    request = signed(alice.key)
    request.headers["X-Amz-Target"] = "something"
    assert code(send(nobody, request)) == "IncompleteSignature"
    request = signed(alice.key)
    request.headers["X-Amz-Content-Sha256"] = "UNSIGNED-PAYLOAD"
    assert code(send(nobody, request)) == "IncompleteSignature"


@pytest.mark.parametrize("way", ["version 2", "query"])
def test_a_changed_parameter(alice: Person, nobody: Client, way: str) -> None:
    request = AWSRequest("GET", URL, params=dict(ASK))
    if way == "query":
        request = AWSRequest("GET", f"{URL}?{urlencode(ASK)}")
        SigV4QueryAuth(credentials(alice.key), "ec2", "RegionOne").add_auth(request)
        request.url = request.url.replace("DescribeInstances", "DescribeVpcs")
    else:
        SigV2Auth(credentials(alice.key)).add_auth(request)
        request.params["Action"] = "DescribeVpcs"
    assert code(send(nobody, request)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("way", ["header", "query", "version 2", "expires"])
def test_a_signature_counts_for_a_quarter_of_an_hour(
    alice: Person, nobody: Client, place: Cloud, monkeypatch: pytest.MonkeyPatch, way: str,
) -> None:
    """OSSA-2020-003: whoever has seen a request can send it again, but not for ever."""
    if way == "header":
        request = signed(alice.key)
    elif way == "query":
        request = AWSRequest("GET", f"{URL}?{urlencode(ASK)}")
        SigV4QueryAuth(credentials(alice.key), "ec2", "RegionOne", expires=100_000).add_auth(request)
    else:
        request = AWSRequest("GET", URL, params=dict(ASK))
        if way == "expires":
            later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=10)
            request.params["Expires"] = f"{later:%Y-%m-%dT%H:%M:%SZ}"
        SigV2Auth(credentials(alice.key)).add_auth(request)
        if way == "expires":
            request.params.pop("Timestamp")
            request.params.pop("Signature")
            _, request.params["Signature"] = SigV2Auth(credentials(alice.key)).calc_signature(request, request.params)
    now = place.world.now()
    assert send(nobody, request).status_code == 200
    for offset, good in ((800 if way != "expires" else 500, True), (1000, False), (-1600, False)):
        monkeypatch.setattr(place.world, "now", lambda offset=offset: now + offset)
        reply = send(nobody, request)
        assert (reply.status_code, code(reply)) == ((200, "") if good else (400, "RequestExpired")), offset


def test_another_services_signature(alice: Person, nobody: Client) -> None:
    assert code(send(nobody, signed(alice.key, service="s3"))) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("header", [
    "", "Basic YTpi", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request",
    "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=host;x-amz-date, Signature=b",
    "AWS4-HMAC-SHA256 Credential=a/20260101/b/ec2/aws4_request, SignedHeaders=host, Signature=b",
    "AWS4-HMAC-SHA256 Credential=a/20260101/b/ec2/aws4_request, SignedHeaders=x-amz-date, Signature=b",
    "AWS4-HMAC-SHA256 Credential=a/20260101/b/ec2/aws4_request, SignedHeaders=host;x-amz-date;no, Signature=b",
    "AWS4-HMAC-SHA256 Credential=a/20260102/b/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature=b",
])
def test_headers_that_are_no_signature(nobody: Client, header: str) -> None:
    headers = {"Authorization": header, "X-Amz-Date": "20260101T000000Z"}
    reply = nobody.request("POST", "/ec2", data=ASK, headers=headers)
    assert (reply.status_code, code(reply)) == (400, "IncompleteSignature")


@pytest.mark.parametrize("change", [
    {"X-Amz-Date": "now"}, {"X-Amz-Expires": "soon"}, {"X-Amz-Expires": None}, {"X-Amz-Algorithm": "md5"},
    {"X-Amz-Signature": None}, {"SignatureVersion": "2"}, {"X-Amz-SignedHeaders": "x"},
])
def test_queries_that_are_no_signature(alice: Person, nobody: Client, change: dict[str, str | None]) -> None:
    request = AWSRequest("GET", f"{URL}?{urlencode(ASK)}")
    SigV4QueryAuth(credentials(alice.key), "ec2", "RegionOne").add_auth(request)
    query = {**dict(parse_qsl(request.url.partition("?")[2])), **change}
    reply = nobody.get("/ec2/services/Cloud", params={k: v for k, v in query.items() if v is not None})
    assert (reply.status_code, code(reply)) == (400, "IncompleteSignature")


# -- whoever has no right any more


def test_a_key_ends_with_what_it_stands_for(admin: Client, place: Cloud) -> None:
    dora = make_person(admin, "dora")
    [role] = admin.get(f"{V3}/roles?name=member").json()["roles"]
    grant = f"{V3}/projects/{dora.project}/users/{dora.user}/roles/{role['id']}"
    for stop, again in (
        (lambda: admin.delete(grant), lambda: admin.put(grant)),
        (lambda: admin.patch(f"{V3}/users/{dora.user}", {"user": {"enabled": False}}),
         lambda: admin.patch(f"{V3}/users/{dora.user}", {"user": {"enabled": True}})),
        (lambda: admin.patch(f"{V3}/projects/{dora.project}", {"project": {"enabled": False}}),
         lambda: admin.patch(f"{V3}/projects/{dora.project}", {"project": {"enabled": True}})),
    ):
        dora.ec2.describe_vpcs()
        assert stop().status_code < 300
        with refused("AuthFailure", 401):
            dora.ec2.describe_vpcs()
        assert again().status_code < 300
    dora.client = client = admin.login("dora", PASSWORD, "dora")
    other = dora.new_key()
    connect(client, other).describe_vpcs()
    assert client.delete(f"{V3}/users/{dora.user}/credentials/OS-EC2/{other['access']}").status_code == 204
    with refused("AuthFailure", 401):
        connect(dora.client, other).describe_vpcs()


def test_a_reader_reads(admin: Client, place: Cloud) -> None:
    rita = make_person(admin, "rita", "reader")
    [member] = admin.get(f"{V3}/roles?name=member").json()["roles"]
    admin.delete(f"{V3}/projects/{rita.project}/users/{rita.user}/roles/{member['id']}")
    assert rita.ec2.describe_instances()["Reservations"] == []
    assert rita.ec2.describe_security_groups()["SecurityGroups"]
    for act in (lambda: rita.ec2.allocate_address(), lambda: rita.ec2.create_security_group(GroupName="x",
                                                                                            Description="x")):
        with refused("UnauthorizedOperation", 403):
            act()


def test_an_application_credentials_key_keeps_within_its_bounds(admin: Client, place: Cloud) -> None:
    erin = make_person(admin, "erin")

    def program(**fields: Any) -> Client:
        path = f"{V3}/users/{erin.user}/application_credentials"
        made = erin.client.post(path, {"application_credential": {"unrestricted": True, **fields}}).json()
        given = made["application_credential"]
        body = {"identity": {"methods": ["application_credential"], "application_credential": {
            "id": given["id"], "secret": given["secret"],
        }}}
        token = erin.client.post(f"{V3}/auth/tokens", {"auth": body}).headers["x-subject-token"]
        return Client(erin.client.app, erin.client.loop, token)

    rules = [{"service": "ec2", "method": "GET", "path": "/services/Cloud"},
             {"service": "identity", "method": "POST", "path": "/v3/users/*/credentials/OS-EC2"}]
    bounded = Person(program(name="bounded", access_rules=rules), erin.user, erin.project)
    with refused("AuthFailure", 401):  # botocore POSTs, and the rule lets GET through only
        bounded.ec2.describe_vpcs()
    request = AWSRequest("GET", f"{URL}?{urlencode(ASK)}")
    SigV4QueryAuth(credentials(bounded.key), "ec2", "RegionOne").add_auth(request)
    assert send(erin.client, request).status_code == 200
    restricted = program(name="restricted", unrestricted=False)
    path = f"{V3}/users/{erin.user}/credentials/OS-EC2"
    assert restricted.post(path, {"tenant_id": erin.project}).status_code == 403


# -- bodies


@pytest.mark.parametrize(("params", "wanted"), [
    ({**ASK, "Action": "DescribeInstances", "InstanceId.1.x": "1"}, "InvalidParameterValue"),
    ({**ASK, "InstanceId": "i-1"}, "InvalidParameterValue"),
    ({**ASK, "InstanceId.1": "i-1", "InstanceId.1.a": "i-1"}, "MalformedQueryString"),
    ({**ASK, "a." * 9 + "a": "1"}, "MalformedQueryString"), ({**ASK, "Colour": "red"}, "UnknownParameter"),
    ({"Action": "Nothing"}, "InvalidAction"), ({"Action": ""}, "InvalidAction"), ({}, "InvalidAction"),
    ({"Action": "GetConsoleOutput"}, "MissingParameter"), ({**ASK, "x": "a\0b"}, "MalformedQueryString"),
    ({**ASK, "Filter.1.Name": "x"}, "InvalidParameterValue"), ({**ASK, "MaxResults": "many"}, "InvalidParameterValue"),
])
def test_parameters_that_cannot_be(
    alice: Person, nobody: Client, params: dict[str, str], wanted: str,
) -> None:
    reply = send(nobody, signed(alice.key, params))
    assert (reply.status_code, code(reply)) == (400, wanted)


def test_whoever_has_not_signed_learns_nothing_else(alice: Person, nobody: Client) -> None:
    reply = send(nobody, signed({**alice.key, "secret": "x"}, {"Action": "Nothing"}))
    assert code(reply) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(("content", "media", "wanted"), [
    (b"\xff\xfe", "application/x-www-form-urlencoded", "MalformedQueryString"),
    (b"a=%ff", "application/x-www-form-urlencoded", "MalformedQueryString"),
    (b"{}", "application/json", "InvalidParameterValue"),
    (b"&".join(b"a%d=1" % n for n in range(3000)), "application/x-www-form-urlencoded", "MalformedQueryString"),
    (b"Action=DescribeVpcs&Action=DescribeVpcs", "application/x-www-form-urlencoded", "MalformedQueryString"),
])
def test_bodies_that_are_no_form(alice: Person, nobody: Client, content: bytes, media: str, wanted: str) -> None:
    request = AWSRequest("POST", URL, data=content, headers={"Content-Type": media})
    SigV4Auth(credentials(alice.key), "ec2", "RegionOne").add_auth(request)
    reply = send(nobody, request)
    assert (reply.status_code, code(reply)) == (400, wanted)


def test_a_body_over_the_limit_and_a_wrong_method(alice: Person, nobody: Client) -> None:
    reply = nobody.request("POST", "/ec2", content=b"a=" + b"x" * 300_000)
    assert (reply.status_code, code(reply)) == (413, "RequestEntityTooLarge")
    for method, path, status in (("PUT", "/ec2", 405), ("GET", "/ec2/nowhere", 404)):
        reply = nobody.request(method, path)
        assert reply.status_code == status
        assert code(reply)
