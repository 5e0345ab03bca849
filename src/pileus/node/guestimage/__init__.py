"""The guest image for demos and tests: a small Linux that is made of Debian packages alone.

It logs in as `pileus` (sudo without a password) or `root`, by the SSH keys of the metadata service or the
config drive; a password (`admin_pass` on the config drive) is that of `pileus`. Both are locked until then.
"""

from pileus.node.guestimage.builder import build, cached
from pileus.node.guestimage.faults import BuildError

__all__ = ["BuildError", "build", "cached"]
