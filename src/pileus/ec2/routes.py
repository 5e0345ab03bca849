"""The EC2 API's places: one, by two names. What can be asked there stands in `actions`."""

from __future__ import annotations

from pileus.ec2.actions import act
from pileus.web.routes import PUBLIC, Route

_FORM = ("application/x-www-form-urlencoded",)
_KB = 1024

# "Public" is what the kernel may let in without a token: a request here is signed, which the handler checks.
ROUTES = tuple(
    Route(method, path, act, PUBLIC, raw=method == "POST", media=_FORM, max_body=256 * _KB)
    for path in ("/", "/services/Cloud") for method in ("GET", "POST")
)
