"""Placement: the whole API on one screen."""

from __future__ import annotations

from pileus.placement import (
    aggregates,
    allocation_candidates,
    consumers,
    discovery,
    inventories,
    providers,
    reshaper,
    resource_classes,
    traits,
    usages,
)
from pileus.placement import schemas as s
from pileus.web.routes import AUTHENTICATED, PUBLIC, Route
from pileus.web.schemas import UuidText

_P = "placement:"
_RP = _P + "resource_providers:"
_MIB = 1 << 20

ROUTES = (
    Route("GET", "/", discovery.root, PUBLIC),
    # resource classes
    Route("GET", "/resource_classes", resource_classes.index, _P + "resource_classes:list", since=(1, 2)),
    Route("POST", "/resource_classes", resource_classes.create, _P + "resource_classes:create", 201,
          body=s.ClassBody, since=(1, 2)),
    Route("GET", "/resource_classes/{name}", resource_classes.show, _P + "resource_classes:show", since=(1, 2)),
    Route("PUT", "/resource_classes/{name}", resource_classes.rename, _P + "resource_classes:update",
          body=s.ClassBody, since=(1, 2), until=(1, 6)),
    Route("PUT", "/resource_classes/{name}", resource_classes.ensure, _P + "resource_classes:update", 204,
          since=(1, 7)),
    Route("DELETE", "/resource_classes/{name}", resource_classes.delete, _P + "resource_classes:delete", 204,
          since=(1, 2)),
    # resource providers
    Route("GET", "/resource_providers", providers.index, _RP + "list", query=s.ProvidersQuery),
    Route("POST", "/resource_providers", providers.create, _RP + "create", 200, body=s.ProviderNew),
    Route("GET", "/resource_providers/{uuid}", providers.show, _RP + "show"),
    Route("PUT", "/resource_providers/{uuid}", providers.update, _RP + "update", body=s.ProviderChange),
    Route("DELETE", "/resource_providers/{uuid}", providers.delete, _RP + "delete", 204),
    # inventories
    Route("GET", "/resource_providers/{uuid}/inventories", inventories.index, _RP + "inventories:list"),
    Route("POST", "/resource_providers/{uuid}/inventories", inventories.create, _RP + "inventories:create", 201,
          body=s.InventoryNew),
    Route("PUT", "/resource_providers/{uuid}/inventories", inventories.replace_all, _RP + "inventories:update",
          body=s.InventoriesBody),
    Route("DELETE", "/resource_providers/{uuid}/inventories", inventories.delete_all, _RP + "inventories:delete", 204,
          since=(1, 5)),
    Route("GET", "/resource_providers/{uuid}/inventories/{resource_class}", inventories.show,
          _RP + "inventories:show"),
    Route("PUT", "/resource_providers/{uuid}/inventories/{resource_class}", inventories.update,
          _RP + "inventories:update", body=s.InventoryChange),
    Route("DELETE", "/resource_providers/{uuid}/inventories/{resource_class}", inventories.delete,
          _RP + "inventories:delete", 204),
    # what else a provider has
    Route("GET", "/resource_providers/{uuid}/usages", usages.of_provider, _RP + "usages"),
    Route("GET", "/resource_providers/{uuid}/aggregates", aggregates.show, _RP + "aggregates:list", since=(1, 1)),
    Route("PUT", "/resource_providers/{uuid}/aggregates", aggregates.replace, _RP + "aggregates:update",
          body=list[UuidText], since=(1, 1), until=(1, 18)),
    Route("PUT", "/resource_providers/{uuid}/aggregates", aggregates.replace, _RP + "aggregates:update",
          body=s.AggregatesBody, since=(1, 19)),
    Route("GET", "/resource_providers/{uuid}/allocations", consumers.of_provider, _RP + "allocations:list"),
    Route("GET", "/resource_providers/{uuid}/traits", traits.of_provider, _RP + "traits:list", since=(1, 6)),
    Route("PUT", "/resource_providers/{uuid}/traits", traits.replace, _RP + "traits:update", body=s.TraitsBody,
          since=(1, 6)),
    Route("DELETE", "/resource_providers/{uuid}/traits", traits.clear, _RP + "traits:delete", 204, since=(1, 6)),
    # traits
    Route("GET", "/traits", traits.index, _P + "traits:list", query=s.TraitsQuery, since=(1, 6)),
    Route("GET", "/traits/{name}", traits.show, _P + "traits:show", 204, since=(1, 6)),
    Route("PUT", "/traits/{name}", traits.create, _P + "traits:update", 204, since=(1, 6)),
    Route("DELETE", "/traits/{name}", traits.delete, _P + "traits:delete", 204, since=(1, 6)),
    # allocations
    Route("POST", "/allocations", consumers.create, _P + "allocations:manage", 204, body=s.PostAllocations13,
          since=(1, 13), until=(1, 27)),
    Route("POST", "/allocations", consumers.create, _P + "allocations:manage", 204, body=s.PostAllocations28,
          since=(1, 28), until=(1, 37)),
    Route("POST", "/allocations", consumers.create, _P + "allocations:manage", 204, body=s.PostAllocations38,
          since=(1, 38)),
    Route("GET", "/allocations/{consumer}", consumers.show, _P + "allocations:list"),
    Route("PUT", "/allocations/{consumer}", consumers.update, _P + "allocations:update", 204, body=s.Allocations10,
          until=(1, 7)),
    Route("PUT", "/allocations/{consumer}", consumers.update, _P + "allocations:update", 204, body=s.Allocations18,
          since=(1, 8), until=(1, 11)),
    Route("PUT", "/allocations/{consumer}", consumers.update, _P + "allocations:update", 204, body=s.Allocations12,
          since=(1, 12), until=(1, 27)),
    Route("PUT", "/allocations/{consumer}", consumers.update, _P + "allocations:update", 204, body=s.Allocations28,
          since=(1, 28), until=(1, 37)),
    Route("PUT", "/allocations/{consumer}", consumers.update, _P + "allocations:update", 204, body=s.Allocations38,
          since=(1, 38)),
    Route("DELETE", "/allocations/{consumer}", consumers.delete, _P + "allocations:delete", 204),
    Route("GET", "/allocation_candidates", allocation_candidates.index, _P + "allocation_candidates:list",
          since=(1, 10)),
    Route("GET", "/usages", usages.of_project, AUTHENTICATED, query=s.UsagesQuery, since=(1, 9)),
    Route("POST", "/reshaper", reshaper.reshape, _P + "reshaper:reshape", 204, body=s.Reshaper30, since=(1, 30),
          until=(1, 37), max_body=16 * _MIB),
    Route("POST", "/reshaper", reshaper.reshape, _P + "reshaper:reshape", 204, body=s.Reshaper38, since=(1, 38),
          max_body=16 * _MIB),
)
