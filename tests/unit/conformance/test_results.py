from __future__ import annotations

import pytest

from tests.conformance.results import Event, Outcome, headline, judge, report, service_of
from tests.conformance.selection import Selection

TRACEBACK = """pythonlogging:'': {{{
2026-01-01 00:00:00 INFO [client] Request: 404 GET http://127.0.0.1/compute
}}}
Traceback (most recent call last):
  File "tempest/api/compute/test_versions.py", line 1, in test_list
    raise exceptions.NotFound(resp_body, resp=resp)
tempest.lib.exceptions.NotFound: Object not found
Details: {'code': 404, 'message': 'no such server'}
"""


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("tempest.api.compute.test_versions.TestVersions.test_list", "compute"),
        ("tempest.api.object_storage.test_object.ObjectTest.test_put", "object_storage"),
        ("tempest.serial_tests.api.compute.admin.test_aggregates.Aggregates.test_add", "compute"),
        ("tempest.scenario.test_network_basic_ops.TestNetworkBasicOps.test_hotplug_nic", "scenario"),
        ("tempest.serial_tests.scenario.test_aggregates.Aggregates.test_boot", "scenario"),
        ("neutron_tempest_plugin.api.test_trunk.TrunkTest.test_create", "other"),
    ],
)
def test_service(name: str, service: str) -> None:
    assert service_of(name) == service


def test_every_chosen_test_is_counted_once() -> None:
    selection = Selection(
        tests=("tempest.api.compute.a.A.ok[id-1]", "tempest.api.compute.a.A.bad[id-2]", "tempest.api.image.b.B.skipped",
               "tempest.api.image.c.C.first", "tempest.api.image.c.C.second", "tempest.api.network.d.D.off",
               "tempest.api.network.e.E.lost", "tempest.api.network.f.F.hung"),
        missing=("tempest.api.identity.g.G.gone",),
    )
    events = [
        Event("tempest.api.compute.a.A.ok[id-1]", "success", ""),
        Event("tempest.api.compute.a.A.bad[id-2]", "fail", TRACEBACK),
        Event("tempest.api.image.b.B.skipped", "skip", "not today"),
        Event("setUpClass (tempest.api.image.c.C)", "fail", "no network"),
        Event("setUpClass (tempest.api.network.d.D)", "skip", "feature is off"),
        Event("tempest.api.network.f.F.hung", "inprogress", ""),
        Event("tearDownClass (tempest.api.compute.a.A)", "fail", "left a server behind"),
    ]
    assert judge(selection, events) == [
        Outcome("tempest.api.compute.a.A.ok", "passed", ""),
        Outcome("tempest.api.compute.a.A.bad", "failed", TRACEBACK),
        Outcome("tempest.api.image.b.B.skipped", "skipped", "not today"),
        Outcome("tempest.api.image.c.C.first", "failed", "setUpClass: no network"),
        Outcome("tempest.api.image.c.C.second", "failed", "setUpClass: no network"),
        Outcome("tempest.api.network.d.D.off", "skipped", "setUpClass: feature is off"),
        Outcome("tempest.api.network.e.E.lost", "failed", "no result: the run ended before it"),
        Outcome("tempest.api.network.f.F.hung", "failed", "ended as 'inprogress'"),
        Outcome("tempest.api.identity.g.G.gone", "failed", "missing: Tempest has no test of this name"),
        Outcome("tearDownClass (tempest.api.compute.a.A)", "failed", "left a server behind"),
    ]


def test_headline_is_the_exception_and_its_details() -> None:
    assert headline(TRACEBACK) == (
        "tempest.lib.exceptions.NotFound: Object not found Details: {'code': 404, 'message': 'no such server'}"
    )
    assert headline("") == "no reason given"
    assert headline("not today") == "not today"


def test_report_closes_with_the_count() -> None:
    text = report([
        Outcome("tempest.api.compute.a.A.ok", "passed", ""),
        Outcome("tempest.api.image.b.B.skipped", "skipped", "not today"),
        Outcome("tearDownClass (tempest.api.image.b.B)", "failed", "left an image"),
    ])
    assert text.splitlines() == [
        "service           passed  failed  skipped",
        "image                  0       1        1",
        "compute                1       0        0",
        "",
        "failed:",
        "  tearDownClass (tempest.api.image.b.B): left an image",
        "",
        "skipped:",
        "  tempest.api.image.b.B.skipped: not today",
        "",
        "1 passed, 1 failed, 1 skipped",
    ]
