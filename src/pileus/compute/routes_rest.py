"""Compute without servers: the whole API on one screen."""

from __future__ import annotations

from typing import Any

from pileus.compute import (
    aggregates,
    availability_zones,
    extensions,
    external_events,
    extra_specs,
    flavor_access,
    flavors,
    floating_ips,
    hosts,
    hypervisor_uptime,
    hypervisors,
    images,
    keypairs,
    limits,
    migrations,
    networks,
    quotas,
    security_groups,
    server_groups,
    services,
    tenant_usage,
    usage_audit,
    volume_proxies,
)
from pileus.compute import schemas_rest as s
from pileus.compute import schemas_volumes as v
from pileus.web.routes import ANY_VERSION, AUTHENTICATED, Handler, Route
from pileus.web.schemas import Query
from pileus.web.versions import Version

_V = "/v2.1"
_P = "os_compute_api:"
_PROXY: Version = (2, 35)
"""The last version that has proxies of other services."""


def _get(
    path: str, handler: Handler, rule: str, query: type[Query] = s.NoQuery, *,
    since: Version = (0, 0), until: Version = ANY_VERSION, method: str = "GET", status: int = 200, **more: Any,
) -> tuple[Route, ...]:
    """Rows that ignore unknown query parameters up to 2.74 and refuse them from 2.75 on."""
    rows = []
    if since < (2, 75):
        old = min(until, (2, 74))
        rows.append(Route(method, _V + path, handler, rule, status, query=query, since=since, until=old, **more))
    if until > (2, 74):
        new = max(since, (2, 75))
        rows.append(Route(
            method, _V + path, handler, rule, status, query=s.strict(query), since=new, until=until, **more
        ))
    return tuple(rows)


def _do(method: str, path: str, handler: Handler, rule: str, status: int = 200, **more: Any) -> Route:
    return Route(method, _V + path, handler, rule, status, **more)


_FLAVORS = (
    *_get("/flavors", flavors.index, AUTHENTICATED, s.FlavorQuery),
    *_get("/flavors/detail", flavors.detail, AUTHENTICATED, s.FlavorQuery),
    _do("GET", "/flavors/{flavor_id}", flavors.show, AUTHENTICATED),
    _do("POST", "/flavors", flavors.create, _P + "os-flavor-manage:create", body=s.FlavorNewBody),
    _do("PUT", "/flavors/{flavor_id}", flavors.update, _P + "os-flavor-manage:update", body=s.FlavorChangeBody,
        since=(2, 55)),
    _do("DELETE", "/flavors/{flavor_id}", flavors.delete, _P + "os-flavor-manage:delete", 202),
    _do("GET", "/flavors/{flavor_id}/os-extra_specs", extra_specs.index, _P + "os-flavor-extra-specs:index"),
    _do("POST", "/flavors/{flavor_id}/os-extra_specs", extra_specs.create, _P + "os-flavor-extra-specs:create",
        body=s.SpecsBody),
    _do("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", extra_specs.show, _P + "os-flavor-extra-specs:show"),
    _do("PUT", "/flavors/{flavor_id}/os-extra_specs/{key}", extra_specs.update, _P + "os-flavor-extra-specs:update",
        body=s.Specs),
    _do("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", extra_specs.delete,
        _P + "os-flavor-extra-specs:delete"),
    _do("GET", "/flavors/{flavor_id}/os-flavor-access", flavor_access.index, _P + "os-flavor-access"),
    _do("POST", "/flavors/{flavor_id}/action", flavor_access.act, _P + "os-flavor-access", body=s.FlavorAction),
)

_KEYS = "/os-keypairs"
_KEYPAIRS = (
    _do("GET", _KEYS, keypairs.index, AUTHENTICATED, until=(2, 9)),
    *_get(_KEYS, keypairs.index, AUTHENTICATED, s.KeypairUser, since=(2, 10), until=(2, 34)),
    *_get(_KEYS, keypairs.index, AUTHENTICATED, s.KeypairQuery, since=(2, 35)),
    _do("POST", _KEYS, keypairs.create, AUTHENTICATED, body=s.KeypairNewBody, until=(2, 1)),
    _do("POST", _KEYS, keypairs.create, AUTHENTICATED, 201, body=s.KeypairNewBody, since=(2, 2)),
    _do("GET", _KEYS + "/{name}", keypairs.show, AUTHENTICATED, until=(2, 9)),
    *_get(_KEYS + "/{name}", keypairs.show, AUTHENTICATED, s.KeypairUser, since=(2, 10)),
    _do("DELETE", _KEYS + "/{name}", keypairs.delete, AUTHENTICATED, 202, until=(2, 1)),
    _do("DELETE", _KEYS + "/{name}", keypairs.delete, AUTHENTICATED, 204, since=(2, 2), until=(2, 9)),
    *_get(_KEYS + "/{name}", keypairs.delete, AUTHENTICATED, s.KeypairUser, since=(2, 10), method="DELETE",
          status=204),
)

