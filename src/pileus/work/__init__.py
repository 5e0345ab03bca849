"""Durable tasks, the bus that only wakes, leases, and periodic work."""
