"""Tables of the EC2 API: what other rooms have no place for."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, Name, Time, table

tag = table(
    "ec2_tag",
    sa.Column("project_id", Id, primary_key=True),  # whose tags they are; an image may have those of many projects
    sa.Column("resource_id", Id, primary_key=True),
    sa.Column("key", sa.String(127), primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),  # EC2's resource type
    sa.Column("value", Name, nullable=False),
    sa.Index("ix_ec2_tag_resource", "resource_id"),
)

client_token = table(
    "ec2_client_token",  # of RunInstances, so that a repetition makes nothing
    sa.Column("project_id", Id, primary_key=True),
    sa.Column("token", sa.String(64), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of what was asked for, in hex
    sa.Column("server_ids", Json, nullable=False),
    sa.Column("created", Time, nullable=False, index=True),
)
