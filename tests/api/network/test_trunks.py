"""Trunks: a parent port, and subports told apart by VLAN tags."""

from __future__ import annotations

from typing import Any

import pytest

from pileus.auth.context import Context
from pileus.cloud import Cloud
from pileus.network import ports
from tests.api.conftest import Client
from tests.api.network.conftest import Body, error_type, make, network_with_subnet

V = "/network/v2.0"
SERVER = {"device_owner": "compute:nova", "device_id": "server-1"}


def port(client: Client, cidr: str = "10.0.0.0/24", **more: Any) -> Body:
    network, _ = network_with_subnet(client, cidr)
    return make(client, "ports", network_id=network["id"], **more)


def sub(found: Body, tag: int | str = 101, **more: Any) -> Body:
    return {"port_id": found["id"], "segmentation_type": "vlan", "segmentation_id": tag, **more}


def shown(client: Client, kind: str, identity: str) -> Body:
    found: Body = client.get(f"{V}/{kind}s/{identity}").json()[kind]
    return found


def refused(reply: Any) -> tuple[int, str]:
    return reply.status_code, error_type(reply)


def claim(cloud: Cloud, identity: str, host: str = "node-1", server: str = "server-1") -> None:
    """What compute does when a server is made with the port, or started elsewhere."""
    context = Context(user_id="u", project_id="blue", roles=("admin", "member", "reader"))
    cloud.db.run_sync(lambda tx: ports.claim(
        tx, cloud, context, identity, device_id=server, device_owner="compute:nova", host=host
    ))


def test_a_trunk_has_neutrons_attributes(alice: Client) -> None:
    parent, below = port(alice), port(alice, "10.1.0.0/24")
    made = make(alice, "trunks", port_id=parent["id"], name="t", description="d", sub_ports=[sub(below, "101")])
    assert set(made) == {
        "id", "project_id", "tenant_id", "name", "description", "created_at", "updated_at", "revision_number", "tags",
        "status", "admin_state_up", "port_id", "sub_ports",
    }
    assert (made["status"], made["admin_state_up"], made["project_id"], made["tags"]) == ("DOWN", True, "blue", [])
    assert made["sub_ports"] == [sub(below)]
    assert shown(alice, "trunk", made["id"]) == made
    assert alice.get(f"{V}/trunks/{made['id']}/get_subports").json() == {"sub_ports": [sub(below)]}
    changed = alice.put(f"{V}/trunks/{made['id']}", {"trunk": {"name": "new", "description": ""}}).json()["trunk"]
    assert (changed["name"], changed["description"]) == ("new", "")
    assert changed["revision_number"] == made["revision_number"] + 1
    assert alice.delete(f"{V}/trunks/{made['id']}").status_code == 204
    assert refused(alice.get(f"{V}/trunks/{made['id']}")) == (404, "TrunkNotFound")
    assert "trunk_details" not in shown(alice, "port", parent["id"])


def test_the_parent_port_shows_its_trunk_and_a_subport_its_own(alice: Client) -> None:
    parent, below = port(alice), port(alice, "10.1.0.0/24")
    assert "trunk_details" not in parent
    made = make(alice, "trunks", port_id=parent["id"], sub_ports=[sub(below)])
    assert shown(alice, "port", parent["id"])["trunk_details"] == {
        "trunk_id": made["id"], "sub_ports": [sub(below, mac_address=below["mac_address"])],
    }
    owned = shown(alice, "port", below["id"])
    assert (owned["device_owner"], owned["device_id"]) == ("trunk:subport", made["id"])
    assert "trunk_details" not in owned
    reply = alice.put(f"{V}/trunks/{made['id']}/remove_subports", {"sub_ports": [{"port_id": below["id"]}]})
    assert (reply.status_code, reply.json()["sub_ports"]) == (200, [])
    assert shown(alice, "port", parent["id"])["trunk_details"]["sub_ports"] == []
    freed = shown(alice, "port", below["id"])
    assert (freed["device_owner"], freed["device_id"], freed["status"]) == ("", "", "DOWN")


