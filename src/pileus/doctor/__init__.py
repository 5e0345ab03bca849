"""Judges a cloud from outside: does what the database says agree with itself and with what the host shows?

The judge reads tables and `/proc` directly, not the rooms' functions: those are what is judged.
"""
