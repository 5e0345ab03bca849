"""A hypervisor without guests, for speed, scale and faults: only ever chosen by name, and visible as fake.

It keeps what a guest would be in a small journal and does what it is told, with delays and faults that a server's
metadata or its flavor's extra specs ask for (metadata wins). `<operation>` is a method of the contract: build,
rebuild, destroy, power_on, power_off, reboot, pause, unpause, suspend, resume, rescue, unrescue, resize, snapshot,
attach_nic, detach_nic, attach_volume, detach_volume, extend_volume, swap_volume, set_password, inject_nmi,
export_disks, end_export, fetch_disks, layout, take_in, send, taken. Nothing goes from one fake node to another: a
guest is away when it was sent, and there when it was taken in; a `send` that is delayed or hangs can be aborted and
forced.

    fake:<operation>_delay   seconds that it takes                           fake:build_delay = 2.5
    fake:<operation>_error   it fails with this text, after the delay        fake:build_error = no more disks
    fake:hang                these operations never come back (comma)        fake:hang = suspend,snapshot
    fake:die_after           seconds after which a started guest crashes     fake:die_after = 10
    fake:shutdown_after      seconds after which it shuts itself down        fake:shutdown_after = 10
    fake:nodes               all this happens on these nodes only (comma)    fake:nodes = node3
"""

from pileus.node.hypervisor.fake.driver import Fake
from pileus.node.hypervisor.fake.node import FakeSettings

__all__ = ["Fake", "FakeSettings"]
