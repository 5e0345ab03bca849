"""Regions, from the catalog, and compute's availability zones."""

from __future__ import annotations

from typing import Any

from pileus.compute import availability_zones
from pileus.ec2 import filters
from pileus.ec2.faults import refused
from pileus.ec2.filters import Known
from pileus.ec2.schemas import DescribeAvailabilityZones, DescribeRegions
from pileus.identity import catalog
from pileus.web.call import Call

_REGION: Known[tuple[str, str]] = {
    "region-name": lambda one: [one[0]], "endpoint": lambda one: [one[1]],
}
_ZONE: Known[tuple[str, str]] = {
    "zone-name": lambda one: [one[0]], "state": lambda one: [one[1]],
}


def describe_regions(call: Call, params: DescribeRegions) -> dict[str, Any]:
    """DescribeRegions: those in which the catalog has an EC2 endpoint."""
    services = catalog.catalog(call.tx, call.context.project_id, call.context.user_id)
    found = {
        endpoint["region_id"]: endpoint["url"].partition("://")[2]
        for service in services if service["type"] == "ec2"
        for endpoint in service["endpoints"] if endpoint["interface"] == "public" and endpoint["region_id"]
    }
    for name in params.region_name:
        if name not in found:
            raise refused("InvalidParameterValue", f"Invalid region name: {name}")
    wanted = params.region_name or sorted(found)
    rows = filters.select([(name, found[name]) for name in wanted], params.filter, _REGION)
    return {"regionInfo": [
        {"regionName": name, "regionEndpoint": place, "optInStatus": "opt-in-not-required"} for name, place in rows
    ]}


def describe_zones(call: Call, params: DescribeAvailabilityZones) -> dict[str, Any]:
    """DescribeAvailabilityZones."""
    call.enforce("os_compute_api:os-availability-zone:list", project_id=call.context.project_id)
    found = {
        name: "available" if good else "unavailable" for name, good in availability_zones.states(call).items()
    }
    for name in params.zone_name:
        if name not in found:
            raise refused("InvalidParameterValue", f"Invalid availability zone: [{name}]")
    wanted = params.zone_name or sorted(found)
    rows = filters.select([(name, found[name]) for name in wanted], params.filter, _ZONE)
    return {"availabilityZoneInfo": [
        {
            "zoneName": name, "zoneState": state, "regionName": call.cloud.settings.region,
            "zoneType": "availability-zone", "messageSet": [],
        }
        for name, state in rows
    ]}
