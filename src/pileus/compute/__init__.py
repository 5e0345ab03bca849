"""Compute: servers on nodes, compatible with Nova's API v2.1 and its microversions."""
