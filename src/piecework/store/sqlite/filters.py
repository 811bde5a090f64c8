"""Filters to conditions of SQLite, and the ways on which it finds fast what they ask for."""

from __future__ import annotations

from typing import Any

from piecework.job import Filter, State
from piecework.store.sql import filters
from piecework.store.sql.filters import RECORD_COLUMNS, only_operations

# The library uses a partial index only where the query repeats the index's own condition, word for word.
_ENDED = "(state = 'failed' OR state = 'cancelled' OR state = 'parked')"
_STATES = {
    state: f"{_ENDED} AND state = '{state}'" if f"'{state}'" in _ENDED else f"state = '{state}'" for state in State
}
_WORDS = filters.Words("id IN (SELECT value FROM json_each(:ids))", "{column} {sign} :{name}", _STATES)


# Operations in the order of their arrival, under a name that no column of a job has.
_OPERATIONS = "(SELECT job AS place FROM piecework_operation) CROSS JOIN piecework_job ON seq = place"
_TERM = """(
    SELECT t.operation AS place FROM piecework_term AS t WHERE t.term = :term0 AND NOT EXISTS (
        SELECT 1 FROM piecework_term AS u WHERE u.term = t.term AND u.operation = t.operation AND u.global < t.global
    )
) CROSS JOIN piecework_job ON seq = place"""
_TAG = "(SELECT job AS place FROM piecework_tag WHERE tag = :tag0) CROSS JOIN piecework_job ON seq = place"


def source(which: Filter) -> str:
    """The table to ask, and the way to go about it where that matters.

    What is named by its id is found by it, and not among all that ended; the few that run are found among each other,
    and not in a batch or in all there ever were. Operations are found by their terms, or among each other; what has an
    identity by that; what has a tag by that, unless it did not end well: such are fewer.
    """
    if which.ids is not None:
        return "piecework_job INDEXED BY sqlite_autoindex_piecework_job_1"
    if which.terms:
        return _TERM
    if which.state is State.RUNNING and which.key is None:
        return "piecework_job INDEXED BY piecework_job_running"
    if which.identity is not None:
        return "piecework_job INDEXED BY piecework_job_identity"
    if which.tags and not (which.key or which.batch) and (which.state is None or f"'{which.state}'" not in _ENDED):
        return _TAG
    return _OPERATIONS if _leads_by_operations(which) else "piecework_job"


def behind(which: Filter, newest: bool) -> str:
    """Where a page begins.

    Operations that lead are sought from there; with jobs, that would be taken for the best way.
    """
    if order(which) == "seq":
        return f"(:after IS NULL OR seq {'<' if newest else '>'} :after)"
    return "place < coalesce(:after, 1 << 62)" if newest else "place > coalesce(:after, 0)"


def order(which: Filter) -> str:
    """The column to sort by, which is that of arrival."""
    return "place" if source(which) in (_TERM, _OPERATIONS, _TAG) else "seq"


def _leads_by_operations(which: Filter) -> bool:
    """Whether all operations are walked: not where something narrower is known of them."""
    narrow = which.key is not None or which.batch is not None or which.ids is not None
    return only_operations(which) and not narrow and (which.state is None or f"'{which.state}'" not in _ENDED)


def where(which: Filter, *, alone: bool = False) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters; one that stands `alone` is for all jobs, and not for those of `source`."""
    return filters.where(which, _WORDS, alone=alone)


def fragments_of(which: Filter, *, alone: bool, newest: bool | None) -> tuple[dict[str, str], dict[str, Any]]:
    """What fills the places of a statement, and the parameters of that; `newest` is given for a page."""
    condition, params = where(which, alone=alone)
    fragments = {"columns": RECORD_COLUMNS, "where": condition, "order": order(which)}
    return fragments | {"jobs": source(which), "after": behind(which, bool(newest))}, params
