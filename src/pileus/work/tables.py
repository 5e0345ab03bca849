"""Tables of work."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

task = table(
    "task",
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("node", Name, nullable=False),  # "": any controller
    sa.Column("resource", sa.String(128), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),  # pending, running, done, failed
    sa.Column("arguments", LongText, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("owner", Name, nullable=False, default=""),
    sa.Column("lease", Time, nullable=False, default=0.0),  # until when `owner` has it
    sa.Column("not_before", Time, nullable=False, default=0.0),
    sa.Column("deadline", Time),
    sa.Column("result", Json),
    sa.Column("error", LongText),
    sa.Column("request_id", Id, nullable=False, default=""),
    sa.Column("created", Time, nullable=False),
    sa.Column("finished", Time),
    sa.Index("ix_task_open", "node", "state", "seq"),
    sa.Index("ix_task_resource", "resource", "state"),
)

lease = table(
    "lease",
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("owner", Name, nullable=False),
    sa.Column("until", Time, nullable=False),
)
