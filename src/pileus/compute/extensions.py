"""The extensions that v2.1 has always had.

Since there are microversions nothing is added; the list says what 2.1 has of the old ones."""

from __future__ import annotations

from typing import Any

from pileus.web.call import Call
from pileus.web.errors import NotFound

_EXTENSIONS = (
    ("NMN", "Multinic", "Add and remove fixed addresses of servers."),
    ("OS-DCF", "DiskConfig", "How the root disk is partitioned."),
    ("OS-EXT-AZ", "ExtendedAvailabilityZone", "The availability zone of servers."),
    ("OS-EXT-IMG-SIZE", "ImageSize", "The size of images."),
    ("OS-EXT-IPS", "ExtendedIps", "Whether an address is fixed or floating."),
    ("OS-EXT-IPS-MAC", "ExtendedIpsMac", "The MAC address beside an address."),
    ("OS-EXT-SRV-ATTR", "ExtendedServerAttributes", "Where a server runs."),
    ("OS-EXT-STS", "ExtendedStatus", "Task, virtual machine and power states of servers."),
    ("OS-FLV-DISABLED", "FlavorDisabled", "Whether a flavor is disabled."),
    ("OS-FLV-EXT-DATA", "FlavorExtraData", "Ephemeral disks of flavors."),
    ("OS-SRV-USG", "ServerUsage", "When a server was launched and terminated."),
    ("os-admin-actions", "AdminActions", "Actions of administrators on servers."),
    ("os-aggregates", "Aggregates", "Groups of hosts."),
    ("os-attach-interfaces", "AttachInterfaces", "Ports of servers."),
    ("os-availability-zone", "AvailabilityZone", "Availability zones."),
    ("os-config-drive", "ConfigDrive", "Config drives of servers."),
    ("os-console-output", "ConsoleOutput", "The serial console's log."),
    ("os-consoles", "Consoles", "Screens of servers."),
    ("os-extended-volumes", "ExtendedVolumes", "Volumes attached to servers."),
    ("os-block-device-mapping-v2-boot", "BlockDeviceMappingV2Boot", "The disks that servers are made with."),
    ("os-flavor-access", "FlavorAccess", "Private flavors."),
    ("os-flavor-extra-specs", "FlavorExtraSpecs", "Extra specs of flavors."),
    ("os-flavor-manage", "FlavorManage", "Make and remove flavors."),
    ("os-flavor-rxtx", "FlavorRxtx", "The receive and transmit factor of flavors."),
    ("os-floating-ip-pools", "FloatingIpPools", "External networks."),
    ("os-floating-ips", "FloatingIps", "Floating addresses."),
    ("os-hosts", "Hosts", "Hosts."),
    ("os-hypervisors", "Hypervisors", "Hypervisors."),
    ("os-instance-actions", "ServerActions", "The action log of servers."),
    ("os-keypairs", "Keypairs", "Key pairs."),
    ("os-lock-server", "LockServer", "Lock and unlock servers."),
    ("os-migrations", "Migrations", "Migrations of servers."),
    ("os-multiple-create", "MultipleCreate", "Make several servers at once."),
    ("os-networks", "Networks", "Networks."),
    ("os-pause-server", "PauseServer", "Pause and unpause servers."),
    ("os-quota-class-sets", "QuotaClasses", "The default quotas."),
    ("os-quota-sets", "Quotas", "Quotas of projects and users."),
    ("os-rescue", "Rescue", "Rescue servers."),
    ("os-security-groups", "SecurityGroups", "Security groups."),
    ("os-server-external-events", "ServerExternalEvents", "Events from other services."),
    ("os-server-groups", "ServerGroups", "Affinity of servers."),
    ("os-server-password", "ServerPassword", "Passwords that guests have encrypted."),
    ("os-services", "Services", "Compute services."),
    ("os-simple-tenant-usage", "SimpleTenantUsage", "Usage of projects."),
    ("os-suspend-server", "SuspendServer", "Suspend and resume servers."),
    ("os-tenant-networks", "OSTenantNetworks", "Networks of a project."),
    ("os-used-limits", "UsedLimits", "How much of the limits is used."),
    ("os-user-data", "UserData", "User data of servers."),
    ("os-volume-attachment-update", "VolumeAttachmentUpdate", "Change how a server has a volume."),
    ("os-volumes", "Volumes", "Volumes of servers, and the volume service's of old."),
)


def _extension(row: tuple[str, str, str]) -> dict[str, Any]:
    alias, name, description = row
    return {
        "alias": alias, "name": name, "description": description, "links": [], "updated": "2014-12-03T00:00:00Z",
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
    }


def index(call: Call) -> dict[str, Any]:
    """GET /extensions: 200."""
    return {"extensions": [_extension(row) for row in _EXTENSIONS]}


def show(call: Call) -> dict[str, Any]:
    """GET /extensions/{alias}: 200."""
    for row in _EXTENSIONS:
        if row[0] == call.params["alias"]:
            return {"extension": _extension(row)}
    raise NotFound(f"There is no extension {call.params['alias']}.")
