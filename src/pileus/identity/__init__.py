"""Identity, compatible with Keystone's v3 API."""
