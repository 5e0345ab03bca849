"""Placement's policy rules: the defaults, by the names that Placement's operators know."""

_SERVICE = "role:admin or role:service"

RULES = {
    "placement:usages": _SERVICE + " or (role:reader and project_id:%(project_id)s)",
    **{
        f"placement:{name}": _SERVICE
        for name in (
            "resource_providers:list", "resource_providers:create", "resource_providers:show",
            "resource_providers:update", "resource_providers:delete",
            "resource_classes:list", "resource_classes:create", "resource_classes:show", "resource_classes:update",
            "resource_classes:delete",
            "resource_providers:inventories:list", "resource_providers:inventories:create",
            "resource_providers:inventories:show", "resource_providers:inventories:update",
            "resource_providers:inventories:delete",
            "resource_providers:aggregates:list", "resource_providers:aggregates:update",
            "resource_providers:usages", "resource_providers:allocations:list",
            "resource_providers:traits:list", "resource_providers:traits:update", "resource_providers:traits:delete",
            "traits:list", "traits:show", "traits:update", "traits:delete",
            "allocations:list", "allocations:manage", "allocations:update", "allocations:delete",
            "allocation_candidates:list", "reshaper:reshape",
        )
    },
}