_GROUP = "/os-server-groups/{group_id}"
_SETS = "/os-quota-sets/{project_id}"
_PROJECTS = (
    *_get("/os-server-groups", server_groups.index, _P + "os-server-groups:index", s.GroupQuery),
    _do("POST", "/os-server-groups", server_groups.create, _P + "os-server-groups:create", body=s.GroupNewBody),
    _do("GET", _GROUP, server_groups.show, AUTHENTICATED),
    _do("DELETE", _GROUP, server_groups.delete, AUTHENTICATED, 204),
    *_get("/limits", limits.index, _P + "limits", s.LimitsQuery),
    *_get(_SETS, quotas.show, AUTHENTICATED, s.UserQuery),
    *_get(_SETS + "/detail", quotas.detail, AUTHENTICATED, s.UserQuery),
    _do("GET", _SETS + "/defaults", quotas.show_defaults, _P + "os-quota-sets:defaults"),
    *_get(_SETS, quotas.update, _P + "os-quota-sets:update", s.UserQuery, method="PUT", body=s.QuotaChangeBody),
    *_get(_SETS, quotas.delete, _P + "os-quota-sets:delete", s.UserQuery, method="DELETE", status=202),
    _do("GET", "/os-quota-class-sets/{name}", quotas.show_class, _P + "os-quota-class-sets:show"),
    _do("PUT", "/os-quota-class-sets/{name}", quotas.update_class, _P + "os-quota-class-sets:update",
        body=s.QuotaClassChangeBody),
    *_get("/os-simple-tenant-usage", tenant_usage.index, _P + "os-simple-tenant-usage:list", s.UsageQuery),
    *_get("/os-simple-tenant-usage/{project_id}", tenant_usage.show, AUTHENTICATED, s.UsageQuery),
)

