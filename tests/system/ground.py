"""A network, mounts and accounts of a worker's own.

Two workers are two machines to the clouds that they start: the bridges, addresses, namespaces and accounts of one are
not there for the other, and what one removes at its end the other has not lost.
"""

from __future__ import annotations

import ctypes
import subprocess

_NEW = 0x00020000 | 0x40000000  # CLONE_NEWNS, CLONE_NEWNET
_FURNISH = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock /run/sys
chmod 1777 /run/lock
mount --rbind /sys /run/sys
mount -t sysfs sysfs /sys   # it shows the devices of the network that it was mounted in
if mountpoint -q /run/sys/fs/cgroup; then mount --rbind /run/sys/fs/cgroup /sys/fs/cgroup; fi
umount -l /run/sys
cp -a /etc /run/etc
mount --bind /run/etc /etc
ip link set lo up
"""


def take() -> None:
    """Move this thread, and all that it starts from now on, to namespaces of their own. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW):
        raise OSError(ctypes.get_errno(), "namespaces of a worker's own cannot be made")
    subprocess.run(["sh", "-euc", _FURNISH], check=True)
