"""The catalog's own endpoints: each controller registers the services that it serves, and one owns each URL.

The rules, so that controllers with different URLs do not write over each other's at every start:

- A controller writes only the endpoints of services that it serves, under its own URL: the setting `public_url`, or
  where that is empty, the address it listens on.
- An endpoint has an owner. It alone changes the URL, as when its settings have changed.
- A controller with a `public_url` takes an endpoint over from an owner without one: what an operator wrote wins over
  what was found out. Otherwise it takes one over only from an owner that does not live any more, or no longer serves
  the service; a `public_url` is kept even then by those who have none, since it is the address of many.
- What an operator has changed through the API is nobody's: no controller touches it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pileus.db.faults import OutcomeUnknown, Unreachable
from pileus.identity import claims
from pileus.identity.tables import endpoint, region, service

if TYPE_CHECKING:
    from pileus.cloud import Cloud
    from pileus.db.engine import Tx
    from pileus.web.routes import Service

_LOG = logging.getLogger("pileus.identity")
_EVERY = 20.0
_INTERFACES = ("public", "internal", "admin")


async def keep(cloud: Cloud) -> None:
    """Look now and then whether an endpoint's owner has gone, for ever."""
    while True:
        await asyncio.sleep(_EVERY)
        try:
            await cloud.db.run(lambda tx: register(tx, cloud))
        except (Unreachable, OutcomeUnknown) as error:
            _LOG.warning("the catalog is not looked at now: %s", error)
        except Exception:
            _LOG.exception("the catalog could not be looked at; the next look is due in %s s", _EVERY)


def register(tx: Tx, cloud: Cloud) -> None:
    """Put this controller's services into the catalog, by the rules above."""
    from pileus.cluster import controllers

    settings = cloud.settings
    if tx.first(sa.select(region.c.id).where(region.c.id == settings.region)) is None:
        tx.execute(region.insert().values(id=settings.region, description="", extra={}))
    live = frozenset(controllers.live(tx, cloud.world.now()))
    served = [offered for offered in cloud.served if offered.catalog_type]
    changed = False
    types = {kind: offered for offered in served for kind in (offered.catalog_type, *offered.catalog_aliases)}
    for kind, offered in types.items():
        changed |= _register(tx, cloud, kind, offered, live)
    _release(tx, cloud, set(types))
    if changed:
        claims.changed(tx)


def _register(tx: Tx, cloud: Cloud, kind: str, offered: Service, live: frozenset[str]) -> bool:
    """Whether anything of this service was changed, in the catalog's entry of the type `kind`."""
    settings = cloud.settings
    mine = {
        "url": f"{settings.endpoint}{offered.prefix}{offered.catalog_path}", "owner": cloud.controller,
        "explicit": bool(settings.public_url),
    }
    service_id = tx.scalar(sa.select(service.c.id).where(service.c.type == kind))
    if service_id is None:
        service_id = cloud.world.hex_id()
        tx.execute(service.insert().values(
            id=service_id, type=kind, name=offered.name, description=offered.description,
            enabled=True, extra={},
        ))
        for interface in _INTERFACES:
            tx.execute(endpoint.insert().values(
                id=cloud.world.hex_id(), service_id=service_id, interface=interface, region_id=settings.region,
                enabled=True, own=True, extra={}, **mine,
            ))
        return True
    changed = False
    for row in tx.all(sa.select(endpoint).where(endpoint.c.service_id == service_id, endpoint.c.own.is_(True))):
        same = (row.url, row.owner, row.explicit) == (mine["url"], mine["owner"], mine["explicit"])
        if not same and _mine_to_write(cloud, row, live):
            tx.execute(endpoint.update().where(endpoint.c.id == row.id).values(**mine))
            changed |= row.url != mine["url"]
    return changed


def _mine_to_write(cloud: Cloud, row: Any, live: frozenset[str]) -> bool:
    if row.owner in ("", cloud.controller):
        return True
    explicit = bool(cloud.settings.public_url)
    if explicit and not row.explicit:
        return True
    return row.owner not in live and explicit == row.explicit


def _release(tx: Tx, cloud: Cloud, served: set[str]) -> None:
    """Give up the endpoints of services that this controller serves no more; whoever serves them takes them.

    Until then the URL stays: another controller may be about to start."""
    types = sa.select(service.c.id).where(service.c.type.in_(sorted(served)))
    left = sa.and_(
        endpoint.c.owner == cloud.controller, endpoint.c.own.is_(True), endpoint.c.service_id.not_in(types)
    )
    tx.execute(endpoint.update().where(left).values(owner="", explicit=False))


def identity_url(tx: Tx, cloud: Cloud) -> str:
    """Where clients log in, without the version: the setting `auth_url`, this controller, or what the catalog says."""
    settings = cloud.settings
    if settings.auth_url:
        return settings.auth_url.rstrip("/").removesuffix("/v3")
    if any(offered.catalog_type == "identity" for offered in cloud.served):
        return f"{settings.endpoint}/identity"
    known = tx.scalar(
        sa.select(endpoint.c.url).join(service, service.c.id == endpoint.c.service_id)
        .where(service.c.type == "identity", endpoint.c.interface == "public", endpoint.c.enabled.is_(True))
        .order_by(endpoint.c.own.desc(), endpoint.c.id)
    )
    return str(known or f"{settings.endpoint}/identity").rstrip("/").removesuffix("/v3")
