"""Tables of image."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

image = table(
    "image_image",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name),
    sa.Column("status", sa.String(16), nullable=False),  # queued, saving, uploading, importing, active, deactivated
    sa.Column("visibility", sa.String(16), nullable=False),
    sa.Column("owner", Name),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("os_hidden", sa.Boolean, nullable=False),
    sa.Column("disk_format", sa.String(16)),
    sa.Column("container_format", sa.String(16)),
    sa.Column("min_disk", sa.Integer, nullable=False),
    sa.Column("min_ram", sa.Integer, nullable=False),
    sa.Column("size", sa.BigInteger),
    sa.Column("virtual_size", sa.BigInteger),
    sa.Column("checksum", sa.String(32)),
    sa.Column("os_hash_algo", sa.String(64)),
    sa.Column("os_hash_value", sa.String(128)),
    sa.Column("found_format", sa.String(16)),  # what the bytes are, whatever disk_format claims
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    # While bytes come in: whose transfer it is, on which controller, and until when it may go on without a sign.
    sa.Column("transfer", Id, nullable=False, default=""),
    sa.Column("transfer_host", Name, nullable=False, default=""),
    sa.Column("transfer_lease", Time, nullable=False, default=0.0),
    sa.Index("ix_image_image_owner", "owner", "created_at"),
    sa.Index("ix_image_image_visibility", "visibility", "created_at"),
    sa.Index("ix_image_image_status", "status"),
)

image_property = table(
    "image_property",
    sa.Column("image_id", Id, sa.ForeignKey("image_image.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", Name, primary_key=True),
    sa.Column("value", LongText),
)

image_tag = table(
    "image_tag",
    sa.Column("image_id", Id, sa.ForeignKey("image_image.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("value", Name, primary_key=True),
)

image_member = table(
    "image_member",
    sa.Column("image_id", Id, sa.ForeignKey("image_image.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("member_id", Name, primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),  # pending, accepted, rejected
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Index("ix_image_member_member", "member_id", "status"),
)

image_task = table(
    "image_task",  # what the tasks API shows of an import
    sa.Column("id", Id, primary_key=True),
    sa.Column("image_id", Id, nullable=False, index=True),
    sa.Column("owner", Name),
    sa.Column("user_id", Name, nullable=False),
    sa.Column("request_id", Id, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),  # pending, processing, success, failure
    sa.Column("input", Json, nullable=False),
    sa.Column("message", LongText, nullable=False, default=""),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)

image_copy = table(
    "image_copy",  # which controllers have the bytes; a row outlives its image until the file is gone
    sa.Column("image_id", Id, primary_key=True),
    sa.Column("controller", Name, primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),  # image, staged
    sa.Column("since", Time, nullable=False),
    sa.Index("ix_image_copy_controller", "controller"),
)
