"""From a request's head to the end of its reply."""

from __future__ import annotations

import pytest

from tests.unit.web.conftest import Web


def test_every_reply_has_an_id_and_the_version(web: Web) -> None:
    for path in ("/shop/", "/shop/nowhere", "/shop/broken"):
        reply = web("GET", path)
        assert reply.headers["x-openstack-request-id"].startswith("req-")
    assert web("GET", "/shop/").headers["openstack-api-version"] == "shop 2.1"


def test_an_unknown_service_names_those_that_there_are(web: Web) -> None:
    reply = web("GET", "/nothing/here")
    assert reply.status_code == 404
    assert "/shop" in reply.json()["error"]["message"]


def test_no_such_place_and_no_such_method(web: Web) -> None:
    missing = web("GET", "/shop/nowhere")
    assert (missing.status_code, missing.json()["fault"]["code"]) == (404, "not_found")
    wrong = web("PATCH", "/shop/things/1")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "DELETE, GET, PUT"


def test_head_is_get_without_a_body(web: Web) -> None:
    for path in ("/shop/things/1", "/shop/stream", "/shop/file", "/shop/nowhere"):
        got, head = web("GET", path), web("HEAD", path)
        assert head.status_code == got.status_code
        assert head.content == b""
        assert head.headers["content-length"] == got.headers["content-length"]


def test_parameters_are_decoded_and_slashes_in_them_kept(web: Web) -> None:
    assert web("GET", "/shop/things/a%20%C3%A9%2Fb").json()["params"] == {"id": "a é/b"}
    assert web("GET", "/shop/things/x/parts/y").json()["params"] == {"id": "x", "part": "y"}
    assert web("GET", "/shop/objects/a/b%2Fc/d").json()["params"] == {"name": "a/b/c/d"}


@pytest.mark.parametrize(
    "path", [b"/shop/things/%ff", b"/shop/things/%00", b"/shop/things?name=%00", b"/shop/things?%00=a"]
)
def test_paths_and_queries_that_are_no_text_are_refused(web: Web, path: bytes) -> None:
    status, _, body = web.raw("GET", path)
    assert status == 400, body


@pytest.mark.parametrize(
    "path",
    [b"/shop/things/\xff\xfe", b"/shop/things/%", b"/shop/things/%zz", b"/shop/things?=&&=%", b"/shop//things//"],
)
def test_odd_paths_are_answered(web: Web, path: bytes) -> None:
    status, _, _ = web.raw("GET", path)
    assert status < 500


