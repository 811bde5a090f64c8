"""What `piecework check` says of the tables on every shelf on SQL."""

from __future__ import annotations

from piecework.job import Finding


def unfit(found: int, needed: int) -> Finding | None:
    """What is wrong with a schema of another version than this piecework's; None where nothing is."""
    if found < needed:
        return Finding("error", "schema", f"version {found}, needed {needed}; run: piecework migrate")
    if found > needed:
        return Finding("error", "schema", f"version {found} is newer than this piecework ({needed}); update piecework")
    return None
