"""EC2's ids, made from ours and read back: `i-` and the 32 digits of the server's UUID.

Longer than Amazon's, but one to one without a table: every process and the guest's metadata write the same one, of
anything, however it was made, and no listing has to write. Clients take ids as they come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from pileus.ec2.faults import refused

T = TypeVar("T")

_DIGITS = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Kind(NamedTuple):
    """What has ids: the prefix, and EC2's error codes for an id that is none and one that nothing has."""

    prefix: str
    malformed: str
    missing: str


INSTANCE = Kind("i", "InvalidInstanceID.Malformed", "InvalidInstanceID.NotFound")
IMAGE = Kind("ami", "InvalidAMIID.Malformed", "InvalidAMIID.NotFound")
GROUP = Kind("sg", "InvalidGroupId.Malformed", "InvalidGroup.NotFound")
RULE = Kind("sgr", "InvalidSecurityGroupRuleId.Malformed", "InvalidSecurityGroupRuleId.NotFound")
ADDRESS = Kind("eipalloc", "InvalidAllocationID.Malformed", "InvalidAllocationID.NotFound")
ASSOCIATION = Kind("eipassoc", "InvalidAssociationID.Malformed", "InvalidAssociationID.NotFound")
INTERFACE = Kind("eni", "InvalidNetworkInterfaceID.Malformed", "InvalidNetworkInterfaceID.NotFound")
VPC = Kind("vpc", "InvalidVpcID.Malformed", "InvalidVpcID.NotFound")
SUBNET = Kind("subnet", "InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound")
KEY = Kind("key", "InvalidKeyPair.NotFound", "InvalidKeyPair.NotFound")


def write(kind: Kind, identity: str) -> str:
    """`i-0123…` of a UUID."""
    return f"{kind.prefix}-{identity.replace('-', '')}"


def read(kind: Kind, text: str) -> str:
    """The UUID of an id. Raises BadRequest, as EC2 names it, for what is no id of this kind."""
    prefix, _, digits = text.partition("-")
    if prefix != kind.prefix or not _DIGITS.fullmatch(digits):
        raise refused(kind.malformed, f'Invalid id: "{text[:80]}" (expecting "{kind.prefix}-…" with 32 hexadecimal '
                                      "digits)")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def missing(kind: Kind, text: str) -> Exception:
    """400 for an id that nothing has that the caller may see."""
    return refused(kind.missing, f"The ID '{text[:80]}' does not exist")


def chosen(kind: Kind, named: Sequence[str], there: Mapping[str, T]) -> list[T]:
    """What has these ids, or all of it where none is named. Raises BadRequest for an id that nothing has."""
    for text in named:
        read(kind, text)
        if text not in there:
            raise missing(kind, text)
    return [there[text] for text in dict.fromkeys(named)] if named else list(there.values())


def write_key(number: int) -> str:
    """The id of a key pair, which is a number here."""
    return f"{KEY.prefix}-{number:017x}"
