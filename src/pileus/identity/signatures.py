"""Signatures of requests as EC2 and its clients make them: versions 2 and 4.

AWS's reference says how: "Signature Version 4 signing process" and, for the older one, the EC2 API Reference's "Query
Requests". A signature counts for a quarter of an hour (OSSA-2020-003), however long its maker wanted; all that a
request says must be signed: the method, the host, the path, every parameter, the body.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
from email.utils import parsedate_tz
from urllib.parse import quote

import msgspec

from pileus.web.errors import BadRequest, Unauthorized
from pileus.world import parse_iso

LIFETIME = 900.0
"""Seconds for which a signature counts, and by which its maker's clock may be wrong."""

V4 = "AWS4-HMAC-SHA256"
_HEADER = re.compile(rf"{V4}\s+(.*)", re.DOTALL)
_ISO = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_END = "aws4_request"


class Malformed(BadRequest):
    """A signature that lacks a part, or has one that cannot be read."""


class Mismatch(Unauthorized):
    """A signature that another secret made, or that was made for another request."""


class Expired(Unauthorized):
    """A right signature that is too old, or from the future."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its server received it."""

    verb: str
    host: str  # with the port, if the client wrote one
    path: str  # whole, percent-encoded as it was sent
    params: list[tuple[str, str]]  # of the query, decoded
    form: list[tuple[str, str]] = []  # of the body, which version 2 signs in its own way
    headers: dict[str, str]  # names in lower case
    body_hash: str  # SHA-256 in hex


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Who says that he signed, when, and what the signature must then be of."""

    access: str
    signature: str
    begin: float  # when it begins and ends to count, in seconds since the epoch
    end: float
    texts: tuple[str, ...]  # what was signed is one of these
    scope: tuple[str, ...] = ()  # version 4: date, region, service, "aws4_request"


def read(request: Request) -> Claim:
    """What a request's signature claims. Raises Malformed."""
    params, header = dict(request.params), request.headers.get("authorization", "")
    old = dict(request.params + request.form)
    ways = [bool(header), "X-Amz-Algorithm" in params, "SignatureVersion" in old or "AWSAccessKeyId" in old]
    if sum(ways) > 1:
        raise Malformed("The request is signed in more than one way; sign it once.")
    if ways[0]:
        return _in_header(request, header)
    if ways[1]:
        return _presigned(request, params)
    if ways[2]:
        return _version_2(request, old)
    raise Malformed("The request is not signed: sign it with version 4 (Authorization or X-Amz-Signature), or 2.")


def check(claim: Claim, secret: str, now: float) -> None:
    """Raises Mismatch unless the secret made the signature, then Expired unless it counts now."""
    wanted = [_sign(claim, secret, text) for text in claim.texts]
    right = [hmac.compare_digest(one.encode(), claim.signature.encode("utf-8", "replace")) for one in wanted]
    if not any(right):
        raise Mismatch("The signature does not match: check the secret key, and how the request is signed.")
    if not claim.begin - LIFETIME <= now <= claim.end:
        raise Expired("The request has expired, or is from the future: a signature counts for 15 minutes.")


