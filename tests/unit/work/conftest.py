"""A cloud without rooms on each database."""

from tests.unit.db.conftest import _each, _each_server, database, remote

__all__ = ["_each", "_each_server", "database", "remote"]
