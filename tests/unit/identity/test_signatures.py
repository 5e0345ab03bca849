"""Signatures, by the example that AWS's own documentation works out, and by those of botocore."""

from __future__ import annotations

import calendar

import pytest

from pileus.identity import signatures
from pileus.identity.signatures import Expired, Malformed, Mismatch, Request

# "Examples of the complete Signature Version 4 signing process", AWS General Reference.
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
EXAMPLE = Request(
    verb="GET", host="iam.amazonaws.com", path="/", params=[("Action", "ListUsers"), ("Version", "2010-05-08")],
    headers={
        "content-type": "application/x-www-form-urlencoded; charset=utf-8", "host": "iam.amazonaws.com",
        "x-amz-date": "20150830T123600Z", "authorization":
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    },
    body_hash=EMPTY,
)
THEN = calendar.timegm((2015, 8, 30, 12, 36, 0, 0, 0, 0))


def test_the_documented_example() -> None:
    claim = signatures.read(EXAMPLE)
    assert claim.access == "AKIDEXAMPLE"
    assert claim.scope == ("20150830", "us-east-1", "iam", "aws4_request")
    signatures.check(claim, SECRET, THEN)


@pytest.mark.parametrize(("secret", "moment", "error"), [
    ("other", 0, Mismatch), ("", 0, Mismatch), (SECRET, 901, Expired), (SECRET, -901, Expired),
    ("other", 901, Mismatch),
])
def test_what_does_not_count(secret: str, moment: float, error: type[Exception]) -> None:
    claim = signatures.read(EXAMPLE)
    with pytest.raises(error):
        signatures.check(claim, secret, THEN + moment)


def test_a_date_header_does_as_well() -> None:
    """Its time is signed in the basic form, so that the signature is another, but the claim can be read."""
    headers = {k: v for k, v in EXAMPLE.headers.items() if k != "x-amz-date"}
    headers["authorization"] = headers["authorization"].replace("x-amz-date", "date")
    request = Request(
        verb="GET", host="h", path="/", params=[], body_hash=EMPTY,
        headers={**headers, "date": "Sun, 30 Aug 2015 12:36:00 GMT"},
    )
    assert signatures.read(request).begin == THEN
    with pytest.raises(Malformed):
        signatures.read(Request(verb="GET", host="h", path="/", params=[], body_hash=EMPTY,
                                headers={**headers, "date": "some day"}))


def test_nothing_is_signed_twice() -> None:
    with pytest.raises(Malformed):
        signatures.read(Request(
            verb="GET", host="h", path="/", params=[("AWSAccessKeyId", "x")], headers=EXAMPLE.headers, body_hash=EMPTY,
        ))


@pytest.mark.parametrize("text", ["", "x", "AWS4-HMAC-SHA256\n20150830T123600Z\na/b/c/d\nx",
                                  "AWS4-HMAC-SHA256\n20150831T123600Z\n20150830/r/s3/aws4_request\nx",
                                  "AWS4-HMAC-SHA256\nnow\n20150830/r/s3/aws4_request\nx"])
def test_strings_that_nobody_signs(text: str) -> None:
    with pytest.raises(Malformed):
        signatures.string_claim("a", "b", text)
