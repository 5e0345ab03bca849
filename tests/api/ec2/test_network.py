"""Security groups, addresses, VPCs and subnets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.ec2.aws import V20, Person, refused
from tests.api.ec2.test_instances import run, show, uuid_of

ANY_V4 = [{"CidrIp": "0.0.0.0/0"}]


def ssh(**more: Any) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": ANY_V4, **more}


def make_group(person: Person, name: str) -> str:
    made: str = person.ec2.create_security_group(GroupName=name, Description="for tests")["GroupId"]
    return made


def permissions(person: Person, group: str) -> list[dict[str, Any]]:
    [shown] = person.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    found: list[dict[str, Any]] = shown["IpPermissions"]
    return found


def test_a_group_and_its_rules_are_the_other_apis(alice: Person) -> None:
    group = make_group(alice, "web")
    made = alice.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[
        ssh(IpRanges=[{"CidrIp": "10.0.0.7/8", "Description": "inside"}], Ipv6Ranges=[{"CidrIpv6": "fd00::/8"}]),
        {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": ANY_V4},
    ])["SecurityGroupRules"]
    assert {(r["IpProtocol"], r.get("CidrIpv4") or r["CidrIpv6"]) for r in made} == {
        ("tcp", "10.0.0.0/8"), ("tcp", "fd00::/8"), ("icmp", "0.0.0.0/0"),
    }
    shown = {p["IpProtocol"]: p for p in permissions(alice, group)}
    assert shown["tcp"]["IpRanges"] == [{"CidrIp": "10.0.0.0/8", "Description": "inside"}]
    assert shown["tcp"]["Ipv6Ranges"] == [{"CidrIpv6": "fd00::/8"}]
    assert (shown["icmp"]["FromPort"], shown["icmp"]["ToPort"]) == (8, -1)
    rules = alice.client.get(f"{V20}/security-group-rules?security_group_id={uuid_of(group)}&direction=ingress").json()
    assert sorted((r["ethertype"], r["protocol"], r["port_range_min"]) for r in rules["security_group_rules"]) == [
        ("IPv4", "icmp", 8), ("IPv4", "tcp", 22), ("IPv6", "tcp", 22),
    ]
    inside = ssh(IpRanges=[{"CidrIp": "10.0.0.0/8"}])
    with refused("InvalidPermission.Duplicate"):
        alice.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside])
    alice.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[inside])
    alice.ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[
        r["SecurityGroupRuleId"] for r in made if r["IpProtocol"] == "icmp"
    ])
    [left] = permissions(alice, group)
    assert left["IpRanges"] == []
    with refused("InvalidPermission.NotFound"):
        alice.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[ssh()])
    alice.ec2.delete_security_group(GroupName="web")
    with refused("InvalidGroup.NotFound"):
        alice.ec2.describe_security_groups(GroupIds=[group])


def test_a_group_that_is_a_source(alice: Person) -> None:
    front, back = make_group(alice, "front"), make_group(alice, "back")
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": front}]}
    alice.ec2.authorize_security_group_ingress(GroupId=back, IpPermissions=[pair])
    [shown] = permissions(alice, back)
    assert shown["UserIdGroupPairs"] == [{"UserId": alice.project, "GroupId": front, "GroupName": "front"}]
    with refused("DependencyViolation"):
        alice.ec2.delete_security_group(GroupId=front)
    alice.ec2.revoke_security_group_ingress(GroupId=back, IpPermissions=[pair])
    assert permissions(alice, back) == []
    alice.ec2.authorize_security_group_ingress(
        GroupName="back", IpProtocol="udp", FromPort=53, ToPort=53, CidrIp="0.0.0.0/0"
    )
    assert [p["IpProtocol"] for p in permissions(alice, back)] == ["udp"]


def test_egress_is_open_until_it_is_closed(alice: Person) -> None:
    group = make_group(alice, "closed")
    everything = [{"IpProtocol": "-1", "IpRanges": ANY_V4}]
    with refused("InvalidPermission.Duplicate"):
        alice.ec2.authorize_security_group_egress(GroupId=group, IpPermissions=everything)
    alice.ec2.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
    alice.ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[ssh()])
    [shown] = alice.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert {p["IpProtocol"] for p in shown["IpPermissionsEgress"]} == {"-1", "tcp"}  # IPv6 is still open


@pytest.mark.parametrize(("wrong", "code"), [
    ({"IpProtocol": "nonsense"}, "InvalidPermission.Malformed"), ({"FromPort": 30}, "InvalidPermission.Malformed"),
    ({"FromPort": 70_000, "ToPort": 70_000}, "InvalidParameterValue"),
    ({"IpRanges": [{"CidrIp": "10.0.0.0"}]}, "InvalidParameterValue"),
    ({"IpRanges": [{"CidrIp": "fd00::/8"}]}, "InvalidParameterValue"), ({"IpRanges": []}, "MissingParameter"),
    ({"UserIdGroupPairs": [{"GroupId": "sg-" + "0" * 32}]}, "InvalidGroup.NotFound"),
    ({"UserIdGroupPairs": [{"UserId": "somebody", "GroupName": "default"}]}, "InvalidGroup.NotFound"),
    ({"PrefixListIds": [{"PrefixListId": "pl-1"}]}, "UnknownParameter"),
    ({"IpProtocol": "icmp", "FromPort": -1, "ToPort": 3}, "InvalidPermission.Malformed"),
])
def test_permissions_that_cannot_be(alice: Person, wrong: dict[str, Any], code: str) -> None:
    with refused(code, 400):
        alice.ec2.authorize_security_group_ingress(GroupName="default", IpPermissions=[ssh(**wrong)])


def test_groups_that_cannot_be(alice: Person, image: str) -> None:
    with refused("InvalidGroup.Reserved"):
        alice.ec2.create_security_group(GroupName="default", Description="x")
    with refused("CannotDelete"):
        alice.ec2.delete_security_group(GroupName="default")
    used = make_group(alice, "used")
    with refused("InvalidGroup.Duplicate"):
        make_group(alice, "used")
    with refused("InvalidParameterValue"):
        make_group(alice, "sg-mine")
    with refused("UnknownParameter"):
        alice.ec2.create_security_group(GroupName="x", Description="x", VpcId="vpc-1")
    run(alice, image, SecurityGroupIds=[used])
    with refused("DependencyViolation"):
        alice.ec2.delete_security_group(GroupId=used)
    with refused("MissingParameter"):
        alice.ec2.delete_security_group()


def test_an_address_leads_to_an_instance(alice: Person, image: str) -> None:
    [one] = run(alice, image)
    [two] = run(alice, image)
    given = alice.ec2.allocate_address(Domain="vpc")
    assert given["PublicIp"].startswith("203.0.113.")
    joined = alice.ec2.associate_address(AllocationId=given["AllocationId"], InstanceId=one)["AssociationId"]
    assert show(alice, one)["PublicIpAddress"] == given["PublicIp"]
    [seen] = alice.ec2.describe_addresses(Filters=[{"Name": "instance-id", "Values": [one]}])["Addresses"]
    assert seen["AssociationId"] == joined
    assert seen["PrivateIpAddress"] == show(alice, one)["PrivateIpAddress"]
    with refused("Resource.AlreadyAssociated"):
        alice.ec2.associate_address(AllocationId=given["AllocationId"], InstanceId=two)
    with refused("InvalidIPAddress.InUse"):
        alice.ec2.release_address(AllocationId=given["AllocationId"])
    alice.ec2.associate_address(PublicIp=given["PublicIp"], InstanceId=two, AllowReassociation=True)
    assert "PublicIpAddress" not in show(alice, one)
    interface = show(alice, one)["NetworkInterfaces"][0]["NetworkInterfaceId"]
    alice.ec2.associate_address(
        AllocationId=given["AllocationId"], NetworkInterfaceId=interface, AllowReassociation=True
    )
    assert show(alice, one)["PublicIpAddress"] == given["PublicIp"]
    alice.ec2.disassociate_address(AssociationId=joined)
    with refused("InvalidAssociationID.NotFound"):
        alice.ec2.disassociate_address(AssociationId=joined)
    alice.ec2.release_address(AllocationId=given["AllocationId"])
    with refused("InvalidAllocationID.NotFound"):
        alice.ec2.describe_addresses(AllocationIds=[given["AllocationId"]])
    with refused("InvalidAddress.NotFound"):
        alice.ec2.release_address(PublicIp="203.0.113.250")


def test_another_projects_network_is_not_there(alice: Person, bob: Person, image: str) -> None:
    theirs, group = bob.ec2.allocate_address(), make_group(bob, "theirs")
    interface = show(bob, run(bob, image)[0])["NetworkInterfaces"][0]["NetworkInterfaceId"]
    [subnet] = bob.ec2.describe_subnets()["Subnets"]
    for code, act in (
        ("InvalidAllocationID.NotFound", lambda: alice.ec2.release_address(AllocationId=theirs["AllocationId"])),
        ("InvalidAddress.NotFound", lambda: alice.ec2.release_address(PublicIp=theirs["PublicIp"])),
        ("InvalidGroup.NotFound", lambda: alice.ec2.delete_security_group(GroupId=group)),
        ("InvalidGroup.NotFound", lambda: alice.ec2.describe_security_groups(GroupNames=["theirs"])),
        ("InvalidSubnetID.NotFound", lambda: alice.ec2.describe_subnets(SubnetIds=[subnet["SubnetId"]])),
        ("InvalidVpcID.NotFound", lambda: alice.ec2.describe_vpcs(VpcIds=[subnet["VpcId"]])),
        ("InvalidSubnetID.NotFound", lambda: alice.ec2.create_tags(
            Resources=[subnet["SubnetId"]], Tags=[{"Key": "a", "Value": "b"}]
        )),
    ):
        with refused(code, 400):
            act()
    mine = alice.ec2.allocate_address()["AllocationId"]
    with refused("InvalidNetworkInterfaceID.NotFound"):
        alice.ec2.associate_address(AllocationId=mine, NetworkInterfaceId=interface)
    alice.ec2.release_address(AllocationId=mine)


def test_vpcs_and_subnets_are_the_projects_networks(alice: Person) -> None:
    [network] = alice.client.get(f"{V20}/networks?name=net").json()["networks"]
    [vpc] = alice.ec2.describe_vpcs()["Vpcs"]
    assert vpc["VpcId"] == "vpc-" + network["id"].replace("-", "")
    assert vpc["CidrBlock"] == "10.5.0.0/24"
    assert vpc["IsDefault"] is True
    [subnet] = alice.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["Subnets"]
    assert subnet["CidrBlock"] == "10.5.0.0/24"
    assert 100 < subnet["AvailableIpAddressCount"] < 254
