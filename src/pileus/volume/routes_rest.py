"""Types, quotas, backups, groups, transfers, services: the rest of the volume service's rows on one screen."""

from __future__ import annotations

from typing import Any

from pileus.volume import (
    availability_zones,
    backup_handlers,
    clusters,
    default_types,
    extensions,
    group_handlers,
    group_snapshots,
    group_types,
    hosts,
    limits,
    log_levels,
    manage,
    manageable,
    messages,
    pools,
    qos_specs,
    quotas,
    resource_filters,
    services,
    transfers,
    type_access,
    type_encryption,
    type_extra_specs,
    volume_types,
)
from pileus.volume import schemas_groups as g
from pileus.volume import schemas_rest as s
from pileus.volume.schemas import ListQuery
from pileus.web.routes import AUTHENTICATED, Handler, Route

_X = "volume_extension:"


def _do(method: str, path: str, handler: Handler, rule: str, status: int = 200, **more: Any) -> Route:
    return Route(method, "/v3" + path, handler, rule, status, **more)


def _get(path: str, handler: Handler, rule: str, **more: Any) -> Route:
    return _do("GET", path, handler, rule, **more)


def _list(path: str, handler: Handler, rule: str, **more: Any) -> Route:
    return _do("GET", path, handler, rule, query=ListQuery, **more)


_TYPE = "/types/{type_id}"
_SPECS = _X + "types_extra_specs:"
_ENC = _X + "volume_type_encryption:"
_DEFAULT = _X + "default:"
_TYPES = (
    _list("/types", volume_types.index, AUTHENTICATED),
    _get("/types/default", volume_types.show_default, AUTHENTICATED),
    _get(_TYPE, volume_types.show, AUTHENTICATED),
    _do("POST", "/types", volume_types.create, _X + "type_create", body=s.TypeNewBody),
    _do("PUT", _TYPE, volume_types.update, _X + "type_update", body=s.TypeChangeBody),
    _do("DELETE", _TYPE, volume_types.delete, _X + "type_delete", 202),
    _get(f"{_TYPE}/extra_specs", type_extra_specs.index, _SPECS + "index"),
    _do("POST", f"{_TYPE}/extra_specs", type_extra_specs.create, _SPECS + "create", body=s.SpecsBody),
    _get(f"{_TYPE}/extra_specs/{{key}}", type_extra_specs.show, _SPECS + "show"),
    _do("PUT", f"{_TYPE}/extra_specs/{{key}}", type_extra_specs.update, _SPECS + "update", body=s.Specs),
    _do("DELETE", f"{_TYPE}/extra_specs/{{key}}", type_extra_specs.delete, _SPECS + "delete", 202),
    _get(f"{_TYPE}/os-volume-type-access", type_access.index, _X + "volume_type_access:get_all_for_type"),
    _do("POST", f"{_TYPE}/action", type_access.act, _X + "volume_type_access", 202, body=s.TypeAction),
    _get(f"{_TYPE}/encryption", type_encryption.show, _ENC + "get"),
    _do("POST", f"{_TYPE}/encryption", type_encryption.create, _ENC + "create", body=s.EncryptionNewBody),
    _get(f"{_TYPE}/encryption/{{key}}", type_encryption.show_item, _ENC + "get"),
    _do("PUT", f"{_TYPE}/encryption/{{key}}", type_encryption.update, _ENC + "update", body=s.EncryptionChangeBody),
    _do("DELETE", f"{_TYPE}/encryption/{{key}}", type_encryption.delete, _ENC + "delete", 202),
    _get("/volumes/{volume_id}/encryption", type_encryption.of_volume, AUTHENTICATED),
    _get("/default-types", default_types.index, _DEFAULT + "get_all", since=(3, 62)),
    _get("/default-types/{project_id}", default_types.show, _DEFAULT + "get", since=(3, 62)),
    _do("PUT", "/default-types/{project_id}", default_types.put, _DEFAULT + "set_or_update", body=s.DefaultTypeBody,
        since=(3, 62)),
    _do("DELETE", "/default-types/{project_id}", default_types.delete, _DEFAULT + "unset", 204, since=(3, 62)),
)

