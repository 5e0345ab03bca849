"""Placement: who has how much of what, and who uses it. Compatible with the Placement API 1.0 to 1.39."""
