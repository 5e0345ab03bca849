"""Nodes are not taken for down after an outage of the database in which nobody could write that they were heard."""

from __future__ import annotations

import pytest

from pileus.cloud import Cloud
from pileus.cluster.liveness import moment
from pileus.node.contract import DEAD_AFTER


def test_an_outage_that_has_just_ended_does_not_count(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud.world, "now", lambda: 1000.0)
    assert moment(cloud) == 1000.0
    asked: list[float] = []

    def missed(within: float) -> float:
        asked.append(within)
        return 40.0

    monkeypatch.setattr(cloud.db, "missed", missed)
    assert moment(cloud) == 960.0
    assert asked == [DEAD_AFTER]
