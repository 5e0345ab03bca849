"""EC2's wire shape of errors, an XML document, and the codes that its clients match on.

The codes are those of the EC2 API Reference, "Error codes". Nearly every refusal is a 400 there, whatever it is here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pileus.ec2 import xml
from pileus.identity import ec2_tokens, signatures
from pileus.web.errors import BadRequest, Forbidden, OverQuota, Problem, Unauthorized, Unavailable

if TYPE_CHECKING:
    from pileus.ec2.schemas import Params
    from pileus.web.call import Call

_BY_CLASS: tuple[tuple[type[Problem], str], ...] = (
    (signatures.Mismatch, "SignatureDoesNotMatch"), (signatures.Expired, "RequestExpired"),
    (signatures.Malformed, "IncompleteSignature"), (ec2_tokens.Unknown, "AuthFailure"), (Unauthorized, "AuthFailure"),
    (OverQuota, "ResourceLimitExceeded"), (Forbidden, "UnauthorizedOperation"), (Unavailable, "Unavailable"),
)
_BY_STATUS = {
    400: "InvalidParameterValue", 404: "InvalidParameterValue", 405: "InvalidAction", 409: "IncorrectState",
    412: "DryRunOperation", 413: "RequestEntityTooLarge", 415: "InvalidParameterValue", 500: "InternalError",
    503: "Unavailable",
}
_BY_TYPE = {
    "OverQuota": "ResourceLimitExceeded", "SecurityGroupNotFound": "InvalidGroup.NotFound",
    "SecurityGroupInUse": "DependencyViolation", "SecurityGroupCannotRemoveDefault": "CannotDelete",
    "SecurityGroupDefaultAlreadyExists": "InvalidGroup.Reserved", "SecurityGroupRuleExists":
    "InvalidPermission.Duplicate", "SecurityGroupRuleNotFound": "InvalidPermission.NotFound",
    "IpAddressGenerationFailure": "InsufficientAddressCapacity", "FloatingIPPortAlreadyAssociated":
    "Resource.AlreadyAssociated", "ExternalGatewayForFloatingIPNotFound": "Gateway.NotAttached",
    "IpAddressInUse": "InvalidIPAddress.InUse", "IpAddressAlreadyAllocated": "InvalidIPAddress.InUse",
}
"""What the network service calls it, and what EC2 does."""

_STATUSES: dict[str, type[Problem]] = {
    "AuthFailure": Unauthorized, "UnauthorizedOperation": Forbidden, "SignatureDoesNotMatch": Forbidden,
}


class DryRun(BadRequest):
    """What a request that was only to be tried ends in when it would have worked; its transaction is undone."""

    status = 412


def refused(code: str, message: str) -> BadRequest:
    """400 with a code of EC2's."""
    return BadRequest(message, ec2=code)


def tried(params: Params) -> None:
    """Raises DryRun, at the end of the work, where it was only to be tried."""
    if params.dry_run:
        raise DryRun("Request would have succeeded, but DryRun flag is set.", ec2="DryRunOperation")


def code_of(problem: Problem) -> str:
    """EC2's code for an error of whatever room."""
    if isinstance(own := problem.details.get("ec2"), str):
        return own
    if (known := _BY_TYPE.get(str(problem.details.get("type")))) is not None:
        return known
    for kind, code in _BY_CLASS:
        if isinstance(problem, kind):
            return code
    return _BY_STATUS.get(problem.status, "InvalidParameterValue")


def translated(problem: Problem) -> Problem:
    """An error of whatever room as EC2 answers it: with its code, and nearly always with 400."""
    if problem.status >= 500 or problem.status in (412, 413):
        return problem
    code = code_of(problem)
    return _STATUSES.get(code, BadRequest)(problem.message, ec2=code)


def render(problem: Problem, call: Call | None) -> tuple[Any, dict[str, str]]:
    """The body of an error and its headers."""
    error = {"Code": code_of(problem), "Message": problem.message}
    body = xml.document("Response", {
        "Errors": {"Error": error}, "RequestID": call.request_id if call is not None else "",
    })
    return body, {"Content-Type": xml.MEDIA}
