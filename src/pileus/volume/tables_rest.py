"""Tables of types, quotas, backups, groups, transfers and messages."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

volume_type = table(
    "volume_type",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("description", Name),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("extra_specs", Json, nullable=False),
    sa.Column("qos_id", Id, index=True),
    sa.Column("encryption", Json),  # volume_types.Encryption; None: it has none
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
)

volume_type_access = table(
    "volume_type_access",  # projects that see a private type
    sa.Column("type_id", Id, sa.ForeignKey("volume_type.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", Id, primary_key=True),
)

default_type = table(
    "volume_default_type",  # of projects that have one of their own
    sa.Column("project_id", Id, primary_key=True),
    sa.Column("type_id", Id, sa.ForeignKey("volume_type.id", ondelete="CASCADE"), nullable=False, index=True),
)

qos_spec = table(
    "volume_qos_spec",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("consumer", sa.String(16), nullable=False),  # front-end, back-end, both
    sa.Column("specs", Json, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
)

quota = table(
    "volume_quota",
    sa.Column("project_id", Id, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("type_id", Id, primary_key=True, default=""),  # "": of all types together
    sa.Column("limit", sa.BigInteger, nullable=False),
)

quota_class = table(
    "volume_quota_class",
    sa.Column("name", Name, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("type_id", Id, primary_key=True, default=""),
    sa.Column("limit", sa.BigInteger, nullable=False),
)

transfer = table(
    "volume_transfer",  # that nobody has accepted yet
    sa.Column("id", Id, primary_key=True),
    sa.Column("volume_id", Id, nullable=False, unique=True),
    sa.Column("project_id", Id, nullable=False, index=True),  # that offers it
    sa.Column("name", Name),
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of the authorization key
    sa.Column("no_snapshots", sa.Boolean, nullable=False, default=False),
    sa.Column("created", Time, nullable=False),
)

backup = table(
    "volume_backup",
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("volume_id", Id, nullable=False, index=True),
    sa.Column("snapshot_id", Id),
    sa.Column("name", Name),
    sa.Column("description", Name),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),  # GiB: of its volume
    sa.Column("bytes", sa.BigInteger, nullable=False, default=0),  # that the copy takes
    sa.Column("node", Name, nullable=False, index=True),  # where the copy is kept
    sa.Column("stored_as", Id, nullable=False, index=True),  # the backup by whose id the node knows the copy
    sa.Column("parent_id", Id, index=True),  # the copy on which it stands, as the node knows that; None: on none
    sa.Column("zone", Name),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("volume_facts", Json, nullable=False),  # backups.Origin: what a restored volume shall be like
    sa.Column("restoring", Id),  # the volume that is being made like it
    sa.Column("error", LongText),
    sa.Column("of", Time),  # the moment that it shows
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
    sa.Column("changed", Time, nullable=False),  # of the status
    sa.Index("ix_volume_backup_project", "project_id", "created"),
    sa.Index("ix_volume_backup_status", "status", "changed"),
)

message = table(
    "volume_message",
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("request_id", Id, nullable=False),
    sa.Column("resource_type", sa.String(64), nullable=False),
    sa.Column("resource_id", Id, nullable=False, index=True),
    sa.Column("event_id", sa.String(64), nullable=False),
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("text", LongText, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("expires", Time, nullable=False, index=True),
    sa.Index("ix_volume_message_project", "project_id", "created"),
)

group_type = table(
    "volume_group_type",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("description", Name),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("specs", Json, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
)

group = table(
    "volume_group",
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("name", Name),
    sa.Column("description", Name),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("waits", sa.Boolean, nullable=False, default=False),  # for its volumes, to be made or to be gone
    sa.Column("zone", Name),
    sa.Column("type_id", Id, nullable=False, index=True),  # of group_type
    sa.Column("volume_types", Json, nullable=False),  # ids
    sa.Column("group_snapshot_id", Id),  # what it was made from
    sa.Column("source_id", Id),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
    sa.Index("ix_volume_group_project", "project_id", "created"),
    sa.Index("ix_volume_group_waits", "waits"),
)

group_snapshot = table(
    "volume_group_snapshot",
    sa.Column("id", Id, primary_key=True),
    sa.Column("group_id", Id, nullable=False, index=True),
    sa.Column("group_type_id", Id, nullable=False),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("name", Name),
    sa.Column("description", Name),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("waits", sa.Boolean, nullable=False, default=False),  # for its snapshots
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
    sa.Index("ix_volume_group_snapshot_project", "project_id", "created"),
    sa.Index("ix_volume_group_snapshot_waits", "waits"),
)

unmanaged = table(
    "volume_unmanaged",  # volumes and snapshots that nodes still keep, and that are nobody's
    sa.Column("id", Id, primary_key=True),  # what it was called
    sa.Column("kind", sa.String(16), nullable=False),  # volume, snapshot
    sa.Column("node", Name, nullable=False, index=True),
    sa.Column("volume_id", Id),  # of a snapshot
    sa.Column("size", sa.Integer, nullable=False),  # GiB
    sa.Column("facts", Json, nullable=False),  # manage.Facts
    sa.Column("created", Time, nullable=False),
)

migration = table(
    "volume_migration",  # volumes that are on their way to another node
    sa.Column("volume_id", Id, sa.ForeignKey("volume_volume.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("source", Name, nullable=False),
    sa.Column("target", Name, nullable=False),
    sa.Column("type_id", Id),  # that it shall have there; None: as it has
    sa.Column("waits_for", Id, nullable=False),  # the task that gives it out
    sa.Column("created", Time, nullable=False),
)
