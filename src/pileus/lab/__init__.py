"""A lab: many nodes on one machine, each a host of its own with its network, files and processes.

`pileus lab` builds one and takes it down; tests do the same through `Lab`.
"""

from pileus.lab.faults import LabError
from pileus.lab.lab import Lab
from pileus.lab.layouts import LAYOUTS, Layout, layout

__all__ = ["LAYOUTS", "Lab", "LabError", "Layout", "layout"]
