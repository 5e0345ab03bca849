"""Tables of volumes, snapshots, attachments and the nodes that keep them; `tables_rest` has the others."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

_Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

volume = table(
    "volume_volume",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("name", Name),
    sa.Column("description", Name),
    sa.Column("size", sa.Integer, nullable=False),  # GiB
    sa.Column("new_size", sa.Integer),  # GiB: while it is being extended
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("previous_status", sa.String(32)),  # to go back to from what a backup or a transfer does
    sa.Column("node", Name),  # where it is kept; None: nowhere, as no node could take it
    sa.Column("backend", sa.String(32), nullable=False, default=""),  # contract.StorageFacts.backend
    sa.Column("zone", Name),
    sa.Column("type_id", Id),
    sa.Column("group_id", Id),
    sa.Column("bootable", sa.Boolean, nullable=False, default=False),
    sa.Column("multiattach", sa.Boolean, nullable=False, default=False),
    sa.Column("encrypted", sa.Boolean, nullable=False, default=False),
    sa.Column("encryption_key_id", Id),
    sa.Column("read_only", sa.Boolean),  # None: nobody has said
    sa.Column("metadata", Json, nullable=False),
    sa.Column("image_metadata", Json),  # None: it was never given any
    sa.Column("snapshot_id", Id),  # what it was made from
    sa.Column("source_id", Id),
    sa.Column("image_id", Id),
    sa.Column("backup_id", Id),
    sa.Column("migration_status", sa.String(32)),
    sa.Column("migration", Id),  # the volume that it moves to
    sa.Column("export_key", sa.String(128), nullable=False, default=""),  # hex: of its export; "": it is not given out
    sa.Column("export", Json),  # contract.VolumeExport
    sa.Column("drop_wanted", sa.Boolean, nullable=False, default=False),  # to be deleted as soon as it is detached
    sa.Column("error", LongText),  # why the last task about it failed
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
    sa.Column("launched", Time),
    sa.Column("changed", Time, nullable=False),  # of the status
    sa.Index("ix_volume_volume_project", "project_id", "created"),
    sa.Index("ix_volume_volume_created", "created"),
    sa.Index("ix_volume_volume_node", "node"),
    sa.Index("ix_volume_volume_status", "status", "changed"),
    sa.Index("ix_volume_volume_group", "group_id"),
    sa.Index("ix_volume_volume_type", "type_id"),
)

attachment = table(
    "volume_attachment",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("volume_id", Id, sa.ForeignKey("volume_volume.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("project_id", Id, nullable=False, index=True),
    sa.Column("server_id", Id, index=True),
    sa.Column("status", sa.String(32), nullable=False),  # reserved, attaching, attached, detaching, error_attaching
    sa.Column("mode", sa.String(2), nullable=False, default="rw"),  # rw, ro
    sa.Column("host", Name),  # the node of the guest, or what the connector says
    sa.Column("device", Name),  # /dev/vdb
    sa.Column("connector", Json),
    sa.Column("connected", sa.Boolean, nullable=False, default=False),  # its node may open the export
    sa.Column("waits_for", Id),  # the task that gives it out
    sa.Column("error", LongText),
    sa.Column("created", Time, nullable=False),
    sa.Column("changed", Time, nullable=False),  # of the status
    sa.Column("attached", Time),
    sa.Column("detached", Time),
)

snapshot = table(
    "volume_snapshot",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("volume_id", Id, nullable=False, index=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("name", Name),
    sa.Column("description", Name),
    sa.Column("size", sa.Integer, nullable=False),  # GiB
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("progress", sa.String(8), nullable=False, default="0%"),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("type_id", Id),  # of its volume
    sa.Column("group_snapshot_id", Id, index=True),
    sa.Column("error", LongText),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
    sa.Column("changed", Time, nullable=False),  # of the status
    sa.Index("ix_volume_snapshot_project", "project_id", "created"),
    sa.Index("ix_volume_snapshot_status", "status", "changed"),
)

backend = table(
    "volume_backend",  # the nodes that keep volumes
    sa.Column("node", Name, primary_key=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("backend", sa.String(32), nullable=False),  # contract.StorageFacts.backend
    sa.Column("total_gib", sa.Double, nullable=False),
    sa.Column("free_gib", sa.Double, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("disabled_reason", Name),
    sa.Column("seen", Time, nullable=False),  # last heartbeat
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
)

from pileus.volume import tables_rest as tables_rest  # noqa: E402  so that the metadata is whole
