"""The API kernel: route tables, versions, schemas, faults, pagination, filters, middleware."""
