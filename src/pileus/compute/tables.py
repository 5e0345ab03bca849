"""Tables of compute."""

from __future__ import annotations

import sqlalchemy as sa

from pileus.db.tables import Id, Json, LongText, Name, Time, table

_Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

# -- servers

server = table(
    "compute_server",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),  # names the guest: instance-0000002a
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("description", Name),
    sa.Column("hostname", Name, nullable=False),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(32)),
    sa.Column("power_state", sa.Integer, nullable=False, default=0),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("host", Name),  # the node that has the guest; None: never placed, or offloaded
    sa.Column("zone", Name),  # availability zone that it was placed in
    sa.Column("pinned_zone", Name),  # the zone that the user asked for
    sa.Column("image_id", Id),
    sa.Column("image", Json),  # tables.ImageFacts: what later actions need of the image, as it was at the build
    sa.Column("flavor_id", Name, nullable=False),
    sa.Column("flavor", Json, nullable=False),  # the flavor as it was, extra specs included
    sa.Column("old_flavor", Json),  # from the start of a resize to its confirmation
    sa.Column("vcpus", sa.Integer, nullable=False),  # of `flavor`, to sum
    sa.Column("ram", sa.Integer, nullable=False),
    sa.Column("key_name", Name),
    sa.Column("key_data", LongText),
    sa.Column("user_data", LongText),  # base64, as sent
    sa.Column("config_drive", sa.Boolean, nullable=False, default=False),
    sa.Column("metadata", Json, nullable=False),
    sa.Column("hints", Json, nullable=False),
    sa.Column("group_id", Id),
    sa.Column("security_groups", Json, nullable=False),  # names asked for; ports made later get them
    sa.Column("access_ip_v4", sa.String(45), nullable=False, default=""),
    sa.Column("access_ip_v6", sa.String(45), nullable=False, default=""),
    sa.Column("disk_config", sa.String(8), nullable=False, default="MANUAL"),
    sa.Column("locked", sa.Boolean, nullable=False, default=False),
    sa.Column("locked_by", sa.String(8)),  # owner, admin
    sa.Column("locked_reason", Name),
    sa.Column("fault", Json),
    sa.Column("reservation_id", sa.String(32), nullable=False),
    sa.Column("launch_index", sa.Integer, nullable=False, default=0),
    sa.Column("password_data", LongText),  # as the guest posted it, encrypted with the user's key
    sa.Column("rescue_image", Json),
    sa.Column("shelved_image_id", Id),
    sa.Column("old_vm_state", sa.String(32)),  # to go back to after unrescue, revert, unshelve
    sa.Column("nic_tags", Json, nullable=False),  # port id: device tag
    sa.Column("own_ports", Json, nullable=False),  # ports made for the server, deleted with it
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
    sa.Column("launched", Time),
    sa.Column("terminated", Time),
    sa.Column("deleted", sa.Boolean, nullable=False, default=False),
    sa.Column("deleted_at", Time),
    sa.Index("ix_compute_server_project", "project_id", "deleted", "created"),
    sa.Index("ix_compute_server_use", "project_id", "deleted", "user_id", "vcpus", "ram"),  # every create sums these
    sa.Index("ix_compute_server_host", "host", "deleted"),
    sa.Index("ix_compute_server_created", "deleted", "created"),
    sa.Index("ix_compute_server_updated", "updated"),
    sa.Index("ix_compute_server_group", "group_id", "deleted"),
    sa.Index("ix_compute_server_task", "task_state"),
)

