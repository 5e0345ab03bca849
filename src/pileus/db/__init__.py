"""Engine, transactions, tables and migrations: one database, one transaction across all services."""
