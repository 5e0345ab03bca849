"""A complete cloud in one package, compatible with the OpenStack APIs."""

import atexit
import gc

# When an interpreter ends it collects what its modules leave, in an order in which msgspec (0.22) may free a struct's
# type twice: processes crashed after all was done, now and then (msgspec issue 717). What is frozen is left alone.
atexit.register(gc.freeze)


def version() -> str:
    """The installed release."""
    from importlib.metadata import version as installed

    return installed("pileus")
