"""How loud logs are (3.32): set and told for the processes that are at work."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.cloud import Cloud
from pileus.cluster import controllers, log_levels
from pileus.web.errors import Unavailable
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import put

ALL = {"cinder-api", "cinder-scheduler", "cinder-volume", "cinder-backup"}
OURS = ("pileus", "pileus.volume", "pileus.network", "pileus.node")


def levels(operator: Volumes, **asked: Any) -> list[dict[str, Any]]:
    reply = put(operator, "/os-services/get-log", asked)
    assert reply.status_code == 200, reply.text
    [(name, found)] = reply.json().items()
    assert name == "log_levels"
    return list(found)


def loud(logger: str) -> str:
    return logging.getLevelName(logging.getLogger(logger).getEffectiveLevel())


def test_levels_are_told_as_they_are(operator: Volumes) -> None:
    logging.getLogger("pileus.volume").setLevel("WARNING")
    found = levels(operator)
    assert [set(one) for one in found] == [{"binary", "host", "levels"}] * len(found)
    assert {one["binary"] for one in found} == ALL
    assert {(one["binary"], one["host"]) for one in found if one["binary"] in ("cinder-volume", "cinder-backup")} == {
        (one["binary"], one["host"]) for one in operator.get("/os-services")["services"]
        if one["binary"] in ("cinder-volume", "cinder-backup")
    }
    for one in found:
        assert one["levels"]["pileus.volume"] == "WARNING"
        assert one["levels"]["pileus"] == loud("pileus")
        assert all(name.split(".")[0] == "pileus" for name in one["levels"])


def test_a_level_that_is_set_counts_at_once(operator: Volumes, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("sqlalchemy").setLevel("ERROR")
    libraries = loud("sqlalchemy")
    logging.getLogger("pileus").setLevel("ERROR")
    logging.getLogger("pileus.volume").info("not heard")
    assert "not heard" not in caplog.text
    reply = put(operator, "/os-services/set-log", {"prefix": "pileus.volume", "level": "debug"})
    assert (reply.status_code, reply.content) == (202, b"")
    assert (loud("pileus.volume"), loud("pileus.network")) == ("DEBUG", "ERROR")
    logging.getLogger("pileus.volume").debug("heard")
    assert "heard" in caplog.text
    assert [one["levels"] for one in levels(operator, prefix="pileus.volume")] == [{"pileus.volume": "DEBUG"}] * 6
    assert put(operator, "/os-services/set-log", {"binary": "*", "level": "WARNING"}).status_code == 202
    assert {loud(name) for name in OURS} == {"WARNING"}
    assert loud("sqlalchemy") == libraries, "libraries' logs are as they were"


def test_of_one_kind_or_one_host(operator: Volumes) -> None:
    for binary in ALL:
        assert {one["binary"] for one in levels(operator, binary=binary)} == {binary}
    node = levels(operator, binary="cinder-backup")[0]["host"]
    assert {one["binary"] for one in levels(operator, server=node)} == {"cinder-volume", "cinder-backup"}
    [one] = levels(operator, server=f"{node}@fake")
    assert (one["binary"], one["host"]) == ("cinder-volume", f"{node}@fake")
    assert levels(operator, server="nowhere") == []
    assert levels(operator, binary="cinder-api", server=node) == []


def test_a_node_is_told_by_its_agent(operator: Volumes, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine of its own: what is not asked of a node is not done to it, and of one that is silent nothing is
    told."""
    asked: list[tuple[str, str, dict[str, Any]]] = []

    async def ask(node: str, question: str, arguments: dict[str, Any]) -> Any:
        asked.append((node, question, arguments))
        if node.endswith("2"):
            raise _silent(node)
        return {"pileus.node": "CRITICAL"} if question == "log_levels" else None

    monkeypatch.setattr(cloud, "ask", ask)
    before = loud("pileus.volume")
    hosts = sorted({one["host"] for one in operator.get("/os-services?binary=cinder-backup")["services"]})
    first, second = hosts
    if not second.endswith("2"):
        pytest.fail(f"the nodes are called otherwise: {hosts}")
    assert [one["levels"] for one in levels(operator, binary="cinder-backup")] == [{"pileus.node": "CRITICAL"}]
    asked.clear()
    reply = put(operator, "/os-services/set-log", {"binary": "cinder-volume", "server": first, "level": "INFO"})
    assert reply.status_code == 202
    assert asked == [(first, "set_log_levels", {"prefix": "", "level": "INFO"})]
    assert loud("pileus.volume") == before
    reply = put(operator, "/os-services/set-log", {"binary": "cinder-volume", "level": "INFO"})
    operator.refused(reply, 409, second)
    assert first not in reply.text


