"""A complete cloud in one package, compatible with the OpenStack APIs."""



def version() -> str:
    """The installed release."""
    from importlib.metadata import version as installed

    return installed("pileus")
