"""Which node a server comes to, and why: filters, weighers, hints, and the ledger that `pileus explain` prints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from pileus.cloud import Cloud
from pileus.compute import decisions, explain, nodes, purge
from pileus.compute.decisions import Decision, Record
from pileus.compute.tables import aggregate, aggregate_host, decision, node, server
from pileus.db.engine import Tx
from pileus.placement import allocations
from pileus.placement.tables import allocation, consumer, inventory, provider
from pileus.settings import Settings
from tests.api.compute.guests import Servers, make_image
from tests.api.compute.rows import FACTS, add_node, add_server
from tests.api.conftest import Client

V = "/compute/v2.1"
HOST = "OS-EXT-SRV-ATTR:host"
WIPED = (allocation, consumer, inventory, provider, aggregate_host, aggregate, node, decision)


@pytest.fixture(scope="module")
def image(cloud: Cloud) -> str:
    return make_image(cloud)


@pytest.fixture
def guests(cloud: Cloud, admin: Client, image: str) -> Iterator[Servers]:
    """Servers of a cloud without any node or quota."""
    project = admin.get("/identity/v3/projects?name=admin").json()["projects"][0]["id"]
    admin.put(f"{V}/os-quota-sets/{project}", {"quota_set": {"instances": -1, "cores": -1, "ram": -1,
                                                                        "server_group_members": -1}})
    yield Servers(admin, image)

    def wipe(tx: Tx) -> None:
        tx.execute(server.update().values(deleted=True, host=None, group_id=None))
        for table in WIPED:
            tx.execute(table.delete())

    cloud.db.run_sync(wipe)


@contextlib.contextmanager
def having(cloud: Cloud, **changed: Any) -> Iterator[Settings]:
    """Other settings for a while."""
    before = cloud.settings
    cloud.settings = msgspec.structs.replace(before, **changed)
    try:
        yield cloud.settings
    finally:
        cloud.settings = before


def have(cloud: Cloud, *names: str, **facts: Any) -> None:
    """Nodes that are up."""
    for name in names:
        add_node(cloud, name, msgspec.structs.replace(FACTS, **facts))


def make(guests: Servers, **options: Any) -> dict[str, Any]:
    """A server that has just been asked for."""
    reply = guests.ask(**options)
    assert reply.status_code == 202, reply.text
    return guests.show(reply.json()["server"]["id"])


def host(guests: Servers, **options: Any) -> str | None:
    found: str | None = make(guests, **options)[HOST]
    return found


def why(guests: Servers, **options: Any) -> str:
    """The message of a server that found no node."""
    shown = make(guests, **options)
    assert (shown["status"], shown[HOST]) == ("ERROR", None)
    message: str = shown["fault"]["message"]
    assert message.startswith("No valid host was found. ")
    return message


def flavor(admin: Client, name: str, specs: dict[str, str] | None = None, **sizes: int) -> str:
    """A flavor with extra specs, made new; its id."""
    admin.delete(f"{V}/flavors/{name}")
    body = {"id": name, "name": name, "ram": 64, "vcpus": 1, "disk": 1, **sizes}
    assert admin.post(f"{V}/flavors", {"flavor": body}).status_code == 200
    if specs:
        assert admin.post(f"{V}/flavors/{name}/os-extra_specs", {"extra_specs": specs}).status_code == 200
    return name


def gather(admin: Client, name: str, hosts: list[str], metadata: dict[str, str] | None = None, zone: str = "") -> None:
    """An aggregate with nodes."""
    body = {"name": name, "availability_zone": zone or None}
    made = admin.post(f"{V}/os-aggregates", {"aggregate": body}).json()["aggregate"]["id"]
    for one in hosts:
        assert admin.post(f"{V}/os-aggregates/{made}/action", {"add_host": {"host": one}}).status_code == 200
    if metadata:
        change = {"set_metadata": {"metadata": metadata}}
        assert admin.post(f"{V}/os-aggregates/{made}/action", change).status_code == 200


def image_with(cloud: Cloud, admin: Client, properties: dict[str, str]) -> str:
    """An image with properties; its id."""
    made = make_image(cloud)
    patch = [{"op": "add", "path": f"/{key}", "value": value} for key, value in properties.items()]
    kind = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert admin.patch(f"/image/v2/images/{made}", patch, headers=kind).status_code == 200
    return made


def remembered(cloud: Cloud, server_id: str) -> list[Decision]:
    return cloud.db.run_sync(lambda tx: decisions.of(tx, server_id))


def told(cloud: Cloud, wanted: str) -> str:
    """What `pileus explain` prints."""
    return cloud.db.run_sync(lambda tx: "\n".join(explain.lines(tx, explain.find(tx, wanted)[0])))


# -- weighers


def test_servers_are_spread_by_what_is_free(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "a", "b", "c")
    assert sorted(str(host(guests)) for _ in range(6)) == ["a", "a", "b", "b", "c", "c"]


def test_a_multiplier_below_zero_fills_nodes(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "a", "b", "c")
    fill = {f"{name}_weight_multiplier": -1.0 for name in ("ram", "cpu", "disk")}
    with having(cloud, io_ops_weight_multiplier=0.0, **fill):
        assert len({host(guests) for _ in range(4)}) == 1


def test_aggregates_set_multipliers_for_their_nodes(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "big", memory_mib=32_768)
    have(cloud, "small")
    assert host(guests) == "big"
    gather(admin, "full", ["big"], {"ram_weight_multiplier": "-5"})
    assert host(guests) == "small"


def test_a_node_that_fails_builds_is_taken_last(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "big", memory_mib=65_536)
    have(cloud, "small")
    cloud.db.run_sync(lambda tx: nodes.build_ended(tx, "big", failed=True))
    assert host(guests) == "small"
    cloud.db.run_sync(lambda tx: nodes.build_ended(tx, "big", failed=False))
    assert host(guests) == "big"


def test_a_busy_node_is_taken_last(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "a", "b")
    for _ in range(5):
        add_server(cloud, "p", host="a", task_state="spawning")
    assert host(guests) == "b"


# -- what a flavor, an image and aggregates want


def test_a_zone(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "a", "b")
    have(cloud, "c", memory_mib=65_536)
    gather(admin, "east", ["c"], zone="east")
    assert host(guests, availability_zone="east") == "c"
    assert {host(guests, availability_zone="nova") for _ in range(2)} == {"a", "b"}
    huge = flavor(admin, "huge", ram=40_000)
    message = why(guests, flavorRef=huge, availability_zone="nova")
    assert "2 have too little memory free" in message or "do not give out 40000 MiB" in message
    assert "1 are in another availability zone" in message


@pytest.mark.parametrize(("specs", "chosen"), [
    ({"capabilities:cpu_info:features": "<in> avx512"}, "new"), ({"capabilities:vcpus": ">= 16"}, "new"),
    ({"capabilities:hypervisor_type": "s== fake"}, "any"), ({"capabilities:hypervisor_type": "<or> QEMU <or> KVM"}, ""),
    ({"capabilities:cpu_info:features": "<all-in> sse avx512"}, "new"),
    ({"capabilities:free_ram_mb": ">= 30000"}, "new"),
    ({"capabilities:nonsense": "1"}, ""), ({"trait:HW_CPU_X86_AVX512F": "required"}, "new"),
    ({"trait:HW_CPU_X86_AVX512F": "forbidden"}, "old"), ({"resources:VCPU": "9"}, "new"),
    ({"resources1:MEMORY_MB": "20000"}, "new"), ({"aggregate_instance_extra_specs:ssd": "true"}, "old"),
    ({"aggregate_instance_extra_specs:ssd": "false"}, ""), ({"aggregate_instance_extra_specs:gpu": "<in> a"}, ""),
])
def test_extra_specs(cloud: Cloud, admin: Client, guests: Servers, specs: dict[str, str], chosen: str) -> None:
    have(cloud, "old")
    have(cloud, "new", vcpus=16, memory_mib=65_536, cpu_features=("sse", "avx512"), traits=("HW_CPU_X86_AVX512F",))
    gather(admin, "fast", ["old"], {"ssd": "true"})
    wanted = flavor(admin, "special", specs)
    found = host(guests, flavorRef=wanted)
    assert found is not None if chosen == "any" else found == (chosen or None)


@pytest.mark.parametrize(("properties", "chosen"), [
    ({"hw_architecture": "aarch64"}, "arm"), ({"hw_architecture": "arm64"}, "arm"), ({"img_hv_type": "QEMU"}, "arm"),
    ({"img_hv_type": "kvm"}, "arm"), ({"img_hv_type": "xen"}, None), ({"hw_architecture": "x86_64"}, "intel"),
    ({"img_hv_requested_version": ">=7.2,<8.0"}, "arm"), ({"img_hv_requested_version": ">=9.0"}, None),
    ({"hw_vm_mode": "xen"}, None), ({"hw_vm_mode": "hvm", "hw_architecture": "AMD64"}, "intel"),
    ({"os_distro": "windows"}, "arm"),
])
def test_image_properties(
    cloud: Cloud, admin: Client, guests: Servers, properties: dict[str, str], chosen: str | None
) -> None:
    have(cloud, "intel")
    have(cloud, "arm", architecture="aarch64", hypervisor_type="QEMU", hypervisor_version=7_002_022)
    gather(admin, "linux", ["intel"], {"os_distro": "debian,ubuntu"})
    other = image_with(cloud, admin, properties)
    assert host(guests, imageRef=other) == chosen


def test_aggregates_that_are_kept_for_some(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "theirs", "typed", "traited", memory_mib=65_536)
    have(cloud, "ours")
    gather(admin, "tenants", ["theirs"], {"filter_tenant_id": "other", "filter_tenant_id2": "another, third"})
    gather(admin, "types", ["typed"], {"instance_type": "m1.huge, m1.large"})
    gather(admin, "traits", ["traited"], {"trait:CUSTOM_LICENSED": "required"})
    assert {host(guests) for _ in range(2)} == {"ours"}
    message = why(guests, flavorRef=flavor(admin, "large", ram=20_000))
    assert "1 are kept for other projects" in message
    project = admin.get("/identity/v3/projects?name=admin").json()["projects"][0]["id"]
    gather(admin, "and we", ["theirs"], {"filter_tenant_id": project})
    assert host(guests) == "theirs"  # a node in two aggregates takes the projects of both


def test_nodes_take_so_many_servers(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "a", "b")
    with having(cloud, max_instances_per_host=1):
        assert {host(guests), host(guests)} == {"a", "b"}
        assert "all have as many servers as they may" in why(guests)
        gather(admin, "more", ["b"], {"max_instances_per_host": "2"})
        assert host(guests) == "b"


# -- hints and groups


def test_same_and_different_host(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "a", "b")
    first, second = make(guests), make(guests)
    for _ in range(3):
        assert host(guests, hints={"same_host": first["id"]}) == first[HOST]
        assert host(guests, hints={"different_host": [first["id"]]}) == second[HOST]
    assert "all have a server of the hint different_host" in why(
        guests, hints={"different_host": [first["id"], second["id"]]}
    )


def test_near_an_address(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "rack1", host_ip="10.1.0.5", memory_mib=65_536)
    have(cloud, "rack2", host_ip="10.2.0.5")
    have(cloud, "nowhere", memory_mib=65_536)
    assert host(guests, hints={"build_near_host_ip": "10.2.0.77"}) == "rack2"
    assert host(guests, hints={"build_near_host_ip": "10.0.0.1", "cidr": "/8"}) == "rack1"
    assert "are not near" in why(guests, hints={"build_near_host_ip": "10.3.0.1"})
    assert guests.ask(hints={"build_near_host_ip": "somewhere"}).status_code == 400
    assert guests.ask(hints={"build_near_host_ip": "10.0.0.1", "cidr": "24"}).status_code == 400


def test_a_query_counts_where_it_is_allowed(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "big", memory_mib=65_536)
    have(cloud, "small")
    query = '["and", ["<", "$free_ram_mb", 20000], ["=", "$hypervisor_hostname", "small", "small"]]'
    assert host(guests, hints={"query": query}) == "big"
    with having(cloud, scheduler_query_hint=True):
        assert host(guests, hints={"query": query}) == "small"
        assert "all do not fulfil the hint query" in why(guests, hints={"query": '["=", "$host", "x"]'})
    assert guests.ask(hints={"query": "nonsense"}).status_code == 400


@pytest.mark.parametrize(("policy", "rules", "count"), [
    ("affinity", {}, 1), ("anti-affinity", {}, 3), ("anti-affinity", {"max_server_per_host": 2}, 3),
    ("soft-affinity", {}, 1), ("soft-anti-affinity", {}, 3),
])
def test_server_groups(
    cloud: Cloud, guests: Servers, admin: Client, policy: str, rules: dict[str, int], count: int
) -> None:
    have(cloud, "a", "b", "c")
    body = {"server_group": {"name": "g", "policy": policy, **({"rules": rules} if rules else {})}}
    group = admin.post(f"{V}/os-server-groups", body, version="2.64").json()["server_group"]["id"]
    found = [host(guests, hints={"group": group}) for _ in range(3 * rules.get("max_server_per_host", 1))]
    assert len(set(found)) == count
    if policy == "anti-affinity":
        assert "anti-affinity" in why(guests, hints={"group": group})
    else:
        assert host(guests, hints={"group": group})


def test_soft_anti_affinity_goes_where_the_fewest_are(cloud: Cloud, guests: Servers, admin: Client) -> None:
    have(cloud, *(f"n{i:02}" for i in range(12)))  # more than are looked at first
    body = {"server_group": {"name": "g", "policy": "soft-anti-affinity"}}
    group = admin.post(f"{V}/os-server-groups", body, version="2.64").json()["server_group"]["id"]
    found = [host(guests, hints={"group": group}) for _ in range(24)]
    assert all(found.count(name) == 2 for name in set(found))


# -- nodes that are not there


def test_disabled_and_down_nodes(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "disabled", "down", "forced", memory_mib=65_536)
    have(cloud, "up")
    body = {"host": "disabled", "binary": "nova-compute", "disabled_reason": "new fans"}
    admin.put(f"{V}/os-services/disable-log-reason", body)
    admin.put(f"{V}/os-services/force-down", {"host": "forced", "binary": "nova-compute", "forced_down": True},
              version="2.11")
    late = cloud.world.now() - nodes.DEAD_AFTER - 5
    cloud.db.run_sync(lambda tx: tx.execute(node.update().where(node.c.name == "down").values(seen=late)))
    shown = make(guests)
    assert shown[HOST] == "up"
    huge = make(guests, flavorRef=flavor(admin, "huge", ram=30_000))
    text = told(cloud, huge["id"])
    for words in ("disabled: is disabled: new fans", "down: is down: it was last heard of 35 s ago",
                  "forced: is forced down", "up: needs 30000 MiB of memory, and 16384 at most are given to one server",
                  "what to do:", "enable those that are disabled"):
        assert words in text, text


def test_silence_while_the_database_was_away_is_no_sign(
    cloud: Cloud, guests: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(cloud, "silent")
    seen = cloud.world.now() - nodes.DEAD_AFTER - 5
    cloud.db.run_sync(lambda tx: tx.execute(node.update().values(seen=seen)))
    assert "is down" in why(guests)
    monkeypatch.setattr(cloud.db, "missed", lambda within: 20.0 if within == nodes.DEAD_AFTER else 0.0)
    assert make(guests)[HOST] == "silent"
    monkeypatch.setattr(cloud.db, "missed", lambda within: 4.0)
    assert "is down" in why(guests)


def test_without_nodes(guests: Servers) -> None:
    assert "No node has joined this cloud yet" in why(guests)


# -- physical networks


def test_nodes_that_say_which_physical_networks_they_have(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "plain", memory_mib=65_536)
    have(cloud, "wired")
    with_networks = {"plain": ["other"], "wired": ["public"]}

    def write(tx: Tx) -> None:
        for name, networks in with_networks.items():
            row = nodes.by_name(tx, name)
            assert row is not None
            tx.execute(node.update().where(node.c.name == name).values(
                facts={**row.facts, "physical_networks": networks}
            ))

    cloud.db.run_sync(write)
    public = admin.get("/network/v2.0/networks?name=public").json()["networks"][0]["id"]
    assert host(guests, networks=[{"uuid": public}]) == "wired"
    assert host(guests) == "plain"


# -- many nodes


def test_no_node_is_overlooked(cloud: Cloud, admin: Client, guests: Servers) -> None:
    """The first ones that are looked at all fail a filter that placement knows nothing of."""
    have(cloud, *(f"n{i:03}" for i in range(150)), memory_mib=65_536)
    have(cloud, "only", architecture="aarch64")
    other = image_with(cloud, admin, {"hw_architecture": "aarch64"})
    shown = make(guests, imageRef=other)
    assert shown[HOST] == "only"
    record = remembered(cloud, shown["id"])[0].record
    assert (record.looked_at, record.fitting, record.refused[0].count) == (151, 1, 150)
    assert len(record.refused[0].examples) <= 10
    text = told(cloud, shown["id"])
    assert "150 cannot run such an image (ImagePropertiesFilter)" in text


def test_many_nodes_that_are_down_are_met_once(cloud: Cloud, guests: Servers) -> None:
    have(cloud, *(f"dead{i:02}" for i in range(30)), memory_mib=65_536)
    have(cloud, "alive")
    late = cloud.world.now() - nodes.DEAD_AFTER - 5
    cloud.db.run_sync(lambda tx: tx.execute(node.update().where(node.c.name != "alive").values(seen=late)))
    looked = []
    for _ in range(2):
        shown = make(guests)
        assert shown[HOST] == "alive"
        looked.append(remembered(cloud, shown["id"])[0].record.looked_at)
    assert looked == [11, 1]
    cloud.db.run_sync(lambda tx: nodes.heartbeats(tx, ["dead07"], cloud.world.now()))
    with having(cloud, max_instances_per_host=2):
        assert host(guests) == "dead07"  # which is back, and is found as no other will do
    cloud.memory.pop("compute.down")


def test_many_refusals_are_counted(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, *(f"n{i:03}" for i in range(40)))
    shown = make(guests, flavorRef=flavor(admin, "wide", vcpus=129))
    assert shown["fault"]["message"] == (
        "No valid host was found. Of 40 nodes all do not give out 129 of processors at once; wanted were 129 VCPU, "
        "64 MEMORY_MB, 1 DISK_GB."
    )
    refused = remembered(cloud, shown["id"])[0].record.refused
    assert [(one.count, len(one.examples)) for one in refused] == [(40, 3)]
    assert "n0" not in shown["fault"]["message"]  # users learn no names of nodes


def test_aggregates_in_placement_do_not_mislead(cloud: Cloud, admin: Client, guests: Servers) -> None:
    """Somebody has changed a provider's aggregates through placement's API: compute's own count."""
    have(cloud, "a", "b")
    gather(admin, "east", ["a"], zone="east")
    cloud.db.run_sync(lambda tx: tx.execute(provider.update().values(aggregates="")))
    assert host(guests, availability_zone="east") == "a"


