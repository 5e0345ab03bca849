"""What can go wrong with a lab."""


class LabError(Exception):
    """A lab, or a machine or part of it, is not as it must be; says which, why, and where to look."""
