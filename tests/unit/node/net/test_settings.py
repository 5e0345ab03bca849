from __future__ import annotations

from pathlib import Path

import pytest

from pileus.node.net.names import own_namespace
from pileus.node.net.settings import NetSettings, resolvers


def test_prefix_is_checked() -> None:
    with pytest.raises(ValueError, match="prefix"):
        NetSettings(state_dir=Path("/x"), prefix="a-b")


def test_only_own_namespaces_are_matched() -> None:
    pattern = own_namespace("pil")
    assert pattern.fullmatch("pil-n-01234567-89")
    assert pattern.fullmatch("pil-r-01234567-89")
    for other in ("pil2-n-01234567-89", "pil-x-01234567-89", "a-pil-n-01234567-89", "pil-n-01234567-8901"):
        assert not pattern.fullmatch(other)


def test_resolvers_that_only_the_host_reaches_are_left_out() -> None:
    text = (
        "# x\nsearch a\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n"
        "nameserver fe80::1%eth0\nnameserver ::1\nnameserver fd00::1\n"
    )
    assert resolvers(text) == ("192.0.2.1", "fd00::1")
