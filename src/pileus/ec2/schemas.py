"""Parameters of EC2's actions. A parameter that is not here is refused: nothing that was asked for is passed over."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

Text = Annotated[str, Meta(min_length=1, max_length=255)]
Ids = Annotated[list[Text], Meta(max_length=1000)]
Note = Annotated[str, Meta(max_length=255)]
TagKey = Annotated[str, Meta(min_length=1, max_length=127)]
TagValue = Annotated[str, Meta(max_length=255)]
Count = Annotated[int, Meta(ge=1, le=10**6)]
PortNumber = Annotated[int, Meta(ge=-1, le=65535)]
Off = Annotated[str, Meta(pattern=r"^(?i:false)$(?!\n)")]
"""What can only be false: clients send it all the same."""

KeyName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[_\-@. a-zA-Z0-9]+$(?!\n)")]


class Part(msgspec.Struct, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """A parameter that has parts, as `Filter.1.Name`."""


class Params(Part, kw_only=True):
    """What an action takes. With DryRun it is only tried."""

    dry_run: bool = False


class Filter(Part, kw_only=True):
    name: Text
    value: Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(max_length=200)] = []


class Tag(Part, kw_only=True):
    key: TagKey
    value: TagValue = ""


class TagSpecification(Part, kw_only=True):
    resource_type: Text
    tag: Annotated[list[Tag], Meta(max_length=50)] = []


Tagging = Annotated[list[TagSpecification], Meta(max_length=10)]


class Describe(Params, kw_only=True):
    filter: Annotated[list[Filter], Meta(max_length=50)] = []


class Paged(Describe, kw_only=True):
    max_results: Annotated[int, Meta(ge=5, le=1000)] | None = None
    next_token: Annotated[str, Meta(max_length=1024)] | None = None


# -- places


class DescribeRegions(Describe, kw_only=True):
    region_name: Ids = []
    all_regions: bool = False


class DescribeAvailabilityZones(Describe, kw_only=True):
    zone_name: Ids = []
    all_availability_zones: bool = False


class DescribeVpcs(Paged, kw_only=True):
    vpc_id: Ids = []


class DescribeSubnets(Paged, kw_only=True):
    subnet_id: Ids = []


# -- images and types


class DescribeImages(Paged, kw_only=True):
    image_id: Ids = []
    owner: Ids = []


class DescribeInstanceTypes(Paged, kw_only=True):
    instance_type: Ids = []


# -- instances


class Instances(Params, kw_only=True):
    instance_id: Annotated[Ids, Meta(min_length=1)]


class StopInstances(Instances, kw_only=True):
    """A guest is asked first, and then stopped, in any case: there is nothing to force, and no hibernation."""

    force: Off = "false"
    hibernate: Off = "false"


class DescribeInstances(Paged, kw_only=True):
    instance_id: Ids = []


class OneInstance(Params, kw_only=True):
    instance_id: Text


class GetConsoleOutput(OneInstance, kw_only=True):
    latest: bool = False


class DescribeInstanceAttribute(OneInstance, kw_only=True):
    attribute: Text


class Placement(Part, kw_only=True):
    availability_zone: Text | None = None
    tenancy: Literal["default"] = "default"


class Switch(Part, kw_only=True):
    enabled: Off = "false"


class RunInstances(Params, kw_only=True):
    image_id: Text
    instance_type: Text = "m1.small"
    min_count: Count
    max_count: Count
    key_name: Text | None = None
    security_group: Ids = []
    security_group_id: Ids = []
    user_data: Annotated[str, Meta(max_length=65535)] | None = None
    subnet_id: Text | None = None
    private_ip_address: Annotated[str, Meta(max_length=45)] | None = None
    placement: Placement = field(default_factory=Placement)
    tag_specification: Tagging = []
    client_token: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")] | None = None
    # What can only be as it is; it is taken because clients send it, and refused when it says something else.
    monitoring: Switch = field(default_factory=Switch)
    instance_initiated_shutdown_behavior: Literal["stop"] = "stop"
    disable_api_termination: Off = "false"
    ebs_optimized: Off = "false"


# -- key pairs


class DescribeKeyPairs(Describe, kw_only=True):
    key_name: Ids = []
    key_pair_id: Ids = []
    include_public_key: bool = False


class CreateKeyPair(Params, kw_only=True):
    key_name: KeyName
    key_type: Literal["rsa", "ed25519"] = "rsa"
    key_format: Literal["pem"] = "pem"


class ImportKeyPair(Params, kw_only=True):
    key_name: KeyName
    public_key_material: Annotated[str, Meta(min_length=1, max_length=65535)]


class DeleteKeyPair(Params, kw_only=True):
    key_name: Text | None = None
    key_pair_id: Text | None = None


# -- security groups


class CreateSecurityGroup(Params, kw_only=True):
    group_name: Text
    group_description: Note
    tag_specification: Tagging = []


class DescribeSecurityGroups(Paged, kw_only=True):
    group_id: Ids = []
    group_name: Ids = []


class DeleteSecurityGroup(Params, kw_only=True):
    group_id: Text | None = None
    group_name: Text | None = None


class IpRange(Part, kw_only=True):
    cidr_ip: Text
    description: Note = ""


class Ipv6Range(Part, kw_only=True):
    cidr_ipv6: Text = field(name="CidrIpv6")
    description: Note = ""


class GroupPair(Part, kw_only=True):
    group_id: Text | None = None
    group_name: Text | None = None
    user_id: Text | None = None
    description: Note = ""


class Permission(Part, kw_only=True):
    """`IpPermissions.1`: one protocol, its ports, and all from where or to where."""

    ip_protocol: Text
    from_port: PortNumber | None = None
    to_port: PortNumber | None = None
    ip_ranges: Annotated[list[IpRange], Meta(max_length=200)] = []
    ipv6_ranges: Annotated[list[Ipv6Range], Meta(max_length=200)] = field(default=[], name="Ipv6Ranges")
    groups: Annotated[list[GroupPair], Meta(max_length=200)] = []


class Permissions(Params, kw_only=True):
    group_id: Text | None = None
    group_name: Text | None = None
    ip_permissions: Annotated[list[Permission], Meta(max_length=200)] = []
    # The same, for one permission only.
    ip_protocol: Text | None = None
    from_port: PortNumber | None = None
    to_port: PortNumber | None = None
    cidr_ip: Text | None = None


class Revocation(Permissions, kw_only=True):
    security_group_rule_id: Ids = []


# -- addresses


class AllocateAddress(Params, kw_only=True):
    domain: Literal["vpc", "standard"] = "vpc"
    tag_specification: Tagging = []


class DescribeAddresses(Describe, kw_only=True):
    allocation_id: Ids = []
    public_ip: Ids = []


class AssociateAddress(Params, kw_only=True):
    allocation_id: Text | None = None
    public_ip: Text | None = None
    instance_id: Text | None = None
    network_interface_id: Text | None = None
    private_ip_address: Annotated[str, Meta(max_length=45)] | None = None
    allow_reassociation: bool = False


class DisassociateAddress(Params, kw_only=True):
    association_id: Text | None = None
    public_ip: Text | None = None


class ReleaseAddress(Params, kw_only=True):
    allocation_id: Text | None = None
    public_ip: Text | None = None


# -- tags


class CreateTags(Params, kw_only=True):
    resource_id: Annotated[Ids, Meta(min_length=1)]
    tag: Annotated[list[Tag], Meta(min_length=1, max_length=50)]


class TagToDelete(Part, kw_only=True):
    key: TagKey
    value: TagValue | None = None


class DeleteTags(Params, kw_only=True):
    resource_id: Annotated[Ids, Meta(min_length=1)]
    tag: Annotated[list[TagToDelete], Meta(max_length=50)] = []


class DescribeTags(Paged, kw_only=True):
    pass
