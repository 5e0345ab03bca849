"""The network service: the whole API on one screen."""

from __future__ import annotations

from pileus.network import discovery, networks, quotas, security_groups, subnets
from pileus.network import schemas as s
from pileus.network.lists import FieldsQuery, Noun, query_of
from pileus.web.routes import AUTHENTICATED, PUBLIC, Handler, Route


def _crud(
    noun: Noun, handlers: tuple[Handler, Handler, Handler, Handler, Handler], new: object, change: object,
    path: str = "", reads_write: bool = False,
) -> tuple[Route, ...]:
    """List, show, create, update and delete of a noun."""
    index, show, create, update, delete = handlers
    rule, all_, one = noun.in_rules, f"/v2.0/{path or noun.plural}", f"/v2.0/{path or noun.plural}/{{id}}"
    query = query_of(noun.filters, noun.taggable)
    return (
        Route("GET", all_, index, f"get_{rule}", query=query, write=reads_write or None),
        Route("POST", all_, create, f"create_{rule}", 201, body=new),
        Route("GET", one, show, f"get_{rule}", query=FieldsQuery, write=reads_write or None),
        Route("PUT", one, update, AUTHENTICATED, body=change),
        Route("DELETE", one, delete, AUTHENTICATED, 204),
    )


def _five(module: object) -> tuple[Handler, Handler, Handler, Handler, Handler]:
    names = ("index", "show", "create", "update", "delete")
    index, show, create, update, delete = (getattr(module, name) for name in names)
    return index, show, create, update, delete


ROUTES: tuple[Route, ...] = (
    Route("GET", "/", discovery.versions, PUBLIC),
    Route("GET", "/v2.0", discovery.resources, PUBLIC),
    *_crud(networks.NOUN, _five(networks), s.NetworksBody, s.NetworkBody),
    *_crud(subnets.NOUN, _five(subnets), s.SubnetsBody, s.SubnetBody),
    *_crud(security_groups.NOUN, _five(security_groups), s.SecurityGroupsBody, s.SecurityGroupBody,
           "security-groups", reads_write=True),
    Route("GET", "/v2.0/quotas", quotas.index, "update_quota"),
)