_SERVICE = "/os-services/{service_id}"
_HYPER = "/os-hypervisors"
_H = _P + "os-hypervisors:"
_CLOUD = (
    *_get("/os-services", services.index, _P + "os-services:list", s.ServiceQuery),
    _do("PUT", _SERVICE, services.update_old, _P + "os-services:update", body=s.ServiceOldChange, until=(2, 52)),
    _do("PUT", _SERVICE, services.update, _P + "os-services:update", body=s.ServiceChange, since=(2, 53)),
    _do("DELETE", _SERVICE, services.delete, _P + "os-services:delete", 204),
    _do("GET", _HYPER, hypervisors.index, _H + "list", until=(2, 32)),
    *_get(_HYPER, hypervisors.index, _H + "list", s.Paged, since=(2, 33), until=(2, 52)),
    *_get(_HYPER, hypervisors.index, _H + "list", s.HypervisorQuery, since=(2, 53)),
    _do("GET", _HYPER + "/detail", hypervisors.detail, _H + "list-detail", until=(2, 32)),
    *_get(_HYPER + "/detail", hypervisors.detail, _H + "list-detail", s.Paged, since=(2, 33), until=(2, 52)),
    *_get(_HYPER + "/detail", hypervisors.detail, _H + "list-detail", s.HypervisorQuery, since=(2, 53),
          until=(2, 87)),
    *_get(_HYPER + "/detail", hypervisor_uptime.detail, _H + "list-detail", s.HypervisorQuery, since=(2, 88)),
    _do("GET", _HYPER + "/statistics", hypervisors.statistics, _H + "statistics", until=(2, 87)),
    _do("GET", _HYPER + "/{hypervisor_id}", hypervisors.show, _H + "show", until=(2, 52)),
    *_get(_HYPER + "/{hypervisor_id}", hypervisors.show, _H + "show", s.HypervisorOne, since=(2, 53), until=(2, 87)),
    *_get(_HYPER + "/{hypervisor_id}", hypervisor_uptime.show, _H + "show", s.HypervisorOne, since=(2, 88)),
    _do("GET", _HYPER + "/{hypervisor_id}/uptime", hypervisor_uptime.uptime, _H + "uptime", until=(2, 87)),
    _do("GET", _HYPER + "/{hypervisor_id}/search", hypervisors.search, _H + "search", until=(2, 52)),
    _do("GET", _HYPER + "/{hypervisor_id}/servers", hypervisors.servers, _H + "servers", until=(2, 52)),
    _do("GET", "/os-aggregates", aggregates.index, _P + "os-aggregates:index"),
    _do("POST", "/os-aggregates", aggregates.create, _P + "os-aggregates:create", body=s.AggregateNewBody),
    _do("GET", "/os-aggregates/{aggregate_id}", aggregates.show, _P + "os-aggregates:show"),
    _do("PUT", "/os-aggregates/{aggregate_id}", aggregates.update, _P + "os-aggregates:update",
        body=s.AggregateChangeBody),
    _do("DELETE", "/os-aggregates/{aggregate_id}", aggregates.delete, _P + "os-aggregates:delete"),
    _do("POST", "/os-aggregates/{aggregate_id}/action", aggregates.act, AUTHENTICATED, body=s.AggregateAction),
    _do("POST", "/os-aggregates/{aggregate_id}/images", aggregates.cache_images, "compute:aggregates:images",
        body=s.CacheBody, since=(2, 81)),
    _do("GET", "/os-availability-zone", availability_zones.index, _P + "os-availability-zone:list"),
    _do("GET", "/os-availability-zone/detail", availability_zones.detail, _P + "os-availability-zone:detail"),
    *_get("/os-hosts", hosts.index, _P + "os-hosts:list", s.HostQuery, until=(2, 42)),
    _do("GET", "/os-hosts/{host}", hosts.show, _P + "os-hosts:show", until=(2, 42)),
    _do("PUT", "/os-hosts/{host}", hosts.update, _P + "os-hosts:update", body=s.HostChange, until=(2, 42)),
    _do("GET", "/os-hosts/{host}/startup", hosts.power, _P + "os-hosts:start", until=(2, 42)),
    _do("GET", "/os-hosts/{host}/shutdown", hosts.power, _P + "os-hosts:shutdown", until=(2, 42)),
    _do("GET", "/os-hosts/{host}/reboot", hosts.power, _P + "os-hosts:reboot", until=(2, 42)),
    *_get("/os-migrations", migrations.index, _P + "os-migrations:index", s.MigrationQuery, until=(2, 58)),
    *_get("/os-migrations", migrations.index, _P + "os-migrations:index", s.MigrationQuery59, since=(2, 59),
          until=(2, 65)),
    *_get("/os-migrations", migrations.index, _P + "os-migrations:index", s.MigrationQuery66, since=(2, 66),
          until=(2, 79)),
    *_get("/os-migrations", migrations.index, _P + "os-migrations:index", s.MigrationQuery80, since=(2, 80)),
    _do("GET", "/os-instance_usage_audit_log", usage_audit.index, _P + "os-instance-usage-audit-log:list"),
    _do("GET", "/os-instance_usage_audit_log/{before}", usage_audit.show, _P + "os-instance-usage-audit-log:show"),
    _do("POST", "/os-server-external-events", external_events.create, _P + "os-server-external-events:create",
        body=s.ExternalEventsBody),
    _do("GET", "/extensions", extensions.index, _P + "extensions"),
    _do("GET", "/extensions/{alias}", extensions.show, _P + "extensions"),
)

_IMAGE = "/images/{image_id}"
_META: Version = (2, 38)
_IMAGES = (
    *_get("/images", images.index, AUTHENTICATED, s.ImageQuery, until=_PROXY),
    *_get("/images/detail", images.detail, AUTHENTICATED, s.ImageQuery, until=_PROXY),
    _do("GET", _IMAGE, images.show, AUTHENTICATED, until=_PROXY),
    _do("DELETE", _IMAGE, images.delete, AUTHENTICATED, 204, until=_PROXY),
    _do("GET", _IMAGE + "/metadata", images.metadata, AUTHENTICATED, until=_META),
    _do("POST", _IMAGE + "/metadata", images.merge_metadata, AUTHENTICATED, body=s.ImageMetadata, until=_META),
    _do("PUT", _IMAGE + "/metadata", images.replace_metadata, AUTHENTICATED, body=s.ImageMetadata, until=_META),
    _do("GET", _IMAGE + "/metadata/{key}", images.meta, AUTHENTICATED, until=_META),
    _do("PUT", _IMAGE + "/metadata/{key}", images.put_meta, AUTHENTICATED, body=s.ImageMeta, until=_META),
    _do("DELETE", _IMAGE + "/metadata/{key}", images.delete_meta, AUTHENTICATED, 204, until=_META),
)

