"""From `Filter.1.Value.2=x` to structs, and to XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pileus.ec2 import forms, ids, xml
from pileus.ec2.schemas import DescribeInstances, RunInstances
from pileus.web.errors import BadRequest

RUN = {"ImageId": "ami-1", "MinCount": "1", "MaxCount": "2"}


def test_numbered_parts_are_lists_in_their_order() -> None:
    found = forms.decode(DescribeInstances, {
        "InstanceId.10": "j", "InstanceId.2": "b", "Filter.1.Name": "n", "Filter.1.Value.1": "v", "DryRun": "true",
    })
    assert found.instance_id == ["b", "j"]
    assert (found.filter[0].name, found.filter[0].value) == ("n", ["v"])
    assert found.dry_run is True


def test_parts_by_name() -> None:
    found = forms.decode(RunInstances, {**RUN, "Placement.AvailabilityZone": "nova", "Monitoring.Enabled": "false"})
    assert (found.placement.availability_zone, found.min_count, found.max_count) == ("nova", 1, 2)


@pytest.mark.parametrize(("given", "code"), [
    ({"ImageId": "ami-1"}, "MissingParameter"), ({**RUN, "Colour": "red"}, "UnknownParameter"),
    ({**RUN, "Placement.Colour": "red"}, "UnknownParameter"), ({**RUN, "MinCount": "x"}, "InvalidParameterValue"),
    ({**RUN, "ImageId.1": "x"}, "MalformedQueryString"), ({**RUN, "EbsOptimized": "true"}, "InvalidParameterValue"),
    ({**RUN, "EbsOptimized": "false\n"}, "InvalidParameterValue"), ({**RUN, "Placement": "x"}, "InvalidParameterValue"),
    ({**RUN, "": "x"}, "UnknownParameter"), ({**RUN, "SecurityGroup.x": "x"}, "InvalidParameterValue"),
])
def test_what_cannot_be(given: dict[str, str], code: str) -> None:
    with pytest.raises(BadRequest) as info:
        forms.decode(RunInstances, given)
    assert info.value.details["ec2"] == code


def test_an_answer_is_xml_whatever_is_in_it() -> None:
    content: dict[str, Any] = {
        "text": "a&<b>\r\x00\ud800]]>", "none": None, "yes": True, "list": [{"n": 1}, "two"], "empty": [],
    }
    root = ET.fromstring(xml.document("R", content, "http://x/"))
    found = {child.tag.removeprefix("{http://x/}"): child for child in root}
    assert found["text"].text == "a&<b>\r\ufffd\ufffd]]>"
    assert found["yes"].text == "true"
    assert [item.tag for item in found["list"]] == ["{http://x/}item"] * 2
    assert "none" not in found
    assert list(found["empty"]) == []


def test_ids_are_read_as_they_are_written() -> None:
    uuid = "ec1e58e4-57f4-4429-8423-a44891a098e3"
    assert ids.read(ids.INSTANCE, ids.write(ids.INSTANCE, uuid)) == uuid
    for wrong in ("", "i", "i-", "i-1", "ami-" + "0" * 32, "i-" + "0" * 33, "i-" + "G" * 32, "i-" + "\u0663" * 32,
                  "i-" + "0" * 32 + "\n", " i-" + "0" * 32, "I-" + "0" * 32, "i-" + "A" * 32):
        with pytest.raises(BadRequest) as info:
            ids.read(ids.INSTANCE, wrong)
        assert info.value.details["ec2"] == "InvalidInstanceID.Malformed"
