"""The embedded shelf: one SQLite file, WAL, many processes."""
