"""The shelf on PostgreSQL: jobs in a schema of their own, beside your tables or in a database for themselves."""