def test_subports_are_bound_where_their_parent_is(alice: Client, admin: Client, cloud: Cloud) -> None:
    parent, first, second = port(alice), port(alice, "10.1.0.0/24"), port(alice, "10.2.0.0/24")
    made = make(alice, "trunks", port_id=parent["id"], sub_ports=[sub(first)])

    def state(found: Body) -> tuple[str, str]:
        full = shown(admin, "port", found["id"])
        return full["binding:host_id"], full["status"]

    def status() -> str:
        return str(shown(alice, "trunk", made["id"])["status"])

    def run(work: Any) -> None:
        cloud.db.run_sync(work)

    assert (state(first), status()) == (("", "DOWN"), "DOWN")
    claim(cloud, parent["id"])
    assert (state(first), status()) == (("node-1", "DOWN"), "DOWN")
    run(lambda tx: ports.mark_up(tx, cloud, [parent["id"]]))
    assert (state(first), status()) == (("node-1", "ACTIVE"), "ACTIVE")
    added = alice.put(f"{V}/trunks/{made['id']}/add_subports", {"sub_ports": [sub(second, 102)]})
    assert added.json()["sub_ports"] == [sub(first), sub(second, 102)]
    assert (state(second), status()) == (("node-1", "ACTIVE"), "ACTIVE")
    run(lambda tx: ports.prepare_move(tx, cloud, "server-1", "node-2"))
    assert shown(admin, "port", first["id"])["binding:profile"] == {"migrating_to": "node-2"}
    assert state(first) == ("node-1", "ACTIVE")
    run(lambda tx: ports.move(tx, cloud, "server-1", "node-2"))
    assert (state(first), state(second), status()) == (("node-2", "ACTIVE"), ("node-2", "ACTIVE"), "ACTIVE")
    run(lambda tx: ports.mark_down(tx, cloud, [parent["id"]]))
    assert (state(first), status()) == (("node-2", "DOWN"), "DOWN")
    run(lambda tx: ports.release(tx, cloud, parent["id"]))
    assert (state(first), status()) == (("", "DOWN"), "DOWN")
    assert shown(alice, "port", first["id"])["device_id"] == made["id"], "the trunk keeps it"


def test_a_port_is_in_one_trunk_only(alice: Client) -> None:
    parent, below, other, free = (port(alice, f"10.{n}.0.0/24") for n in range(4))
    made = make(alice, "trunks", port_id=parent["id"], sub_ports=[sub(below)])

    def post(parent: Body, *subs: Body) -> tuple[int, str]:
        return refused(alice.post(f"{V}/trunks", {"trunk": {"port_id": parent["id"], "sub_ports": list(subs)}}))

    assert post(parent) == (409, "ParentPortInUse")
    assert post(below) == (409, "TrunkPortInUse")
    assert post(other, sub(below)) == (409, "TrunkPortInUse")
    assert post(other, sub(parent)) == (409, "ParentPortInUse")
    assert post(other, sub(other)) == (409, "ParentPortInUse")
    add = f"{V}/trunks/{made['id']}/add_subports"
    assert refused(alice.put(add, {"sub_ports": [sub(free)]})) == (409, "DuplicateSubPort")
    assert refused(alice.put(add, {"sub_ports": [sub(below, 7)]})) == (409, "TrunkPortInUse")
    remove = f"{V}/trunks/{made['id']}/remove_subports"
    assert refused(alice.put(remove, {"sub_ports": [sub(free)]})) == (404, "SubPortNotFound")
    used = port(alice, "10.9.0.0/24", **SERVER)
    assert refused(alice.put(add, {"sub_ports": [sub(used, 7)]})) == (409, "PortInUse")
    router = make(alice, "routers", name="r")
    subnet = network_with_subnet(alice, "10.8.0.0/24")[1]
    leg = alice.put(f"{V}/routers/{router['id']}/add_router_interface", {"subnet_id": subnet["id"]}).json()["port_id"]
    assert post({"id": leg}) == (409, "ParentPortInUse")
    assert refused(alice.put(add, {"sub_ports": [sub({"id": leg}, 7)]})) == (409, "PortInUse")


