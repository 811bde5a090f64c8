"""The shelf on Redis and Valkey: jobs in memory, behind scripts that each are one transaction."""
