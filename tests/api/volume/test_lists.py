"""Lists: pages, sorting, filters and counts."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pileus.cloud import Cloud
from tests.api.compute.people import join
from tests.api.conftest import Client
from tests.api.volume.bench import V3, Volumes


def _names(volumes: Volumes, query: str, version: str = "3.71") -> list[str]:
    return [one["name"] for one in volumes.get(f"/volumes/detail?{query}", version)["volumes"]]


@pytest.fixture
def five(volumes: Volumes) -> Volumes:
    for name in "abcde":
        volumes.make(name=name, size=1 + ord(name) % 2, metadata={"letter": name, "all": "y", "a%_b": '"x,"'})
    return volumes


def test_pages(five: Volumes) -> None:
    first = five.get("/volumes?limit=2&sort=name:asc")
    assert [one["name"] for one in first["volumes"]] == ["a", "b"]
    [link] = first["volumes_links"]
    second = five.client.get(link["href"].removeprefix("http://cloud.test")).json()
    assert [one["name"] for one in second["volumes"]] == ["c", "d"]
    third = five.client.get(second["volumes_links"][0]["href"].removeprefix("http://cloud.test")).json()
    assert [one["name"] for one in third["volumes"]] == ["e"]
    assert "volumes_links" not in third
    assert _names(five, "sort=name:asc&offset=3") == ["d", "e"]
    assert _names(five, "limit=0") == []


def test_sorting(five: Volumes) -> None:
    assert _names(five, "") == list("edcba")
    assert _names(five, "sort_key=created_at&sort_dir=asc") == list("abcde")
    assert _names(five, "sort=size:desc,name:desc") == list("ecadb")
    for query in ("sort=nonsense", "sort_key=host_secret", "sort=name:up", "sort=name&sort_key=name", "limit=-1",
                  "limit=x", "offset=x"):
        five.refused(five.client.get(f"{V3}/volumes?{query}"), 400)


def test_what_names_nothing(volumes: Volumes) -> None:
    for path in ("volumes?marker=unknown", "snapshots?marker=unknown", "volumes/", "snapshots/"):
        volumes.refused(volumes.client.get(f"{V3}/{path}"), 404)
    volumes.refused(volumes.post("/snapshots", {"snapshot": {"volume_id": None}}), 404)


def test_filters(five: Volumes) -> None:
    assert _names(five, "name=c") == ["c"]
    assert _names(five, "status=available&name=d") == ["d"]
    assert _names(five, "status=error") == []
    assert _names(five, "size=2&sort=name:asc") == ["a", "c", "e"]
    assert _names(five, "bootable=true") == []
    assert _names(five, "availability_zone=nova&limit=1") == ["e"]
    assert _names(five, f"metadata={quote(str({'letter': 'b', 'all': 'y'}))}") == ["b"]
    assert _names(five, "metadata=" + quote("{'letter': 'B'}")) == []
    assert _names(five, "metadata=" + quote("{'etter': 'b'}")) == []
    assert len(_names(five, "metadata=" + quote("{'a%_b': '\"x,\"'}"))) == 5
    assert _names(five, "metadata=" + quote("{'a__b': '\"x,\"'}")) == []
    five.refused(five.client.get(f"{V3}/volumes?metadata=nonsense"), 400)


def test_unknown_filters_are_refused_from_3_31_on(five: Volumes) -> None:
    assert len(_names(five, "nonsense=c", "3.30")) == 5
    five.refused(five.client.get(f"{V3}/volumes?nonsense=c", version="3.31"), 400, "nonsense")


def test_filters_for_what_is_like_something_come_with_3_34(five: Volumes) -> None:
    five.make(name="%_")
    assert _names(five, "name~=c") == ["c"]
    assert _names(five, "name~=" + quote("%_")) == ["%_"]
    assert len(_names(five, "name~=c", "3.30")) == 6
    five.refused(five.client.get(f"{V3}/volumes?name~=c", version="3.33"), 400, "name~")
    assert _names(five, "name~=c", "3.34") == ["c"]


def test_filters_for_times_come_with_3_60(five: Volumes) -> None:
    made = {one["name"]: one["created_at"] for one in five.get("/volumes/detail")["volumes"]}
    assert _names(five, f"created_at=gt:{made['b']},lt:{made['d']}") == ["c"]
    five.refused(five.client.get(f"{V3}/volumes?created_at=gt:never", version="3.60"), 400)
    assert len(_names(five, "created_at=gt:2099-01-01T00:00:00", "3.59")) == 5


def test_what_earlier_versions_do_not_filter_by(five: Volumes) -> None:
    for query, version, before in (
        ("glance_metadata=" + quote("{'a': 'b'}"), "3.4", "3.3"), ("group_id=x", "3.10", "3.9"),
        ("consumes_quota=false", "3.65", "3.64"),
    ):
        assert _names(five, query, version) == [], query
        assert len(_names(five, query, before)) == 5, query


def test_bootable_is_true_or_false_from_3_2_on(five: Volumes) -> None:
    assert len(_names(five, "bootable=F", "3.2")) == len(_names(five, "bootable=0", "3.2")) == 5
    assert _names(five, "bootable=T", "3.2") == []
    five.refused(five.client.get(f"{V3}/volumes?bootable=x", version="3.2"), 400)
    assert len(_names(five, "bootable=False", "3.1")) == 5
    assert _names(five, "bootable=x", "3.1") == []


def test_attachments_that_are_like_something(volumes: Volumes) -> None:
    one, two = volumes.make(), volumes.make()
    for each in (one, two):
        assert volumes.post("/attachments", {"attachment": {"volume_uuid": each}}).status_code == 200

    def like(query: str) -> list[str]:
        return sorted(found["volume_id"] for found in volumes.get(f"/attachments?{query}", "3.34")["attachments"])

    assert like(f"volume_id~={one[4:20]}") == [one]
    assert like("status~=serve") == sorted([one, two])
    volumes.refused(volumes.client.get(f"{V3}/attachments?status~=serve", version="3.33"), 400)


def test_counts_come_with_3_45(five: Volumes) -> None:
    assert five.get("/volumes?limit=1&with_count=True", "3.45")["count"] == 5
    assert "count" not in five.get("/volumes?limit=1&with_count=True", "3.44")
    assert five.get("/volumes/detail?size=2&with_count=True")["count"] == 3


def test_all_projects_are_for_operators(five: Volumes, operator: Volumes, cloud: Cloud, anonymous: Client) -> None:
    stranger = Volumes(join(cloud, anonymous).client)
    assert stranger.get("/volumes?all_tenants=1")["volumes"] == []
    everything = {one["id"] for one in operator.get("/volumes?all_tenants=1")["volumes"]}
    mine: list[Any] = five.get("/volumes")["volumes"]
    assert {one["id"] for one in mine} <= everything
    project = five.get("/volumes/detail")["volumes"][0]["os-vol-tenant-attr:tenant_id"]
    assert len(operator.get(f"/volumes?all_tenants=1&project_id={project}")["volumes"]) == 5


def test_snapshots_are_listed_likewise(volumes: Volumes) -> None:
    first, second = volumes.make(), volumes.make()
    for name, disk in (("a", first), ("b", first), ("c", second)):
        volumes.snap(disk, name=name)

    def names(query: str) -> list[str]:
        return [one["name"] for one in volumes.get(f"/snapshots/detail?{query}")["snapshots"]]

    assert names("sort=name:asc") == ["a", "b", "c"]
    assert names(f"volume_id={first}&sort=name:desc") == ["b", "a"]
    assert names("name=c&status=available") == ["c"]
    assert len(names("consumes_quota=true")) == len(names("availability_zone=nova")) == 3
    assert names("consumes_quota=false") == names("availability_zone=elsewhere") == []
    assert len(volumes.get("/snapshots?consumes_quota=false", "3.64")["snapshots"]) == 3
    assert len(volumes.get("/snapshots?sort=name", "3.30")["snapshots"]) == 3
    volumes.refused(volumes.client.get(f"{V3}/snapshots?sort=name", version="3.29"), 400, "name")
    volumes.refused(volumes.client.get(f"{V3}/backups?sort=name", version="3.36"), 400, "name")
    assert volumes.get("/backups?sort=name", "3.37")["backups"] == []
    page = volumes.get("/snapshots?limit=2&sort=name:asc&with_count=1")
    assert ([one["name"] for one in page["snapshots"]], page["count"]) == (["a", "b"], 3)
    assert page["snapshots_links"][0]["rel"] == "next"
