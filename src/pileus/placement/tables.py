"""Tables of placement.

A provider's traits and aggregates stand in its own row, as sorted words between spaces: a search reads every
provider anyway, so that one statement brings all there is to know of them. `used` of an inventory is kept in
step with its allocations in the same transaction, so that no search has to sum them.
"""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, LongText, Name, Time, table

provider = table(
    "placement_provider",
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("generation", sa.BigInteger, nullable=False, default=0),
    sa.Column("parent_id", Id, index=True),
    sa.Column("root_id", Id, nullable=False, index=True),
    sa.Column("traits", LongText, nullable=False),
    sa.Column("aggregates", LongText, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
)

inventory = table(
    "placement_inventory",
    sa.Column("provider_id", Id, sa.ForeignKey("placement_provider.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("resource_class", Name, primary_key=True),
    sa.Column("total", sa.Integer, nullable=False),
    sa.Column("reserved", sa.Integer, nullable=False),
    sa.Column("min_unit", sa.Integer, nullable=False),
    sa.Column("max_unit", sa.Integer, nullable=False),
    sa.Column("step_size", sa.Integer, nullable=False),
    sa.Column("allocation_ratio", sa.Double, nullable=False),
    sa.Column("used", sa.BigInteger, nullable=False, default=0),
    # What is free, worked out by the database: the best providers for a class are the first of its index.
    sa.Column("free", sa.Double, sa.Computed("(total - reserved) * allocation_ratio - used")),
    sa.Index("ix_placement_inventory_free", "resource_class", "free", "provider_id"),
)

consumer = table(
    "placement_consumer",
    sa.Column("id", Id, primary_key=True),
    sa.Column("type", Name),  # None: not told, shown as "unknown"
    sa.Column("project_id", Name, nullable=False, index=True),
    sa.Column("user_id", Name, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
)

allocation = table(
    "placement_allocation",
    sa.Column("consumer_id", Id, sa.ForeignKey("placement_consumer.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("provider_id", Id, sa.ForeignKey("placement_provider.id"), primary_key=True, index=True),
    sa.Column("resource_class", Name, primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
)

resource_class = table(
    "placement_resource_class",  # the CUSTOM_ ones
    sa.Column("name", Name, primary_key=True),
    sa.Column("created", Time, nullable=False),
)

trait = table(
    "placement_trait",  # the CUSTOM_ ones
    sa.Column("name", Name, primary_key=True),
    sa.Column("created", Time, nullable=False),
)
