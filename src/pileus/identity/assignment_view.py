"""What one role assignment looks like on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from pileus.identity.tables import domain, group, project, role, user
from pileus.web.call import Call

if TYPE_CHECKING:
    from pileus.db.engine import Tx
    from pileus.identity.role_assignments import Assignment

_TABLES = {"user": user, "group": group, "project": project, "domain": domain, "role": role}
_AT_ONCE = 500


class Names(msgspec.Struct):
    """(name, domain id) by kind and id, for `include_names`."""

    known: dict[tuple[str, str], tuple[str, str]]

    @classmethod
    def read(cls, tx: Tx, rows: list[Assignment]) -> Names:
        """The names of everything that the rows mention, in a fixed number of statements per 500 of a kind."""
        ids: dict[str, set[str]] = {kind: set() for kind in _TABLES}
        for row in rows:
            ids[row.actor_kind].add(row.actor_id)
            ids["role"].add(row.role_id)
            if row.target_kind in ids:
                ids[row.target_kind].add(row.target_id)
        known: dict[tuple[str, str], tuple[str, str]] = {}
        for kind in ("user", "group", "project", "role", "domain"):
            _look_up(tx, kind, sorted(ids[kind]), known)
            ids["domain"] |= {known[kind, one][1] for one in ids[kind] if kind != "domain" and (kind, one) in known}
        return cls(known)

    def of(self, kind: str, one: str, with_domain: bool = True) -> dict[str, Any]:
        """`{"id", "name", "domain": {"id", "name"}}`."""
        name, domain_id = self.known.get((kind, one), ("", ""))
        found: dict[str, Any] = {"id": one, "name": name}
        if with_domain and domain_id:
            found["domain"] = {"id": domain_id, "name": self.known.get(("domain", domain_id), ("", ""))[0]}
        return found


def _look_up(tx: Tx, kind: str, ids: list[str], known: dict[tuple[str, str], tuple[str, str]]) -> None:
    table = _TABLES[kind]
    for at in range(0, len(ids), _AT_ONCE):
        for row in tx.all(sa.select(table).where(table.c.id.in_(ids[at : at + _AT_ONCE]))):
            known[kind, row.id] = (row.name, "" if kind == "domain" else row.domain_id)


def render(call: Call, row: Assignment, names: Names | None) -> dict[str, Any]:
    """One assignment, with a link to the grant that it comes from."""

    def show(kind: str, one: str) -> dict[str, Any]:
        return names.of(kind, one, kind != "domain") if names else {"id": one}

    inherited = row.inherited or row.source is not None
    scope: dict[str, Any] = (
        {"system": {"all": True}} if row.target_kind == "system"
        else {row.target_kind: show(row.target_kind, row.target_id)}
    )
    if inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    links = {"assignment": call.url + "/v3" + _path(row, inherited)}
    if row.group_id is not None:
        links["membership"] = f"{call.url}/v3/groups/{row.group_id}/users/{row.actor_id}"
    if row.prior_role_id is not None:
        links["prior_role"] = f"{call.url}/v3/roles/{row.prior_role_id}/implies/{row.role_id}"
    return {
        "role": show("role", row.role_id), row.actor_kind: show(row.actor_kind, row.actor_id), "scope": scope,
        "links": links,
    }


def _path(row: Assignment, inherited: bool) -> str:
    kind, one = row.source or (row.target_kind, row.target_id)
    place = "/system" if kind == "system" else f"/{kind}s/{one}"
    actor = f"/groups/{row.group_id}" if row.group_id is not None else f"/{row.actor_kind}s/{row.actor_id}"
    path = f"{place}{actor}/roles/{row.prior_role_id or row.role_id}"
    return f"/OS-INHERIT{path}/inherited_to_projects" if inherited else path