def test_a_request_for_many_spends_one_search_on_failing(cloud: Cloud, admin: Client, guests: Servers) -> None:
    have(cloud, "a")
    wide = flavor(admin, "wide", ram=6_000)
    reply = guests.ask(flavorRef=wide, min_count=1, max_count=5, name="many")
    assert reply.status_code == 202
    listed = admin.get(f"{V}/servers/detail?name=many").json()["servers"]
    assert sorted(one["status"] for one in listed) == ["BUILD", "BUILD", "ERROR", "ERROR", "ERROR"]
    assert all(len(remembered(cloud, one["id"])) == 1 for one in listed)


# -- the ledger


def test_a_choice_is_remembered_with_its_weights(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "big", memory_mib=32_768)
    have(cloud, "small")
    shown = make(guests)
    one = remembered(cloud, shown["id"])[0]
    assert (one.host, one.record.action, one.record.looked_at, one.record.fitting) == ("big", "create", 2, 2)
    assert [(weighed.node, weighed.weight) for weighed in one.record.weighed] == [("big", 1.0), ("small", 0.0)]
    text = told(cloud, shown["name"])
    assert "create: chose big" in text
    assert "big: 1.00 (memory +1.00)" in text


def test_a_refused_migration_is_remembered_although_it_is_undone(
    cloud: Cloud, admin: Client, guests: Servers
) -> None:
    have(cloud, "a", "b", moves=True)
    shown = make(guests, flavorRef=flavor(admin, "half", ram=12_000))
    other = ({"a", "b"} - {shown[HOST]}).pop()
    make(guests, flavorRef="half")
    cloud.db.run_sync(lambda tx: tx.execute(
        server.update().where(server.c.id == shown["id"]).values(vm_state="active", task_state=None, launched=1.0)
    ))
    reply = guests.act(shown["id"], "migrate")
    assert reply.status_code == 400, reply.text
    assert "have too little memory free" in reply.text
    newest = remembered(cloud, shown["id"])[0]
    assert (newest.host, newest.record.action) == (None, "migrate")
    assert f"{other}: needs 12000 MiB of memory, " in told(cloud, shown["id"])
    assert cloud.db.run_sync(lambda tx: allocations.of_consumer(tx, shown["id"]))  # what it had
    guests.act(shown["id"], "migrate")
    actions = [(one.host, one.record.action) for one in remembered(cloud, shown["id"])]
    assert actions == [(None, "migrate"), (shown[HOST], "create")]  # the same failure is kept once
    for number in range(decisions.KEPT + 2):
        record = Record(action=f"move {number}", wanted="")
        cloud.db.run_sync(lambda tx, r=record: decisions.write(tx, shown["id"], "a", r, 0.0))
    assert len(remembered(cloud, shown["id"])) == decisions.KEPT


def test_decisions_go_with_their_server(cloud: Cloud, guests: Servers) -> None:
    have(cloud, "a")
    server_id = make(guests)["id"]
    gone = {"deleted": True, "deleted_at": cloud.world.now() - 31 * 86400}
    cloud.db.run_sync(lambda tx: tx.execute(server.update().where(server.c.id == server_id).values(**gone)))
    assert remembered(cloud, server_id)
    cloud.db.run_sync(lambda tx: purge.purge(tx, cloud))
    assert cloud.db.run_sync(lambda tx: tx.scalar(
        sa.select(sa.func.count()).where(decision.c.server_id == server_id)
    )) == 0