@pytest.mark.parametrize("wrong", [
    {"segmentation_id": 0}, {"segmentation_id": 4095}, {"segmentation_id": "x"}, {"segmentation_type": "vxlan"},
    {"segmentation_type": None}, {"segmentation_id": None}, {"segmentation_type": "inherit"}, {"more": 1},
])
def test_bad_subports_are_400(alice: Client, wrong: Body) -> None:
    parent, below = port(alice), port(alice, "10.1.0.0/24")
    reply = alice.post(f"{V}/trunks", {"trunk": {"port_id": parent["id"], "sub_ports": [sub(below) | wrong]}})
    assert reply.status_code == 400, reply.text


def test_a_tag_or_a_port_given_twice_is_400(alice: Client) -> None:
    parent, one, two = port(alice), port(alice, "10.1.0.0/24"), port(alice, "10.2.0.0/24")
    for subs in ([sub(one), sub(two)], [sub(one), sub(one, 7)]):
        reply = alice.post(f"{V}/trunks", {"trunk": {"port_id": parent["id"], "sub_ports": subs}})
        assert refused(reply) == (400, "InvalidInput")
    assert alice.get(f"{V}/trunks?port_id={parent['id']}").json()["trunks"] == [], "nothing is half made"
    assert shown(alice, "port", one["id"])["device_owner"] == ""


def test_a_tag_is_inherited_from_a_vlan_network(alice: Client, admin: Client) -> None:
    network = make(admin, "networks", shared=True, **{
        "provider:network_type": "vlan", "provider:physical_network": "public", "provider:segmentation_id": 333,
        "mtu": 1400,
    })
    below = make(alice, "ports", network_id=network["id"])
    inherit = {"port_id": below["id"], "segmentation_type": "inherit"}
    made = make(alice, "trunks", port_id=port(alice)["id"], sub_ports=[inherit])
    assert made["sub_ports"] == [sub(below, 333)]


def test_a_subport_has_no_larger_packets_than_its_parent(alice: Client) -> None:
    small = make(alice, "networks", mtu=1300)
    parent = make(alice, "ports", network_id=small["id"])
    body = {"trunk": {"port_id": parent["id"], "sub_ports": [sub(port(alice))]}}
    assert refused(alice.post(f"{V}/trunks", body)) == (409, "SubPortMtuGreaterThanTrunkPortMtu")


def test_ports_of_trunks_are_not_deleted_nor_given_away(alice: Client, admin: Client, cloud: Cloud) -> None:
    parent, below = port(alice), port(alice, "10.1.0.0/24")
    made = make(alice, "trunks", port_id=parent["id"], sub_ports=[sub(below)])
    assert refused(alice.delete(f"{V}/ports/{parent['id']}")) == (409, "PortInUseAsTrunkParent")
    assert refused(alice.delete(f"{V}/ports/{below['id']}")) == (409, "PortInUseAsSubPort")
    for change in ({"device_id": "x"}, {"device_owner": ""}, {"binding:host_id": "node-9"}):
        assert refused(admin.put(f"{V}/ports/{below['id']}", {"port": change})) == (409, "PortInUseAsSubPort")
    assert alice.put(f"{V}/ports/{below['id']}", {"port": {"name": "n"}}).status_code == 200
    with pytest.raises(Exception, match="in use"):
        claim(cloud, below["id"])
    claim(cloud, parent["id"])
    assert refused(alice.delete(f"{V}/trunks/{made['id']}")) == (409, "TrunkInUse")
    # A server that goes takes its ports along, but not one that a trunk has by now.
    cloud.db.run_sync(lambda tx: ports.delete(tx, cloud, parent["id"]))
    left = shown(admin, "port", parent["id"])
    assert (left["device_id"], left["binding:host_id"]) == ("", "")
    assert alice.delete(f"{V}/trunks/{made['id']}").status_code == 204
    assert [alice.delete(f"{V}/ports/{p['id']}").status_code for p in (parent, below)] == [204, 204]


