"""Volumes on a node: kept, copied and given out to guests on any node. Chosen with the role `storage`."""