def test_version_headers(web: Web) -> None:
    def asked(path: str = "/shop/", **headers: str) -> tuple[int, str]:
        reply = web("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return reply.status_code, reply.headers.get("openstack-api-version", "")

    assert asked(OpenStack_API_Version="shop 2.7") == (200, "shop 2.7")
    assert asked(OpenStack_API_Version="shop latest") == (200, "shop 2.9")
    assert asked(OpenStack_API_Version="other 9.9, shop 2.3") == (200, "shop 2.3")
    assert asked(X_Shop_Version="2.4") == (200, "shop 2.4")
    assert asked(OpenStack_API_Version="shop 2.5", X_Shop_Version="2.4") == (200, "shop 2.5")
    assert asked(OpenStack_API_Version="shop 3.0")[0] == 406
    assert asked(OpenStack_API_Version="shop 2.0")[0] == 406
    assert asked(OpenStack_API_Version="shop two")[0] == 400
    assert asked(OpenStack_API_Version=f"shop 2.{'9' * 5000}")[0] in (400, 406)
    assert asked("/shop/new")[0] == 404
    assert asked("/shop/new", X_Shop_Version="2.5")[0] == 200
    assert asked("/shop/old", X_Shop_Version="2.5")[0] == 404
    assert asked("/shop/both")[0] == 204
    assert asked("/shop/both", X_Shop_Version="2.5")[0] == 200


def test_a_token_is_asked_for_then_the_rule(web: Web) -> None:
    refused = web("PUT", "/shop/things/1")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Keystone uri="http://cloud.test/identity"'
    assert web("PUT", "/shop/things/1", headers={"X-Auth-Token": "forged"}).status_code == 401
    assert web("PUT", "/shop/things/1", headers={"X-Auth-Token": "member"}).status_code == 403
    allowed = web("PUT", "/shop/things/1", headers={"X-Auth-Token": "admin"})
    assert (allowed.status_code, allowed.json()["user"]) == (200, "admin")
    gone = web("DELETE", "/shop/things/1", headers={"X-Auth-Token": "member"})
    assert (gone.status_code, gone.content) == (204, b"")


def test_bodies(web: Web) -> None:
    assert web("POST", "/shop/things", json={"thing": {"name": "a"}}).status_code == 201
    for body in (
        b"", b"{", b"null", b"[]", b'{"thing": null}', b'{"thing": {}}', b'{"thing": {"name": ""}}',
        b'{"thing": {"name": "more than ten"}}', b'{"thing": {"name": 1}}', b'{"thing": {"name": "a", "size": -1}}',
        b'{"thing": {"name": "a", "size": 1e400}}', b'{"thing": {"name": "a", "colour": 1}}',
        b'{"thing": {"name": "a\\u0000"}}', b'{"thing": {"name": "\\ud800"}}', b'{"thing": {"name": "\xff"}}',
        b'{"thing": {"name": "a", "tag": "new"}}', b'{"thing": {"name": NaN}}', b"[" * 2000,
    ):
        reply = web("POST", "/shop/things", content=body)
        assert (reply.status_code, reply.json()["fault"]["code"]) == (400, "bad_request"), body
    newer = {"OpenStack-API-Version": "shop 2.5"}
    assert web("POST", "/shop/things", json={"thing": {"name": "a", "tag": "t"}}, headers=newer).status_code == 201
    assert web("POST", "/shop/things", json={"thing": {"name": "\\u0000"}}).json()["thing"]["name"] == "\\u0000"


def test_media_types(web: Web) -> None:
    body = b'{"thing": {"name": "a"}}'
    for media, status in (
        ("application/json", 201), ("Application/JSON; charset=utf-8", 201), ("text/plain", 415),
        ("application/xml", 415), ("", 201),
    ):
        assert web("POST", "/shop/things", content=body, headers={"Content-Type": media}).status_code == status, media


def test_a_body_over_the_limit_is_refused_said_or_unsaid(web: Web) -> None:
    said = web("POST", "/shop/things", content=b" " * 5000)
    assert (said.status_code, said.json()["fault"]["code"]) == (413, "too_large")
    pieces = [{"type": "http.request", "body": b" " * 1000, "more_body": True} for _ in range(9)]
    assert web.raw("POST", b"/shop/things", messages=pieces)[0] == 413
    assert pieces  # it stopped reading
    assert web("PUT", "/shop/upload", content=b"x" * (1 << 21)).json() == {"size": 1 << 21}
    assert web("PUT", "/shop/upload", content=b"x" * ((1 << 21) + 1)).status_code == 413
    assert web("POST", "/shop/conflict", content=b"x" * 3_000_000).status_code == 413


def test_a_caller_that_goes_away_in_the_middle(web: Web) -> None:
    pieces = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    assert web.raw("POST", b"/shop/things", messages=pieces)[0] == 400


def test_queries(web: Web) -> None:
    assert web("GET", "/shop/things?limit=3&name=a&name=b&other=1").json() == {"limit": 3, "name": ["a", "b"]}
    for query in ("limit=-1", "limit=x", "limit=1.5", "limit="):
        assert web("GET", f"/shop/things?{query}").status_code == 400, query


def test_errors_of_the_domain_and_of_ours(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    known = web("POST", "/shop/conflict")
    assert (known.status_code, known.headers["retry-after"]) == (409, "1")
    assert known.json() == {"fault": {"status": 409, "code": "conflict", "message": "It is in use."}}
    unknown = web("GET", "/shop/broken")
    assert unknown.status_code == 500
    assert "secret detail" not in unknown.text
    assert unknown.headers["x-openstack-request-id"] in unknown.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/twice", 409), ("/twice-async", 409), ("/too-big", 400)])
def test_what_the_database_refuses_is_the_callers(web: Web, path: str, status: int) -> None:
    assert web("POST", "/shop" + path).status_code == status


def test_streams_and_files(web: Web) -> None:
    assert web("GET", "/shop/stream").content == b"one two"
    got = web("GET", "/shop/file")
    assert got.headers["content-length"] == "1500000"
    assert got.content == (b"0123456789" * 300_000)[1_000_005:2_500_005]
    assert web("GET", "/shop/moved").headers["location"] == "http://cloud.test/shop/elsewhere"


def test_a_log_line_cannot_be_forged(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pileus.web")
    web("GET", "/shop/things/a%0AERROR%20forged")
    assert "%0A" in caplog.text
    assert "\nERROR forged" not in caplog.text


def test_a_classic_port_serves_one_service_at_its_root(web: Web) -> None:
    sent: list[dict[str, object]] = []

    async def main() -> None:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b""}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/things/1", "raw_path": b"/things/1", "query_string": b"",
            "headers": [], "pileus.service": "shop",
        }
        await web.app(scope, receive, send)

    web.loop.run_until_complete(main())
    assert sent[0]["status"] == 200