_SG = "/os-security-groups"
_S = _P + "os-security-groups:"
_FIP = "/os-floating-ips"
_NETWORKS = (
    *_get(_SG, security_groups.index, _S + "get", s.Limited, until=_PROXY),
    _do("POST", _SG, security_groups.create, _S + "create", body=s.SecurityGroupBody, until=_PROXY),
    _do("GET", _SG + "/{group_id}", security_groups.show, _S + "show", until=_PROXY),
    _do("PUT", _SG + "/{group_id}", security_groups.update, _S + "update", body=s.SecurityGroupBody, until=_PROXY),
    _do("DELETE", _SG + "/{group_id}", security_groups.delete, _S + "delete", 202, until=_PROXY),
    _do("POST", "/os-security-group-rules", security_groups.create_rule, _S + "rule:create",
        body=s.SecurityRuleBody, until=_PROXY),
    _do("DELETE", "/os-security-group-rules/{rule_id}", security_groups.delete_rule, _S + "rule:delete", 202,
        until=_PROXY),
    _do("GET", "/os-floating-ip-pools", floating_ips.pools, _P + "os-floating-ip-pools", until=_PROXY),
    _do("GET", _FIP, floating_ips.index, _P + "os-floating-ips:list", until=_PROXY),
    _do("POST", _FIP, floating_ips.create, _P + "os-floating-ips:create", body=s.PoolBody | None, until=_PROXY),
    _do("GET", _FIP + "/{floating_ip_id}", floating_ips.show, _P + "os-floating-ips:show", until=_PROXY),
    _do("DELETE", _FIP + "/{floating_ip_id}", floating_ips.delete, _P + "os-floating-ips:delete", 202, until=_PROXY),
    _do("GET", "/os-networks", networks.index, _P + "os-networks:list", until=_PROXY),
    _do("GET", "/os-networks/{network_id}", networks.show, _P + "os-networks:show", until=_PROXY),
    _do("GET", "/os-tenant-networks", networks.tenant_index, _P + "os-tenant-networks:list", until=_PROXY),
    _do("GET", "/os-tenant-networks/{network_id}", networks.tenant_show, _P + "os-tenant-networks:show",
        until=_PROXY),
)

_VOL, _SNAP, _OS_V = "/os-volumes", "/os-snapshots", _P + "os-volumes:"
_VOLUMES = (
    *_get(_VOL, volume_proxies.volumes, _OS_V + "list", v.AttachmentQuery, until=_PROXY),
    *_get(_VOL + "/detail", volume_proxies.volumes, _OS_V + "detail", v.AttachmentQuery, until=_PROXY),
    _do("POST", _VOL, volume_proxies.create_volume, _OS_V + "create", body=v.OldVolumeBody, until=_PROXY),
    _do("GET", _VOL + "/{volume_id}", volume_proxies.show_volume, _OS_V + "show", until=_PROXY),
    _do("DELETE", _VOL + "/{volume_id}", volume_proxies.delete_volume, _OS_V + "delete", 202, until=_PROXY),
    *_get(_SNAP, volume_proxies.snapshots, _OS_V + "snapshots:list", v.AttachmentQuery, until=_PROXY),
    *_get(_SNAP + "/detail", volume_proxies.snapshots, _OS_V + "snapshots:detail", v.AttachmentQuery, until=_PROXY),
    _do("POST", _SNAP, volume_proxies.create_snapshot, _OS_V + "snapshots:create", body=v.OldSnapshotBody,
        until=_PROXY),
    _do("GET", _SNAP + "/{snapshot_id}", volume_proxies.show_snapshot, _OS_V + "snapshots:show", until=_PROXY),
    _do("DELETE", _SNAP + "/{snapshot_id}", volume_proxies.delete_snapshot, _OS_V + "snapshots:delete", 202,
        until=_PROXY),
)

REST_ROUTES: tuple[Route, ...] = (
    *_FLAVORS, *_KEYPAIRS, *_PROJECTS, *_CLOUD, *_IMAGES, *_NETWORKS, *_VOLUMES,
)
