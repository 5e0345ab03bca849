"""Volumes: Cinder's v3 API."""
