"""QoS specs: written down, changed, and given to volume types."""

from __future__ import annotations

import uuid
from typing import Any

from tests.api.volume.bench import V3, Volumes
from tests.api.volume.test_types import make as make_type
from tests.api.volume.test_types import put


def make(operator: Volumes, **fields: Any) -> dict[str, Any]:
    """QoS specs."""
    reply = operator.post("/qos-specs", {"qos_specs": {"name": "qos-" + uuid.uuid4().hex, **fields}})
    assert reply.status_code == 200, reply.text
    assert {one["rel"] for one in reply.json()["links"]} == {"self", "bookmark"}
    found: dict[str, Any] = reply.json()["qos_specs"]
    return found


def test_specs_are_made_changed_and_removed(operator: Volumes, volumes: Volumes) -> None:
    made = make(operator, consumer="front-end", read_iops_sec="2000")
    assert (made["consumer"], made["specs"]) == ("front-end", {"read_iops_sec": "2000"})
    path = f"/qos-specs/{made['id']}"
    assert put(operator, path, {"qos_specs": {"burst": 500}}).json() == {"qos_specs": {"burst": "500"}}
    assert operator.get(path)["qos_specs"]["specs"] == {"read_iops_sec": "2000", "burst": "500"}
    assert put(operator, path + "/delete_keys", {"keys": ["burst"]}).status_code == 202
    operator.refused(put(operator, path + "/delete_keys", {"keys": ["burst"]}), 404, "no spec")
    assert made in operator.get("/qos-specs")["qos_specs"]
    volumes.refused(volumes.client.get(V3 + path), 403)
    assert operator.client.delete(V3 + path).status_code == 202
    operator.refused(operator.client.get(V3 + path), 404)


def test_bad_specs_are_refused(operator: Volumes) -> None:
    made = make(operator)
    assert made["consumer"] == "back-end"
    operator.refused(operator.post("/qos-specs", {"qos_specs": {"name": made["name"]}}), 409)
    for body in ({}, {"name": ""}, {"name": 7}, {"name": "x", "consumer": "cloud"}, {"name": "x", "a": "y" * 256},
                 {"name": "x", "a": {}}, {"name": "x", "a b/c": "y"}):
        operator.refused(operator.post("/qos-specs", {"qos_specs": body}), 400)


def test_types_have_specs_and_lose_them(operator: Volumes) -> None:
    made, other = make(operator), make(operator)
    kinds = [make_type(operator) for _ in range(3)]
    path = f"/qos-specs/{made['id']}"

    def told(what: str) -> Any:
        return operator.client.get(f"{V3}{path}/{what}")

    def associated() -> set[str]:
        return {one["id"] for one in operator.get(path + "/associations")["qos_associations"]}

    for kind in kinds:
        assert told(f"associate?vol_type_id={kind['id']}").status_code == 202
    assert associated() == {kind["id"] for kind in kinds}
    assert operator.get(f"/types/{kinds[0]['id']}")["volume_type"]["qos_specs_id"] == made["id"]
    reply = operator.client.get(f"{V3}/qos-specs/{other['id']}/associate?vol_type_id={kinds[0]['id']}")
    operator.refused(reply, 400, "already associated")
    assert told(f"disassociate?vol_type_id={kinds[0]['id']}").status_code == 202
    assert associated() == {kind["id"] for kind in kinds[1:]}
    operator.refused(operator.client.delete(V3 + path), 400, "force")
    assert told("disassociate_all").status_code == 202
    assert associated() == set()
    operator.refused(told("associate"), 400)
    operator.refused(told("associate?vol_type_id=nothing"), 404)


def test_force_takes_specs_from_their_types(operator: Volumes) -> None:
    made, kind = make(operator), make_type(operator)
    path = f"{V3}/qos-specs/{made['id']}"
    assert operator.client.get(f"{path}/associate?vol_type_id={kind['id']}").status_code == 202
    assert operator.client.delete(path + "?force=True").status_code == 202
    assert operator.get(f"/types/{kind['id']}")["volume_type"]["qos_specs_id"] is None
