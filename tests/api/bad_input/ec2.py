"""Requests to EC2's one place: its actions' parameters, near to what they take and far from it, signed.

Its document has a form without fields, since what may be in it depends on the action; so they are drawn from the
structs that the actions' table names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pileus.ec2.actions import ACTIONS
from tests.api.bad_input.requests import ODD, TEXTS, Draw, Request

Schema = dict[str, Any]
Keys = dict[str, dict[str, str]]

_PATH = "/ec2/services/Cloud"
_KINDS = {
    "InstanceId": ("i", "server"), "ImageId": ("ami", "image"), "SubnetId": ("subnet", "subnet"),
    "VpcId": ("vpc", "network"), "GroupId": ("sg", "security_group"), "SecurityGroupId": ("sg", "security_group"),
    "SecurityGroupRuleId": ("sgr", "rule"), "AllocationId": ("eipalloc", "floatingip"),
    "AssociationId": ("eipassoc", "floatingip"), "NetworkInterfaceId": ("eni", "port"), "ResourceId": ("i", "server"),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "InstanceType": ("f", "m1.tiny"), "KeyName": ("key-alice", "key-bob", "new"), "GroupName": ("default", "alice"),
    "SecurityGroup": ("default", "alice"), "IpProtocol": ("tcp", "udp", "icmp", "-1", "47", "icmpv6"),
    "CidrIp": ("0.0.0.0/0", "10.0.0.0/8"), "CidrIpv6": ("::/0",), "ResourceType": ("instance", "elastic-ip"),
    "Attribute": ("userData", "instanceType", "groupSet"), "MinCount": ("1", "2"), "MaxCount": ("2", "3"),
    "FromPort": ("22", "-1", "8"), "ToPort": ("22", "-1", "80"), "MaxResults": ("5", "1000"),
    "Name": ("instance-id", "tag:a", "tag-key", "vpc-id", "group-name", "domain", "key-name", "state"),
    "Value": ("*", "?", "x", "i-*"), "Key": ("a", "Name"), "DryRun": ("true", "false"),
    "AvailabilityZone": ("nova", "x:y"), "PrivateIpAddress": ("10.1.0.9", "fe80::1"), "PublicIp": ("203.0.113.5",),
    "PublicKeyMaterial": ("c3NoLXJzYSBBQUFB",), "UserData": ("eA==", "x"), "ClientToken": ("t1", "t2"),
}


class Ec2Maker:
    """Draws signed requests. `keys` are the callers' access keys."""

    def __init__(self, keys: Callable[[], Keys]) -> None:
        self.keys = keys
        names = sorted(ACTIONS)
        kinds = [ACTIONS[name].params for name in names]
        schemas, self.parts = msgspec.json.schema_components(kinds, ref_template="#/{name}")
        self.schemas = dict(zip(names, schemas, strict=True))

    def request(self, draw: Draw, ids: dict[str, list[str]]) -> Request:
        """One request."""
        keys = self.keys()
        name = draw.pick(sorted(ACTIONS))
        pairs = [("Action", name), ("Version", "2016-11-15")]
        # CreateKeyPair makes RSA keys; a thousand of them would be all that is measured.
        pairs += self._fields(draw, self.schemas[name], ids, "", draw.pick((0, 0, 12)))
        if draw.number(0, 19) == 0:
            pairs.append((str(draw.pick(TEXTS)), str(draw.pick(TEXTS))))
        caller = draw.pick(sorted(keys))
        content = urlencode([(k.encode("utf-8", "replace"), v.encode("utf-8", "replace")) for k, v in pairs]).encode()
        request = AWSRequest("POST", f"http://cloud.test{_PATH}", data=content, headers={
            "Content-Type": "application/x-www-form-urlencoded",
        })
        key = keys[caller]
        SigV4Auth(Credentials(key["access"], key["secret"]), "ec2", "RegionOne").add_auth(request)
        headers = {k: str(v) for k, v in request.headers.items()}
        if draw.number(0, 29) == 0:
            headers[draw.pick(("Authorization", "X-Amz-Date"))] = hashlib.sha256(content).hexdigest()
        return Request("POST", _PATH, caller, headers, content)

    def _fields(
        self, draw: Draw, schema: Schema, ids: dict[str, list[str]], before: str, wild: int
    ) -> list[tuple[str, str]]:
        if "$ref" in schema:
            schema = self.parts[schema["$ref"].rsplit("/", 1)[1]]
        found: list[tuple[str, str]] = []
        for name, inner in schema["properties"].items():
            if name in schema.get("required", ()) or draw.number(0, 3) == 0:
                found += self._value(draw, inner, ids, before + name, name, wild)
        return found

    def _value(
        self, draw: Draw, schema: Schema, ids: dict[str, list[str]], place: str, name: str, wild: int
    ) -> list[tuple[str, str]]:
        if wild and draw.number(0, wild) == 0:
            return [(place, str(draw.pick(ODD))[:4000])]
        if "anyOf" in schema:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        if "$ref" in schema:
            return self._fields(draw, schema, ids, place + ".", wild)
        if schema.get("type") == "array":
            count = draw.number(1, 2)
            return [
                pair for at in range(1, count + 1)
                for pair in self._value(draw, schema["items"], ids, f"{place}.{at}", name, wild)
            ]
        if "enum" in schema:
            return [(place, draw.pick(schema["enum"]))]
        return [(place, self._text(draw, ids, name, schema))]

    def _text(self, draw: Draw, ids: dict[str, list[str]], name: str, schema: Schema) -> str:
        if name in _KINDS:
            prefix, kind = _KINDS[name]
            return f"{prefix}-{draw.pick(ids[kind]).replace('-', '')}"
        if name in _WORDS:
            return str(draw.pick(_WORDS[name]))
        if schema.get("type") == "boolean" or "pattern" in schema:
            return "false"
        return str(draw.pick(("a", "1", "default")))