def _silent(node: str) -> Exception:
    return Unavailable(f"Node {node} is not connected to this controller.")


def test_another_controller_follows(operator: Volumes, cloud: Cloud, tmp_path: Path) -> None:
    other = Cloud(msgspec.structs.replace(cloud.settings, node_name="second"))
    try:
        for each in (cloud, other):
            cloud.db.run_sync(lambda tx, each=each: controllers.beat(tx, each, "h:1", [], "0", 0.0))  # type: ignore[misc]
        put_there = {"binary": "cinder-scheduler", "server": "second", "prefix": "pileus.network", "level": "DEBUG"}
        assert levels(operator, server="second") == []
        operator.refused(put(operator, "/os-services/set-log", put_there), 409, "second")
        other.db.run_sync(lambda tx: log_levels.begin(tx, "second"))
        before = loud("pileus.network")
        assert before != "DEBUG"
        assert [one["binary"] for one in levels(operator, server="second")] == ["cinder-api", "cinder-scheduler"]
        assert not other.db.run_sync(lambda tx: log_levels.differs(tx, "second"))
        assert put(operator, "/os-services/set-log", put_there).status_code == 202
        assert loud("pileus.network") == before, "it is the other's to do"
        assert levels(operator, server="second", prefix="pileus.network")[0]["levels"] == {"pileus.network": before}
        assert other.db.run_sync(lambda tx: log_levels.differs(tx, "second"))
        other.db.run_sync(lambda tx: log_levels.follow(tx, "second"))
        assert loud("pileus.network") == "DEBUG"
        told = levels(operator, server="second", prefix="pileus.network")
        assert [one["levels"] for one in told] == [{"pileus.network": "DEBUG"}] * 2
        assert not other.db.run_sync(lambda tx: log_levels.differs(tx, "second"))
        other.db.run_sync(lambda tx: log_levels.wish(tx, "second", "pileus", "CRITICAL"))
        other.db.run_sync(lambda tx: log_levels.begin(tx, "second"))
        other.db.run_sync(lambda tx: log_levels.follow(tx, "second"))
        assert loud("pileus.network") == "DEBUG", "what was asked of an earlier process is void"
    finally:
        for name in (cloud.controller, "second"):
            cloud.db.run_sync(lambda tx, name=name: controllers.gone(tx, name))  # type: ignore[misc]
        other.close()


@pytest.mark.parametrize(("action", "body", "status"), [
    ("set-log", {}, 400), ("set-log", {"level": None}, 400), ("set-log", {"level": "LOUD"}, 400),
    ("set-log", {"level": "INFO", "prefix": "cinder."}, 400), ("set-log", {"level": "INFO", "binary": "nova"}, 400),
    ("set-log", {"level": "INFO", "colour": "red"}, 400), ("set-log", {"level": "INFO", "server": "nowhere"}, 404),
    ("get-log", {"binary": "nova"}, 400), ("get-log", {"level": "INFO"}, 400),
])
def test_what_cannot_be_set(operator: Volumes, action: str, body: dict[str, Any], status: int) -> None:
    before = {name: loud(name) for name in OURS}
    operator.refused(put(operator, f"/os-services/{action}", body), status)
    assert {name: loud(name) for name in OURS} == before


def test_since_3_32_and_for_operators(operator: Volumes, volumes: Volumes) -> None:
    for action, body in (("get-log", {}), ("set-log", {"level": "ERROR"})):
        path = f"{V3}/os-services/{action}"
        assert operator.client.put(path, body, version="3.31").status_code == 404
        assert volumes.client.put(path, body, version="3.32").status_code == 403
        assert operator.client.put(path, body, version="3.32").status_code in (200, 202)
