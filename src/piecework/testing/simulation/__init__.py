"""Histories of the real engine on one thread, with faults at every call of the store."""
