"""Tables of the cluster: who may join, which nodes have, and which controllers there are."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

authority = table(
    "cluster_authority",
    sa.Column("id", Id, primary_key=True),
    sa.Column("certificate", LongText, nullable=False),  # PEM
    sa.Column("private_key", LongText, nullable=False),  # PEM; as the token keys, controllers alone can read it
)

token = table(
    "cluster_token",
    sa.Column("id", Id, primary_key=True),
    sa.Column("digest", Id, nullable=False),  # sha256 of the secret: the token itself is shown once
    sa.Column("roles", Json, nullable=False),  # what who joins by it may be
    sa.Column("description", Name, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("expires", Time),
    sa.Column("uses_left", sa.Integer),  # NULL: any number
    sa.Column("revoked", sa.Boolean, nullable=False),
)

node = table(
    "cluster_node",
    sa.Column("name", Name, primary_key=True),
    sa.Column("roles", Json, nullable=False),
    sa.Column("key_digest", Id, nullable=False),  # sha256 of its public key: a certificate with another is refused
    sa.Column("token_id", Id, nullable=False),
    sa.Column("address", Id, nullable=False),  # on the underlay
    sa.Column("controller", Name, nullable=False),  # which one it is connected to; "": none
    sa.Column("session", Id, nullable=False),  # of that connection
    sa.Column("seen", Time, nullable=False),
    sa.Column("joined", Time, nullable=False),
    sa.Column("draining", sa.Boolean, nullable=False),
    sa.Column("version", Id, nullable=False),
    sa.Index("ix_cluster_node_controller", "controller"),
)

controller = table(
    "cluster_controller",
    sa.Column("name", Name, primary_key=True),
    sa.Column("address", Name, nullable=False),  # HOST:PORT of its cluster port
    sa.Column("api", Name, nullable=False, default="", server_default=""),  # HOST:PORT of its APIs
    sa.Column("services", Json, nullable=False),
    sa.Column("started", Time, nullable=False),
    sa.Column("seen", Time, nullable=False),
    sa.Column("version", Id, nullable=False),
)

controller_log = table(
    "cluster_controller_log",
    sa.Column("name", Name, primary_key=True),
    sa.Column("wishes", Json, nullable=False),  # [prefix, level] in order, which the controller has not taken up yet
    sa.Column("levels", Json, nullable=False),  # of its loggers, as it said last
)
