"""The one MetaData, and the column types that mean the same on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Json(TypeDecorator[Any]):
    """A JSON value as text. Written and read whole; what is filtered by has a column of its own."""

    impl = sa.Text().with_variant(sa.Text(length=2**24 - 1), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else _encode(value).decode()

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else _decode(value)


Id = sa.String(64)
"""An id of ours or one that an operator chose (regions, flavors)."""

Name = sa.String(255)

Time = sa.Double
"""Seconds since the epoch, to the microsecond."""

LongText = sa.Text().with_variant(sa.Text(length=2**24 - 1), "mysql", "mariadb")


def table(name: str, *items: sa.schema.SchemaItem) -> sa.Table:
    """A table of Pileus. That text compares exactly on MariaDB too is seen to by `migrate.upgrade`: saying so
    here, per table, would load that dialect (8 MB) into every process."""
    return sa.Table(name, metadata, *items)
