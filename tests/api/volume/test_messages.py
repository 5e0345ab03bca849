"""User messages: why something that was taken on has failed."""

from __future__ import annotations

from typing import Any

from pileus.cloud import Cloud
from pileus.volume import messages
from pileus.volume.tables_rest import message
from tests.api.compute.people import join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import make as make_type


def failed(operator: Volumes, volumes: Volumes) -> tuple[str, dict[str, Any]]:
    """A volume that no node could take, and what is said of it."""
    kind = make_type(operator, extra_specs={"vendor_name": "nobody"})
    one = volumes.make("error", volume_type=kind["name"])
    [found] = [m for m in volumes.get("/messages")["messages"] if m["resource_uuid"] == one]
    return one, found


def test_a_message_says_what_failed_and_why(operator: Volumes, volumes: Volumes) -> None:
    one, found = failed(operator, volumes)
    assert found.keys() == {
        "id", "event_id", "user_message", "message_level", "created_at", "guaranteed_until", "request_id",
        "resource_type", "resource_uuid", "links",
    }
    assert found["event_id"] == "VOLUME_VOLUME_001_003"
    assert found["user_message"].startswith("schedule allocate volume: No valid backend")
    assert "nobody" in found["user_message"]
    assert (found["resource_type"], found["message_level"]) == ("VOLUME", "ERROR")
    assert volumes.get(f"/messages/{found['id']}")["message"] == found
    assert volumes.get(f"/messages?resource_uuid={one}&message_level=ERROR")["messages"] == [found]
    assert volumes.get("/messages?resource_type=VOLUME_BACKUP")["messages"] == []
    volumes.refused(volumes.client.get(f"{V3}/messages", version="3.2"), 404)
    assert volumes.client.delete(f"{V3}/messages/{found['id']}", version="3.3").status_code == 204
    volumes.refused(volumes.client.get(f"{V3}/messages/{found['id']}", version="3.3"), 404)


def test_messages_are_their_projects(operator: Volumes, volumes: Volumes, cloud: Cloud, anonymous: Client) -> None:
    _, found = failed(operator, volumes)
    other = Volumes(join(cloud, anonymous).client)
    assert other.get("/messages")["messages"] == []
    path = f"{V3}/messages/{found['id']}"
    other.refused(other.client.get(path, version="3.71"), 404)
    other.refused(other.client.delete(path, version="3.71"), 404)


def test_what_fails_on_a_node_is_told(volumes: Volumes) -> None:
    one = volumes.make("error", metadata={"fake:create_error": "disk is full"})
    [found] = volumes.get("/messages")["messages"]
    assert (found["resource_uuid"], found["user_message"]) == (one, "create volume: disk is full")


def test_old_messages_go(operator: Volumes, volumes: Volumes, cloud: Cloud) -> None:
    _, found = failed(operator, volumes)
    cloud.db.run_sync(
        lambda tx: tx.execute(message.update().where(message.c.id == found["id"]).values(expires=1.0))
    )
    assert volumes.get("/messages")["messages"] == []
    assert cloud.db.run_sync(lambda tx: messages.purge(tx, cloud)) == 1
    volumes.refused(volumes.client.get(f"{V3}/messages/{found['id']}", version="3.71"), 404)
