"""A complete cloud in one package, compatible with the OpenStack APIs."""

