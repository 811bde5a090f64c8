"""The engine: what takes due jobs and sees them through. It never names a concrete store."""
