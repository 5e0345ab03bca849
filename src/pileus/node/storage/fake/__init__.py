"""A storage without disks, on nodes whose hypervisor is fake: only ever chosen by name, and visible as fake.

It keeps in a journal which volumes, snapshots and backups there would be and what is given out, but no content: what is
uploaded is an empty disk, and nobody listens on the ports that it tells. A volume's metadata asks for delays and
faults. `<operation>` is a method of the contract: create, delete, extend, snapshot, delete_snapshot, revert, export,
unexport, upload, backup, restore, delete_backup, fetch, adopt.

    fake:<operation>_delay   seconds that it takes                           fake:create_delay = 2.5
    fake:<operation>_error   it fails with this text, after the delay        fake:create_error = no more room
    fake:hang                these operations never come back (comma)        fake:hang = upload,snapshot
    fake:nodes               all this happens on these nodes only (comma)    fake:nodes = node3
"""

from pileus.node.storage.fake.driver import FakeStorage
from pileus.node.storage.fake.shelf import FakeBackup, FakeVolume, Shelf

__all__ = ["FakeBackup", "FakeStorage", "FakeVolume", "Shelf"]