def _sign(claim: Claim, secret: str, text: str) -> str:
    if not claim.scope:
        return base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
    key = f"AWS4{secret}".encode()
    for part in claim.scope:
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def string_claim(access: str, signature: str, text: str) -> Claim:
    """The claim of a version 4 string-to-sign, as S3's servers send it to identity. Raises Malformed."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[0] != V4:
        raise Malformed(f"The string that was signed must be one of version 4: {V4}, time, scope, digest.")
    begin = _basic_time(lines[1])
    return Claim(access=access, signature=signature, begin=begin, end=begin + LIFETIME, texts=(text,),
                 scope=_scope(lines[2].split("/"), lines[1]))


# -- version 4


def _presigned(request: Request, params: dict[str, str]) -> Claim:
    for name in ("X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Expires"):
        if not params.get(name):
            raise Malformed(f"The signature lacks {name}.")
    if params["X-Amz-Algorithm"] != V4:
        raise Malformed(f"X-Amz-Algorithm must be {V4}.")
    expires = params["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", expires):
        raise Malformed("X-Amz-Expires must be a number of seconds.")
    kept = [(name, value) for name, value in request.params if name != "X-Amz-Signature"]
    return _version_4(
        request, kept, params["X-Amz-Credential"], params["X-Amz-SignedHeaders"], params["X-Amz-Signature"],
        params["X-Amz-Date"], _basic_time(params["X-Amz-Date"]), min(float(expires), LIFETIME),
    )


def _in_header(request: Request, header: str) -> Claim:
    found = _HEADER.fullmatch(header.strip())
    if found is None:
        raise Malformed(f"The Authorization header must begin with {V4}.")
    parts = dict(part.strip().partition("=")[::2] for part in found[1].split(","))
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not parts.get(name):
            raise Malformed(f"The Authorization header lacks {name}.")
    source = "x-amz-date" if "x-amz-date" in request.headers else "date"
    text = request.headers.get(source, "")
    if source not in parts["SignedHeaders"].split(";"):
        raise Malformed("The time must be signed: send X-Amz-Date, and name it among the signed headers.")
    if source == "date" and not _ISO.fullmatch(text):
        text = _rfc_time(text)
    return _version_4(request, request.params, parts["Credential"], parts["SignedHeaders"], parts["Signature"], text,
                      _basic_time(text), LIFETIME)


def _version_4(
    request: Request, params: list[tuple[str, str]], credential: str, names: str, signature: str, stamp: str,
    begin: float, lifetime: float,
) -> Claim:
    access, *scope = credential.split("/")
    headers = names.split(";")
    _check_headers(request, headers)
    lines = [f"{name}:{' '.join(request.headers[name].split())}\n" for name in headers]
    canonical = "\n".join((
        request.verb, quote(request.path or "/", safe="/~"), _query(params), "".join(lines), names, request.body_hash,
    ))
    kept = _scope(scope, stamp)
    digest = hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
    text = "\n".join((V4, stamp, "/".join(kept), digest))
    return Claim(access=access, signature=signature, begin=begin, end=begin + lifetime, texts=(text,), scope=kept)


def _check_headers(request: Request, names: list[str]) -> None:
    """What the request says in headers must be signed, and what is signed must be there."""
    if "host" not in names:
        raise Malformed("The host must be among the signed headers.")
    for name in names:
        if name not in request.headers:
            raise Malformed(f"The signed header '{name[:64]}' is not in the request.")
    for name in request.headers:
        if name.startswith("x-amz-") and name not in names:
            raise Malformed(f"The header {name} must be signed.")


def _scope(parts: list[str], stamp: str) -> tuple[str, ...]:
    if len(parts) != 4 or parts[3] != _END or parts[0] != stamp[:8]:
        raise Malformed(f"The credential's scope must be DATE/REGION/SERVICE/{_END}, of the signature's day.")
    return tuple(parts)


def _query(params: list[tuple[str, str]]) -> str:
    coded = sorted((_quoted(name), _quoted(value)) for name, value in params)
    return "&".join(f"{name}={value}" for name, value in coded)


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


# -- version 2


def _version_2(request: Request, params: dict[str, str]) -> Claim:
    for name in ("AWSAccessKeyId", "Signature"):
        if not params.get(name):
            raise Malformed(f"The signature lacks {name}.")
    if params.get("SignatureVersion") != "2" or params.get("SignatureMethod") != "HmacSHA256":
        raise Malformed("SignatureVersion must be 2 and SignatureMethod HmacSHA256; or sign with version 4.")
    begin, end = _window(params)
    query = _query([(name, value) for name, value in request.params + request.form if name != "Signature"])
    # Some clients sign the host without its port.
    hosts = dict.fromkeys((request.host.lower(), re.sub(r":[0-9]+$", "", request.host.lower())))
    return Claim(
        access=params["AWSAccessKeyId"], signature=params["Signature"], begin=begin, end=end,
        texts=tuple("\n".join((request.verb, host, request.path or "/", query)) for host in hosts),
    )


def _window(params: dict[str, str]) -> tuple[float, float]:
    """When a signature of version 2 counts: from its Timestamp, or up to Expires, which may not be far off."""
    if ("Timestamp" in params) == ("Expires" in params):
        raise Malformed("The signature needs either Timestamp or Expires.")
    text = params.get("Timestamp") or params.get("Expires") or ""
    try:
        moment = parse_iso(text)
    except (ValueError, OverflowError):
        raise Malformed("Timestamp and Expires are times in ISO 8601, such as 2026-01-31T12:00:00Z.") from None
    return (moment, moment + LIFETIME) if "Timestamp" in params else (moment, moment)


# -- times


def _basic_time(text: str) -> float:
    """Seconds since the epoch of `20260131T120000Z`."""
    try:
        if not _ISO.fullmatch(text):
            raise ValueError
        return float(calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ")))
    except ValueError:
        raise Malformed("The signature's time must read like 20260131T120000Z.") from None


def _rfc_time(text: str) -> str:
    """A Date header as `20260131T120000Z`, which is how it is signed."""
    found = parsedate_tz(text)
    try:
        if found is None:
            raise ValueError
        return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(calendar.timegm((*found[:6], 0, 0, 0)) - (found[9] or 0)))
    except (ValueError, OverflowError):
        raise Malformed("The Date header is no time.") from None