_QOS = "/qos-specs/{qos_id}"
_Q = _X + "qos_specs_manage:"
_SETS = "/os-quota-sets/{project_id}"
_LIMITS = (
    _list("/qos-specs", qos_specs.index, _Q + "get_all"),
    _get(_QOS, qos_specs.show, _Q + "get"),
    _do("POST", "/qos-specs", qos_specs.create, _Q + "create", body=s.QosBody),
    _do("PUT", _QOS, qos_specs.update, _Q + "update", body=s.QosBody),
    _do("PUT", f"{_QOS}/delete_keys", qos_specs.delete_keys, _Q + "update", 202, body=s.QosKeys),
    _do("DELETE", _QOS, qos_specs.delete, _Q + "delete", 202, query=s.QosDeleteQuery),
    _get(f"{_QOS}/associations", qos_specs.associations, _Q + "get_all"),
    _do("GET", f"{_QOS}/associate", qos_specs.associate, _Q + "update", 202, query=s.QosTypeQuery, write=True),
    _do("GET", f"{_QOS}/disassociate", qos_specs.disassociate, _Q + "update", 202, query=s.QosTypeQuery, write=True),
    _do("GET", f"{_QOS}/disassociate_all", qos_specs.disassociate_all, _Q + "update", 202, write=True),
    _get(_SETS, quotas.show, AUTHENTICATED, query=s.QuotaQuery),
    _get(f"{_SETS}/defaults", quotas.show_defaults, AUTHENTICATED),
    _do("PUT", _SETS, quotas.update, _X + "quotas:update", body=s.QuotaBody, query=s.QuotaChangeQuery),
    _do("DELETE", _SETS, quotas.delete, _X + "quotas:delete"),
    _get("/os-quota-class-sets/{name}", quotas.show_class, _X + "quota_classes:get"),
    _do("PUT", "/os-quota-class-sets/{name}", quotas.update_class, _X + "quota_classes:update",
        body=s.QuotaClassBody),
    _get("/limits", limits.index, "limits_extension:used_limits", query=s.LimitsQuery),
)

_CLOUD = (
    _get("/os-availability-zone", availability_zones.index, "volume:availability_zone_list"),
    _get("/os-services", services.index, _X + "services:index", query=s.ServiceQuery),
    _do("PUT", "/os-services/{action}", services.update, _X + "services:update", body=s.ServiceChange),
    _do("PUT", "/os-services/failover_host", services.fail_over, "volume:failover_host", body=s.ServiceChange),
    _do("PUT", "/os-services/failover", services.fail_over, "volume:failover_host", body=s.ServiceChange,
        since=(3, 26)),
    _do("PUT", "/os-services/set-log", log_levels.set_log, _X + "services:update", 202, body=s.SetLog, since=(3, 32)),
    _do("PUT", "/os-services/get-log", log_levels.get_log, _X + "services:update", body=s.GetLog, since=(3, 32)),
    _get("/os-hosts", hosts.index, _X + "hosts", query=s.HostQuery),
    _get("/os-hosts/{host}", hosts.show, _X + "hosts"),
    _get("/scheduler-stats/get_pools", pools.index, "scheduler_extension:scheduler_stats:get_pools",
         query=s.PoolQuery),
    _get("/capabilities/{host}", pools.capabilities, _X + "capabilities"),
    _get("/extensions", extensions.index, _X + "list_extensions"),
    _get("/extensions/{alias}", extensions.show, _X + "list_extensions"),
    _get("/resource_filters", resource_filters.index, "volume:get_resource_filters", query=s.FiltersQuery,
         since=(3, 33)),
    _get("/clusters", clusters.index, "clusters:get_all", since=(3, 7)),
    _get("/clusters/detail", clusters.index, "clusters:get_all", since=(3, 7)),
    _get("/clusters/{name}", clusters.show, "clusters:get", since=(3, 7)),
    _do("PUT", "/clusters/{action}", clusters.update, "clusters:update", body=s.ClusterChange, since=(3, 7)),
    _do("POST", "/workers/cleanup", clusters.cleanup, "workers:cleanup", 202, body=s.Cleanup, since=(3, 24)),
)


def _transfers(path: str, **more: Any) -> tuple[Route, ...]:
    one = path + "/{transfer_id}"
    return (
        _list(path, transfers.index, "volume:get_all_transfers", **more),
        _list(f"{path}/detail", transfers.detail, "volume:get_all_transfers", **more),
        _do("POST", path, transfers.create, AUTHENTICATED, 202, body=s.TransferNewBody, **more),
        _get(one, transfers.show, AUTHENTICATED, **more),
        _do("POST", f"{one}/accept", transfers.accept, "volume:accept_transfer", 202, body=s.AcceptBody, **more),
        _do("DELETE", one, transfers.delete, AUTHENTICATED, 202, **more),
    )


_BACKUP = "/backups/{backup_id}"
_PROJECTS = (
    *_transfers("/os-volume-transfer"),
    *_transfers("/volume-transfers", since=(3, 55)),
    _list("/backups", backup_handlers.index, "backup:get_all"),
    _list("/backups/detail", backup_handlers.detail, "backup:get_all"),
    _do("POST", "/backups", backup_handlers.make, AUTHENTICATED, 202, body=s.BackupNewBody),
    _do("POST", "/backups/import_record", backup_handlers.take_in, "backup:export-import", 201,
        body=s.BackupRecordBody),
    _get(_BACKUP, backup_handlers.show, AUTHENTICATED),
    _do("PUT", _BACKUP, backup_handlers.update, AUTHENTICATED, body=s.BackupChangeBody, since=(3, 9)),
    _do("DELETE", _BACKUP, backup_handlers.delete, AUTHENTICATED, 202),
    _do("POST", f"{_BACKUP}/restore", backup_handlers.restore, AUTHENTICATED, 202, body=s.RestoreBody),
    _do("POST", f"{_BACKUP}/action", backup_handlers.act, AUTHENTICATED, 202, body=s.BackupAction),
    _get(f"{_BACKUP}/export_record", backup_handlers.export, AUTHENTICATED),
    _list("/messages", messages.index, "message:get_all", since=(3, 3)),
    _get("/messages/{message_id}", messages.show, AUTHENTICATED, since=(3, 3)),
    _do("DELETE", "/messages/{message_id}", messages.delete, AUTHENTICATED, 204, since=(3, 3)),
)

