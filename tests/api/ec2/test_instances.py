"""Instances, as Amazon's own client sees them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.api.compute.guests import eventually
from tests.api.ec2.aws import V21, Person, make_network, make_person, refused

TYPE = "m1.tiny"


def run(person: Person, image: str, **options: Any) -> list[str]:
    """Instances that run; their ids."""
    asked: dict[str, Any] = {"ImageId": image, "InstanceType": TYPE, "MinCount": 1, "MaxCount": 1, **options}
    made = [one["InstanceId"] for one in person.ec2.run_instances(**asked)["Instances"]]
    for one in made:
        settle(person, one, "running")
    return made


def show(person: Person, instance: str) -> dict[str, Any]:
    [reservation] = person.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    [found] = reservation["Instances"]
    shown: dict[str, Any] = found
    return shown


def settle(person: Person, instance: str, state: str) -> dict[str, Any]:
    """The instance once it is in a state."""

    def look() -> dict[str, Any] | None:
        found = show(person, instance)
        return found if found["State"]["Name"] == state else None

    found: dict[str, Any] = eventually(person.client, look)
    return found


def uuid_of(identity: str) -> str:
    digits = identity.partition("-")[2]
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def test_an_instance_lives_and_is_the_server_of_the_other_api(alice: Person, image: str) -> None:
    alice.ec2.import_key_pair(KeyName="mine", PublicKeyMaterial=KEY)
    data = base64.b64encode(b"#!/bin/sh\n").decode()
    reply = alice.ec2.run_instances(
        ImageId=image, InstanceType=TYPE, MinCount=1, MaxCount=1, KeyName="mine", UserData="#!/bin/sh\n",
        SecurityGroups=["default"], TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web"}, {"Key": "tier", "Value": "1"}]},
        ],
    )
    assert reply["OwnerId"] == alice.project
    [made] = reply["Instances"]
    assert made["State"] == {"Code": 0, "Name": "pending"}
    shown = settle(alice, made["InstanceId"], "running")
    assert shown["ImageId"] == image
    assert shown["InstanceType"] == TYPE
    assert shown["KeyName"] == "mine"
    assert shown["State"]["Code"] == 16
    assert shown["PrivateIpAddress"].startswith("10.5.0.")
    assert {t["Key"]: t["Value"] for t in shown["Tags"]} == {"Name": "web", "tier": "1"}
    [group] = shown["SecurityGroups"]
    assert group["GroupName"] == "default"
    [interface] = shown["NetworkInterfaces"]
    assert interface["SubnetId"] == shown["SubnetId"]
    assert interface["PrivateIpAddress"] == shown["PrivateIpAddress"]
    server = alice.client.get(f"{V21}/servers/{uuid_of(made['InstanceId'])}").json()["server"]
    assert server["name"] == "web"
    assert server["addresses"]["net"][0]["addr"] == shown["PrivateIpAddress"]
    asked = alice.ec2.describe_instance_attribute(InstanceId=made["InstanceId"], Attribute="userData")
    assert asked["UserData"]["Value"] == data
    kind = alice.ec2.describe_instance_attribute(InstanceId=made["InstanceId"], Attribute="instanceType")
    assert kind["InstanceType"]["Value"] == TYPE
    with refused("InvalidParameterValue", 400):
        alice.ec2.describe_instance_attribute(InstanceId=made["InstanceId"], Attribute="kernel")


def test_a_server_of_the_other_api_is_an_instance_too(alice: Person, image: str) -> None:
    [network] = alice.client.get("/network/v2.0/networks?name=net").json()["networks"]
    made = alice.client.post(f"{V21}/servers", {"server": {
        "name": "theirs", "imageRef": uuid_of(image), "flavorRef": "1", "networks": [{"uuid": network["id"]}],
    }}).json()["server"]["id"]
    shown = settle(alice, "i-" + made.replace("-", ""), "running")
    assert shown["ImageId"] == image


def test_stop_start_reboot_terminate(alice: Person, image: str) -> None:
    [one] = run(alice, image)
    [change] = alice.ec2.stop_instances(InstanceIds=[one])["StoppingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    settle(alice, one, "stopped")
    [change] = alice.ec2.stop_instances(InstanceIds=[one])["StoppingInstances"]
    assert change["CurrentState"]["Name"] == "stopped"
    with refused("IncorrectInstanceState", 400):
        alice.ec2.reboot_instances(InstanceIds=[one])
    [change] = alice.ec2.start_instances(InstanceIds=[one])["StartingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "pending")
    settle(alice, one, "running")
    alice.ec2.reboot_instances(InstanceIds=[one])
    path = f"{V21}/servers/{uuid_of(one)}"
    eventually(alice.client, lambda: alice.client.get(path).json()["server"]["OS-EXT-STS:task_state"] is None)
    [change] = alice.ec2.terminate_instances(InstanceIds=[one])["TerminatingInstances"]
    assert change["CurrentState"]["Name"] == "shutting-down"
    settle(alice, one, "terminated")
    assert alice.client.get(path).status_code == 404
    [change] = alice.ec2.terminate_instances(InstanceIds=[one])["TerminatingInstances"]
    assert change["PreviousState"]["Name"] == "terminated"
    with refused("IncorrectInstanceState"):
        alice.ec2.start_instances(InstanceIds=[one])


def test_all_or_none(alice: Person, image: str) -> None:
    [one] = run(alice, image)
    with refused("InvalidInstanceID.NotFound"):
        alice.ec2.stop_instances(InstanceIds=[one, "i-" + "0" * 32])
    assert show(alice, one)["State"]["Name"] == "running"


def test_a_client_token_makes_nothing_twice(alice: Person, image: str) -> None:
    asked = {"ImageId": image, "InstanceType": TYPE, "MinCount": 2, "MaxCount": 2, "ClientToken": "once-more"}
    first, second = (alice.ec2.run_instances(**asked) for _ in range(2))
    assert first["ReservationId"] == second["ReservationId"]
    assert [i["InstanceId"] for i in first["Instances"]] == [i["InstanceId"] for i in second["Instances"]]
    assert [i["AmiLaunchIndex"] for i in first["Instances"]] == [0, 1]
    with refused("IdempotentParameterMismatch"):
        alice.ec2.run_instances(**{**asked, "MinCount": 1})


def test_a_dry_run_leaves_nothing(alice: Person, image: str) -> None:
    before = alice.client.get(f"{V21}/servers").json()["servers"]
    with refused("DryRunOperation", 412):
        alice.ec2.run_instances(ImageId=image, InstanceType=TYPE, MinCount=1, MaxCount=1, DryRun=True)
    with refused("DryRunOperation"):
        alice.ec2.create_key_pair(KeyName="never", KeyType="ed25519", DryRun=True)
    assert alice.client.get(f"{V21}/servers").json()["servers"] == before
    with refused("InvalidKeyPair.NotFound"):
        alice.ec2.describe_key_pairs(KeyNames=["never"])


@pytest.mark.parametrize(("wrong", "code"), [
    ({"ImageId": "ami-" + "0" * 32}, "InvalidAMIID.NotFound"), ({"ImageId": "ami-1"}, "InvalidAMIID.Malformed"),
    ({"InstanceType": "t2.huge"}, "InvalidInstanceType"), ({"KeyName": "none"}, "InvalidKeyPair.NotFound"),
    ({"SecurityGroups": ["none"]}, "InvalidGroup.NotFound"),
    ({"SecurityGroupIds": ["sg-" + "0" * 32]}, "InvalidGroup.NotFound"),
    ({"SubnetId": "subnet-" + "0" * 32}, "InvalidSubnetID.NotFound"),
    ({"Placement": {"AvailabilityZone": "mars"}}, "InvalidParameterValue"),
    ({"Placement": {"AvailabilityZone": "nova:node"}}, "InvalidParameterValue"),
    ({"Placement": {"Tenancy": "dedicated"}}, "InvalidParameterValue"),
    ({"MinCount": 2}, "InvalidParameterCombination"), ({"MinCount": 0}, "InvalidParameterValue"),
    ({"Monitoring": {"Enabled": True}}, "InvalidParameterValue"),
    ({"BlockDeviceMappings": [{"DeviceName": "/dev/vdb"}]}, "UnknownParameter"),
    ({"MinCount": 1000, "MaxCount": 1000}, "InvalidParameterValue"),
    ({"MinCount": 400, "MaxCount": 400}, "InstanceLimitExceeded"),
    ({"PrivateIpAddress": "192.168.1.1"}, "InvalidParameterValue"),
    ({"TagSpecifications": [{"ResourceType": "volume", "Tags": []}]}, "InvalidParameterValue"),
    ({"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:x", "Value": "1"}]}]},
     "InvalidParameterValue"),
])
def test_what_cannot_be_run(alice: Person, image: str, wrong: dict[str, Any], code: str) -> None:
    asked = {"ImageId": image, "InstanceType": TYPE, "MinCount": 1, "MaxCount": 1, **wrong}
    before = alice.client.get(f"{V21}/servers").json()["servers"]
    with refused(code, 400):
        alice.ec2.run_instances(**asked)
    assert alice.client.get(f"{V21}/servers").json()["servers"] == before


def test_no_room_makes_no_instance(alice: Person, admin: Any, image: str) -> None:
    """Where no node fits, compute's users get a server in error; EC2's get an answer, and nothing is left behind."""
    admin.post(f"{V21}/flavors", {"flavor": {"name": "huge", "ram": 1 << 20, "vcpus": 1, "disk": 1}})
    before = alice.client.get(f"{V21}/servers").json()["servers"]
    with refused("InsufficientInstanceCapacity"):
        alice.ec2.run_instances(ImageId=image, InstanceType="huge", MinCount=1, MaxCount=1)
    assert alice.client.get(f"{V21}/servers").json()["servers"] == before


def test_which_subnet(admin: Any, image: str, place: Any) -> None:
    """Without a network or with several, the caller must say; an address is from the subnet that he names."""
    carol = make_person(admin, "carol")
    asked = {"ImageId": image, "InstanceType": TYPE, "MinCount": 1, "MaxCount": 1}
    with refused("VPCIdNotSpecified"):
        carol.ec2.run_instances(**asked)
    first = make_network(carol, "one", "10.6.0.0/24")
    network = carol.client.get(f"/network/v2.0/subnets/{first}").json()["subnet"]["network_id"]
    body = {"subnet": {"network_id": network, "cidr": "10.7.0.0/24", "ip_version": 4}}
    second = carol.client.post("/network/v2.0/subnets", body).json()["subnet"]["id"]
    [one] = run(carol, image, SubnetId="subnet-" + second.replace("-", ""))
    assert show(carol, one)["PrivateIpAddress"].startswith("10.7.0.")
    [two] = run(carol, image, SubnetId="subnet-" + first.replace("-", ""), PrivateIpAddress="10.6.0.77")
    assert show(carol, two)["PrivateIpAddress"] == "10.6.0.77"
    make_network(carol, "another", "10.8.0.0/24")
    with refused("VPCIdNotSpecified"):
        carol.ec2.run_instances(**asked)


def test_filters_and_pages(alice: Person, image: str) -> None:
    made = run(alice, image, MinCount=6, MaxCount=6, TagSpecifications=[
        {"ResourceType": "instance", "Tags": [{"Key": "set", "Value": "pages*"}]},
    ])

    def found(**filters: Any) -> set[str]:
        asked = [{"Name": name.replace("_", "-"), "Values": values} for name, values in filters.items()]
        shown = alice.ec2.describe_instances(Filters=asked)["Reservations"]
        return {i["InstanceId"] for r in shown for i in r["Instances"]}

    assert found(**{"tag:set": ["pa?es*"]}) == set(made)
    assert found(**{"tag:set": [r"pages\*"]}) == set(made)
    assert found(**{"tag:set": [r"page\?"]}) == set()
    assert found(tag_key=["set"], instance_state_name=["running", "stopped"]) == set(made)
    assert found(instance_state_name=["stopping"], tag_key=["set"]) == set()
    assert found(private_ip_address=[show(alice, made[0])["PrivateIpAddress"]]) == {made[0]}
    assert found(image_id=[image], tag_key=["set"], instance_type=["m1.*"]) == set(made)
    with refused("InvalidParameterValue"):
        found(colour=["red"])
    pages = alice.ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": "tag-key", "Values": ["set"]}], PaginationConfig={"PageSize": 5},
    )
    by_page = [[i["InstanceId"] for r in page["Reservations"] for i in r["Instances"]] for page in pages]
    assert [len(page) for page in by_page] == [5, 1]
    assert {i for page in by_page for i in page} == set(made)
    with refused("InvalidParameterCombination"):
        alice.ec2.describe_instances(InstanceIds=made[:1], MaxResults=5)
    with refused("InvalidParameterValue"):
        alice.ec2.describe_instances(MaxResults=4)
    with refused("InvalidNextToken"):
        alice.ec2.describe_instances(NextToken="????")
    alice.ec2.terminate_instances(InstanceIds=made)


def test_another_projects_instance_is_not_there(alice: Person, bob: Person, image: str) -> None:
    [one] = run(bob, image)
    for act in (alice.ec2.describe_instances, alice.ec2.stop_instances, alice.ec2.start_instances,
                alice.ec2.reboot_instances, alice.ec2.terminate_instances):
        with refused("InvalidInstanceID.NotFound", 400):
            act(InstanceIds=[one])
        with refused("InvalidInstanceID.Malformed", 400):
            act(InstanceIds=["i-x"])
    with refused("InvalidInstanceID.NotFound"):
        alice.ec2.get_console_output(InstanceId=one)
    with refused("InvalidInstanceID.NotFound"):
        alice.ec2.describe_instance_attribute(InstanceId=one, Attribute="userData")
    assert show(bob, one)["State"]["Name"] == "running"


def test_an_administrators_key_is_for_its_project_too(bob: Person, admin: Any, image: str) -> None:
    boss = make_person(admin, "boss", "admin")
    [one] = run(bob, image)
    with refused("InvalidInstanceID.NotFound"):
        boss.ec2.terminate_instances(InstanceIds=[one])
    assert boss.ec2.describe_instances()["Reservations"] == []


def test_the_console(alice: Person, image: str) -> None:
    [one] = run(alice, image)
    shown = alice.ec2.get_console_output(InstanceId=one)
    assert shown["InstanceId"] == one
    log = alice.client.post(f"{V21}/servers/{uuid_of(one)}/action", {"os-getConsoleOutput": {}}).json()["output"]
    # botocore decodes it.
    assert shown["Output"] == log


def test_the_guest_is_told_the_same_ids(alice: Person, place: Any, image: str) -> None:
    from pileus.compute import metadata

    [one] = run(alice, image)
    for path, told in (("instance-id", one), ("ami-id", image)):
        status, _, body = place.db.run_sync(
            lambda tx, path=path: metadata.answer(tx, place, uuid_of(one), None, f"/latest/meta-data/{path}"),
        )
        assert (status, body.decode()) == (200, told)


KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7rQyTsh0XyA6nDs+G3ZzAHoxAEVXn7nnGk4Xf7mSzT mine"