def test_a_disabled_trunk_is_left_as_it_is(alice: Client) -> None:
    parent, below = port(alice), port(alice, "10.1.0.0/24")
    made = make(alice, "trunks", port_id=parent["id"], admin_state_up=False, sub_ports=[sub(below)])
    path = f"{V}/trunks/{made['id']}"
    for action in ("add_subports", "remove_subports"):
        assert refused(alice.put(f"{path}/{action}", {"sub_ports": [sub(below)]})) == (409, "TrunkDisabled")
    assert refused(alice.delete(path)) == (409, "TrunkDisabled")
    assert alice.put(path, {"trunk": {"admin_state_up": True}}).status_code == 200
    assert alice.delete(path).status_code == 204


def test_a_trunk_is_its_projects_own(alice: Client, bob: Client, rita: Client, admin: Client) -> None:
    parent, theirs = port(alice), port(bob, "10.1.0.0/24")
    made = make(alice, "trunks", port_id=parent["id"])
    path = f"{V}/trunks/{made['id']}"
    assert made["id"] not in {t["id"] for t in bob.get(f"{V}/trunks").json()["trunks"]}
    assert [bob.get(path).status_code, bob.delete(path).status_code] == [404, 404]
    assert bob.put(f"{path}/add_subports", {"sub_ports": [sub(theirs)]}).status_code == 404
    assert bob.get(f"{path}/get_subports").status_code == 404
    assert refused(alice.put(f"{path}/add_subports", {"sub_ports": [sub(theirs)]})) == (404, "PortNotFound")
    assert refused(bob.post(f"{V}/trunks", {"trunk": {"port_id": parent["id"]}})) == (404, "PortNotFound")
    assert rita.get(path).status_code == rita.get(f"{path}/get_subports").status_code == 200
    assert rita.put(f"{path}/add_subports", {"sub_ports": []}).status_code == 403
    assert rita.put(path, {"trunk": {"name": "n"}}).status_code == 403
    assert admin.get(path).status_code == 200


def test_trunks_are_filtered_sorted_paged_tagged_and_counted(alice: Client, admin: Client) -> None:
    made = [make(alice, "trunks", port_id=port(alice)["id"], name=f"page-{n}", description="p") for n in range(3)]
    for query in (f"port_id={made[1]['port_id']}", "name=page-1", f"id={made[1]['id']}"):
        assert [t["id"] for t in alice.get(f"{V}/trunks?{query}").json()["trunks"]] == [made[1]["id"]], query
    assert alice.get(f"{V}/trunks?sub_ports=x").status_code == 400
    path = f"{V}/trunks?description=p&sort_key=name&sort_dir=desc&limit=2&status=DOWN&admin_state_up=True"
    first = alice.get(path).json()
    assert [t["name"] for t in first["trunks"]] == ["page-2", "page-1"]
    rest = alice.get(f"{path}&marker={first['trunks'][-1]['id']}").json()["trunks"]
    assert [t["name"] for t in rest] == ["page-0"]
    assert alice.get(f"{V}/trunks/{made[0]['id']}?fields=name").json() == {"trunk": {"name": "page-0"}}
    assert alice.put(f"{V}/trunks/{made[0]['id']}/tags/red").status_code == 201
    assert [t["id"] for t in alice.get(f"{V}/trunks?tags=red").json()["trunks"]] == [made[0]["id"]]
    used = alice.get(f"{V}/quotas/blue/details.json").json()["quota"]["trunk"]["used"]
    assert admin.put(f"{V}/quotas/blue", {"quota": {"trunk": used}}).json()["quota"]["trunk"] == used
    try:
        full = alice.post(f"{V}/trunks", {"trunk": {"port_id": port(alice)["id"]}})
        assert refused(full) == (409, "OverQuota")
    finally:
        admin.delete(f"{V}/quotas/blue")
