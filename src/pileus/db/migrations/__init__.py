"""Alembic's migrations. `HEAD` is the newest, kept here so that a start with nothing to do imports no Alembic."""

HEAD = "0009"
