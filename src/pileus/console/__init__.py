"""Guests' screens in the browser: noVNC's page and the web socket behind it."""
