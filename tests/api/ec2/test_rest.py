"""Images, types, key pairs, regions and tags."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from pileus.ec2.sweep import sweep
from tests.api.compute.guests import make_image
from tests.api.ec2.aws import V3, V20, V21, Person, refused
from tests.api.ec2.test_instances import KEY, run, settle


def test_images(alice: Person, place: Any, image: str) -> None:
    shown = {i["ImageId"]: i for i in alice.ec2.describe_images()["Images"]}
    assert shown[image]["Name"] == "tiny"
    assert shown[image]["State"] == "available"
    assert shown[image]["Public"] is True
    assert alice.ec2.describe_images(Owners=["self"])["Images"] == []
    found = alice.ec2.describe_images(Filters=[{"Name": "name", "Values": ["t?n*"]}])["Images"]
    assert image in {i["ImageId"] for i in found}
    private = "ami-" + make_image(place, visibility="private").replace("-", "")
    with refused("InvalidAMIID.NotFound"):
        alice.ec2.describe_images(ImageIds=[private])
    with refused("InvalidAMIID.NotFound"):
        alice.ec2.run_instances(ImageId=private, InstanceType="m1.tiny", MinCount=1, MaxCount=1)
    with refused("UnknownParameter"):
        alice.ec2.describe_images(ExecutableUsers=["self"])


def test_instance_types(alice: Person) -> None:
    [one] = alice.ec2.describe_instance_types(InstanceTypes=["m1.tiny"])["InstanceTypes"]
    assert one["VCpuInfo"] == {"DefaultVCpus": 1}
    assert one["MemoryInfo"] == {"SizeInMiB": 512}
    with refused("InvalidInstanceType"):
        alice.ec2.describe_instance_types(InstanceTypes=["t2.nano"])
    pages = alice.ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 5})
    names = [t["InstanceType"] for page in pages for t in page["InstanceTypes"]]
    assert names == sorted(names)
    assert {"m1.tiny", "m1.xlarge"} <= set(names)


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_a_key_pair_made_here(alice: Person, cloud: Any, kind: str) -> None:
    made = alice.ec2.create_key_pair(KeyName=f"made-{kind}", KeyType=kind)
    load = serialization.load_pem_private_key if kind == "rsa" else serialization.load_ssh_private_key
    private = load(made["KeyMaterial"].encode(), None)
    public = private.public_key().public_bytes(  # type: ignore[union-attr]
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()
    kept = alice.client.get(f"{V21}/os-keypairs/made-{kind}").json()["keypair"]
    assert kept["public_key"] == public
    assert kept["fingerprint"] == made["KeyFingerprint"]
    [shown] = alice.ec2.describe_key_pairs(KeyPairIds=[made["KeyPairId"]], IncludePublicKey=True)["KeyPairs"]
    assert (shown["KeyType"], shown["PublicKey"]) == (kind, public)
    with refused("InvalidKeyPair.Duplicate"):
        alice.ec2.create_key_pair(KeyName=f"made-{kind}")
    alice.ec2.delete_key_pair(KeyPairId=made["KeyPairId"])
    alice.ec2.delete_key_pair(KeyName=f"made-{kind}")  # gone is gone
    with refused("InvalidKeyPair.NotFound"):
        alice.ec2.describe_key_pairs(KeyNames=[f"made-{kind}"])


def test_keys_that_cannot_be(alice: Person, bob: Person) -> None:
    with refused("InvalidKey.Format"):
        alice.ec2.import_key_pair(KeyName="bad", PublicKeyMaterial=b"no key")
    with refused("InvalidParameterValue"):
        alice.ec2.import_key_pair(KeyName="a/b", PublicKeyMaterial=KEY)
    with refused("InvalidParameterValue"):
        alice.ec2.create_key_pair(KeyName="x", KeyFormat="ppk")
    bob.ec2.import_key_pair(KeyName="bobs", PublicKeyMaterial=KEY)
    with refused("InvalidKeyPair.NotFound"):
        alice.ec2.describe_key_pairs(KeyNames=["bobs"])
    alice.ec2.delete_key_pair(KeyName="bobs")
    assert bob.ec2.describe_key_pairs(KeyNames=["bobs"])["KeyPairs"]


def test_regions_and_zones(alice: Person) -> None:
    [region] = alice.ec2.describe_regions()["Regions"]
    assert region["RegionName"] == "RegionOne"
    assert region["Endpoint"] == "cloud.test/ec2/services/Cloud"
    [zone] = alice.ec2.describe_availability_zones()["AvailabilityZones"]
    assert (zone["ZoneName"], zone["State"]) == ("nova", "available")
    with refused("InvalidParameterValue"):
        alice.ec2.describe_regions(RegionNames=["mars"])
    services = alice.client.get(f"{V3}/auth/catalog").json()["catalog"]
    [ec2] = [s for s in services if s["type"] == "ec2"]
    assert {e["url"] for e in ec2["endpoints"]} == {"http://cloud.test/ec2/services/Cloud"}


def test_tags_of_everything_that_has_them(alice: Person, bob: Person, place: Any, image: str) -> None:
    [one] = run(alice, image)
    [vpc], [subnet] = alice.ec2.describe_vpcs()["Vpcs"], alice.ec2.describe_subnets()["Subnets"]
    group = alice.ec2.create_security_group(GroupName="tagged", Description="x", TagSpecifications=[
        {"ResourceType": "security-group", "Tags": [{"Key": "first", "Value": "1"}]},
    ])["GroupId"]
    address = alice.ec2.allocate_address()["AllocationId"]
    everything = [one, image, vpc["VpcId"], subnet["SubnetId"], group, address]
    alice.ec2.create_tags(Resources=everything, Tags=[{"Key": "team", "Value": "a&<b>"}, {"Key": "empty", "Value": ""}])
    shown = alice.ec2.describe_tags(Filters=[{"Name": "key", "Values": ["team"]}])["Tags"]
    assert {t["ResourceId"] for t in shown} == set(everything)
    assert {t["Value"] for t in shown} == {"a&<b>"}
    assert {t["ResourceType"] for t in shown} == {
        "instance", "image", "vpc", "subnet", "security-group", "elastic-ip"
    }
    by_tag = [{"Name": "tag:team", "Values": ["a&<b>"]}]
    assert [i["ImageId"] for i in alice.ec2.describe_images(Filters=by_tag)["Images"]] == [image]
    assert [v["VpcId"] for v in alice.ec2.describe_vpcs(Filters=by_tag)["Vpcs"]] == [vpc["VpcId"]]
    assert [a["AllocationId"] for a in alice.ec2.describe_addresses(Filters=by_tag)["Addresses"]] == [address]
    assert [g["GroupId"] for g in alice.ec2.describe_security_groups(Filters=by_tag)["SecurityGroups"]] == [group]
    assert bob.ec2.describe_images(Filters=by_tag)["Images"] == []  # tags are the project's own
    alice.ec2.delete_tags(Resources=[group], Tags=[{"Key": "team", "Value": "other"}])
    alice.ec2.delete_tags(Resources=[group], Tags=[{"Key": "empty"}])
    [found] = alice.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert {t["Key"] for t in found["Tags"]} == {"first", "team"}
    alice.ec2.delete_tags(Resources=[group])
    [found] = alice.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert found.get("Tags", []) == []
    # What goes by another API takes its tags along.
    alice.client.delete(f"{V20}/floatingips/{_uuid(address)}")
    gone = [{"Name": "resource-id", "Values": [address]}]
    assert alice.ec2.describe_tags(Filters=gone)["Tags"] == []
    assert place.db.run_sync(lambda tx: sweep(tx, place)) == 1
    assert place.db.run_sync(lambda tx: sweep(tx, place)) == 0
    assert alice.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [one]}])["Tags"]
    alice.ec2.terminate_instances(InstanceIds=[one])
    settle(alice, one, "terminated")
    assert alice.ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [one]}])["Tags"]


def test_tags_that_cannot_be(alice: Person, image: str) -> None:
    alice.ec2.delete_tags(Resources=[image])
    many = [{"Key": f"k{number}", "Value": "x"} for number in range(50)]
    alice.ec2.create_tags(Resources=[image], Tags=many)
    with refused("TagLimitExceeded"):
        alice.ec2.create_tags(Resources=[image], Tags=[{"Key": "more", "Value": "x"}])
    alice.ec2.delete_tags(Resources=[image])
    with refused("InvalidParameterValue"):
        alice.ec2.create_tags(Resources=[image], Tags=[{"Key": "a", "Value": "x"}, {"Key": "a", "Value": "y"}])
    with refused("InvalidID"):
        alice.ec2.create_tags(Resources=["vol-1"], Tags=[{"Key": "a", "Value": "x"}])
    with refused("InvalidAMIID.NotFound"):
        alice.ec2.create_tags(Resources=["ami-" + "0" * 32], Tags=[{"Key": "a", "Value": "x"}])


def test_volumes_are_not_offered(alice: Person) -> None:
    for act in (alice.ec2.describe_volumes, lambda: alice.ec2.create_volume(AvailabilityZone="nova", Size=1)):
        with refused("InvalidAction", 400):
            act()


def _uuid(identity: str) -> str:
    digits = identity.partition("-")[2]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