_GROUP_TYPE = "/group_types/{type_id}"
_GROUP = "/groups/{group_id}"
_TAKEN = "/group_snapshots/{group_snapshot_id}"
_T = "group:group_types:"
_TS = "group:group_types_specs:"
_GROUPS = (
    _list("/group_types", group_types.index, AUTHENTICATED, since=(3, 11)),
    _get("/group_types/default", group_types.show_default, AUTHENTICATED, since=(3, 11)),
    _get(_GROUP_TYPE, group_types.show, AUTHENTICATED, since=(3, 11)),
    _do("POST", "/group_types", group_types.create, _T + "create", 202, body=g.GroupTypeNewBody, since=(3, 11)),
    _do("PUT", _GROUP_TYPE, group_types.update, _T + "update", body=g.GroupTypeChangeBody, since=(3, 11)),
    _do("DELETE", _GROUP_TYPE, group_types.delete, _T + "delete", 202, since=(3, 11)),
    _get(f"{_GROUP_TYPE}/group_specs", group_types.specs, _TS + "get_all", since=(3, 11)),
    _do("POST", f"{_GROUP_TYPE}/group_specs", group_types.add_specs, _TS + "create", 202, body=g.GroupSpecsBody,
        since=(3, 11)),
    _get(f"{_GROUP_TYPE}/group_specs/{{key}}", group_types.show_spec, _TS + "get", since=(3, 11)),
    _do("PUT", f"{_GROUP_TYPE}/group_specs/{{key}}", group_types.put_spec, _TS + "update", body=s.Specs,
        since=(3, 11)),
    _do("DELETE", f"{_GROUP_TYPE}/group_specs/{{key}}", group_types.delete_spec, _TS + "delete", 202, since=(3, 11)),
    _list("/groups", group_handlers.index, "group:get_all", since=(3, 13)),
    _list("/groups/detail", group_handlers.detail, "group:get_all", since=(3, 13)),
    _do("POST", "/groups", group_handlers.make, "group:create", 202, body=g.GroupNewBody, since=(3, 13)),
    _do("POST", "/groups/action", group_handlers.make_from, "group:create", 202, body=g.GroupFromBody,
        since=(3, 14)),
    _get(_GROUP, group_handlers.show, AUTHENTICATED, since=(3, 13)),
    _do("PUT", _GROUP, group_handlers.update, AUTHENTICATED, 202, body=g.GroupChangeBody, since=(3, 13)),
    _do("POST", f"{_GROUP}/action", group_handlers.act, AUTHENTICATED, 202, body=g.GroupAction, since=(3, 13)),
    _list("/group_snapshots", group_snapshots.index, "group:get_all_group_snapshots", since=(3, 14)),
    _list("/group_snapshots/detail", group_snapshots.detail, "group:get_all_group_snapshots", since=(3, 14)),
    _do("POST", "/group_snapshots", group_snapshots.make, AUTHENTICATED, 202, body=g.GroupSnapshotNewBody,
        since=(3, 14)),
    _get(_TAKEN, group_snapshots.show, AUTHENTICATED, since=(3, 14)),
    _do("DELETE", _TAKEN, group_snapshots.delete, AUTHENTICATED, 202, since=(3, 14)),
    _do("POST", f"{_TAKEN}/action", group_snapshots.act, AUTHENTICATED, 202, body=g.GroupSnapshotAction,
        since=(3, 19)),
)

_S = "snapshot_extension:"


def _manage(volumes: str, snapshots: str, **more: Any) -> tuple[Route, ...]:
    return (
        _list(volumes, manageable.index, _X + "list_manageable", **more),
        _list(f"{volumes}/detail", manageable.detail, _X + "list_manageable", **more),
        _do("POST", volumes, manage.manage, _X + "volume_manage", 202, body=g.ManageVolumeBody, **more),
        _list(snapshots, manageable.snapshot_index, _S + "list_manageable", **more),
        _list(f"{snapshots}/detail", manageable.snapshot_detail, _S + "list_manageable", **more),
        _do("POST", snapshots, manage.manage_snapshot, _S + "snapshot_manage", 202, body=g.ManageSnapshotBody, **more),
    )


_MANAGED = (
    *_manage("/os-volume-manage", "/os-snapshot-manage"),
    *_manage("/manageable_volumes", "/manageable_snapshots", since=(3, 8)),
)

REST_ROUTES: tuple[Route, ...] = (*_TYPES, *_LIMITS, *_CLOUD, *_PROJECTS, *_GROUPS, *_MANAGED)