server_tag = table(
    "compute_server_tag",
    sa.Column("server_id", Id, sa.ForeignKey("compute_server.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(60), primary_key=True, index=True),
)

block_device = table(
    "compute_block_device",  # the disks of servers that are volumes, or that their makers described
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),  # their order in the guest
    sa.Column("id", Id, nullable=False, unique=True),  # `bdm_uuid` of the API
    sa.Column("server_id", Id, nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False),  # block_devices: local, making, export, attaching, attached, …
    sa.Column("source_type", sa.String(16), nullable=False),  # blank, image, snapshot, volume
    sa.Column("destination_type", sa.String(16), nullable=False),  # local, volume
    sa.Column("source_id", Id),  # the image, snapshot or volume
    sa.Column("volume_id", Id, index=True),
    sa.Column("attachment_id", Id, unique=True),
    sa.Column("own", sa.Boolean, nullable=False, default=False),  # the volume was made for the server
    sa.Column("device", sa.String(32), nullable=False),  # /dev/vdb
    sa.Column("boot_index", sa.Integer),  # 0: the root disk
    sa.Column("delete_on_termination", sa.Boolean, nullable=False, default=False),
    sa.Column("tag", sa.String(60)),
    sa.Column("size", sa.Integer, nullable=False, default=0),  # GiB; of swap MiB
    sa.Column("guest_format", Name),  # swap, or what the maker of an ephemeral disk wrote
    sa.Column("request_id", Id, nullable=False, default=""),  # of the action that waits for it
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
    sa.UniqueConstraint("server_id", "volume_id"),
    sa.Index("ix_compute_block_device_state", "state", "updated"),
)

action = table(
    "compute_action",
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("server_id", Id, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("request_id", Id, nullable=False),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("message", Name),  # "Error" when it failed
    sa.Column("started", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
    sa.Column("finished", Time),
    sa.Index("ix_compute_action_server", "server_id", "started"),
    sa.Index("ix_compute_action_request", "request_id"),
)

event = table(
    "compute_event",
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column(
        "action_id", _Serial, sa.ForeignKey("compute_action.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("event", Name, nullable=False),
    sa.Column("host", Name),
    sa.Column("result", sa.String(16)),  # Success, Error
    sa.Column("traceback", LongText),  # for admins: the whole reason
    sa.Column("details", Name),  # for everybody: the reason, short
    sa.Column("started", Time, nullable=False),
    sa.Column("finished", Time),
)

migration = table(
    "compute_migration",
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("uuid", Id, nullable=False, unique=True),  # also the consumer that holds the old allocation
    sa.Column("server_id", Id, nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),  # resize, migration, live-migration, evacuation
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("source", Name),
    sa.Column("dest", Name),
    sa.Column("old_flavor", sa.Integer),  # flavor.seq, which is what the API gives
    sa.Column("new_flavor", sa.Integer),
    sa.Column("user_id", Id),
    sa.Column("project_id", Id),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False, server_default=""),  # "": asked for; drain, outage
    sa.Column("wanted", sa.String(16), nullable=False, server_default=""),  # of a live one: abort, force
    sa.Column("sends", sa.Integer, nullable=False, server_default="0"),  # how often the source was told to send it
    sa.Column("to_clean", Name),  # the node that still has a copy of the guest, which it has been told to remove
    sa.Column("reason", LongText),  # why it failed
    sa.Index("ix_compute_migration_updated", "updated"),
    sa.Index("ix_compute_migration_to_clean", "to_clean"),
)

decision = table(
    "compute_decision",  # why the scheduler chose as it did: the last few of each server
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("server_id", Id, nullable=False, index=True),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("host", Name),  # the node that was chosen; None: none would do
    sa.Column("record", Json, nullable=False),  # decisions.Record
    sa.Column("created", Time, nullable=False),
)

console_token = table(
    "compute_console_token",
    sa.Column("digest", sa.String(64), primary_key=True),  # SHA-256 of the token, in hex
    sa.Column("server_id", Id, nullable=False, index=True),
    sa.Column("host", Name, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),  # novnc
    sa.Column("created", Time, nullable=False),
    sa.Column("expires", Time, nullable=False, index=True),
)

# -- flavors

flavor = table(
    "compute_flavor",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Name, nullable=False, unique=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("ram", sa.Integer, nullable=False),  # MiB
    sa.Column("disk", sa.Integer, nullable=False),  # GiB
    sa.Column("ephemeral", sa.Integer, nullable=False, default=0),  # GiB
    sa.Column("swap", sa.Integer, nullable=False, default=0),  # MiB
    sa.Column("rxtx_factor", sa.Double, nullable=False, default=1.0),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("description", LongText),
    sa.Column("extra_specs", Json, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
)

flavor_access = table(
    "compute_flavor_access",
    sa.Column("flavor_id", Name, sa.ForeignKey("compute_flavor.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", Id, primary_key=True),
)

# -- keypairs and server groups

keypair = table(
    "compute_keypair",
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("name", Name, nullable=False),
    sa.Column("type", sa.String(8), nullable=False),  # ssh, x509
    sa.Column("fingerprint", Name, nullable=False),
    sa.Column("public_key", LongText, nullable=False),
    sa.Column("created", Time, nullable=False),
    sa.UniqueConstraint("user_id", "name"),
)

server_group = table(
    "compute_server_group",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("name", Name, nullable=False),
    sa.Column("project_id", Id, nullable=False, index=True),
    sa.Column("user_id", Id, nullable=False),
    sa.Column("policy", sa.String(32), nullable=False),  # affinity, anti-affinity, soft-…; members: server.group_id
    sa.Column("rules", Json, nullable=False),
    sa.Column("created", Time, nullable=False),
)

# -- nodes

node = table(
    "compute_node",
    sa.Column("seq", _Serial, primary_key=True, autoincrement=True),  # ids of services below 2.53
    sa.Column("id", Id, nullable=False, unique=True),  # the placement provider has the same id
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("facts", Json, nullable=False),  # contract.HypervisorFacts
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("disabled_reason", Name),
    sa.Column("forced_down", sa.Boolean, nullable=False, default=False),
    sa.Column("build_failures", sa.Integer, nullable=False, default=0, server_default="0"),  # in a row
    sa.Column("seen", Time, nullable=False),  # last heartbeat
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time, nullable=False),
)

outage = table(
    "compute_outage",  # nodes that are down, as far as evacuating them has come
    sa.Column("node", Name, primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),  # noticed, fencing, fenced, failed
    sa.Column("noticed", Time, nullable=False),
    sa.Column("checked", Time, nullable=False),  # when the node was last seen to be down: a gap begins the wait anew
    sa.Column("updated", Time, nullable=False),  # of the state
    sa.Column("error", LongText),  # of the last attempt to fence it
)

aggregate = table(
    "compute_aggregate",
    sa.Column("id", _Serial, primary_key=True, autoincrement=True),
    sa.Column("uuid", Id, nullable=False, unique=True),
    sa.Column("name", Name, nullable=False, unique=True),
    sa.Column("zone", Name),  # also metadata's availability_zone on the wire
    sa.Column("metadata", Json, nullable=False),  # without availability_zone
    sa.Column("created", Time, nullable=False),
    sa.Column("updated", Time),
)

aggregate_host = table(
    "compute_aggregate_host",
    sa.Column(
        "aggregate_id", _Serial, sa.ForeignKey("compute_aggregate.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("host", Name, primary_key=True, index=True),
)

# -- quotas

quota = table(
    "compute_quota",
    sa.Column("project_id", Id, primary_key=True),
    sa.Column("user_id", Id, primary_key=True, default=""),  # "": the whole project
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("limit", sa.BigInteger, nullable=False),
)

quota_class = table(
    "compute_quota_class",
    sa.Column("name", Name, primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("limit", sa.BigInteger, nullable=False),
)
