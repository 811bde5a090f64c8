"""Filters to conditions of PostgreSQL, and the ways on which it finds fast what they ask for."""

from __future__ import annotations

from typing import Any

from piecework.job import Filter, State
from piecework.store.sql import filters
from piecework.store.sql.filters import RECORD_COLUMNS, only_operations

# A state is part of the text, so that the planner sees which partial index holds all that is asked for.
_ENDED = (State.FAILED, State.CANCELLED, State.PARKED)
_STATES = {state: f"state = '{state}'" for state in State}
_WORDS = filters.Words(
    "id = ANY(ARRAY(SELECT json_array_elements_text(:ids::json)))", "{column} {sign} :{name}::float8", _STATES
)


# What leads to jobs in the order of their arrival: the fences (OFFSET 0) keep the planner from going another way.
_LED = """(SELECT {distinct} AS place FROM {leading} ORDER BY place{way} OFFSET 0) AS led
CROSS JOIN LATERAL (SELECT * FROM piecework_job AS j WHERE j.seq = led.place OFFSET 0) AS job"""


def source(which: Filter, newest: bool | None = None) -> str:
    """The table to ask, and the way to go about it where that matters. With `newest` given, a page, behind `:after`."""
    lead = _lead(which)
    if lead is None:
        return "piecework_job"
    leading, place = lead
    if newest is not None:
        leading += f" AND {place} {'<' if newest else '>'} :after"
    distinct = f"DISTINCT {place}" if which.terms else place
    return _LED.format(distinct=distinct, leading=leading, way=" DESC" if newest else "")


def order(which: Filter) -> str:
    """The column to sort by, which is that of arrival."""
    return "seq" if _lead(which) is None else "place"


def _lead(which: Filter) -> tuple[str, str] | None:
    """By what jobs are found, and its column of their numbers; None where the planner finds the way.

    Operations are found by their terms, or among each other; what has an identity by that. What has a tag is found by
    that, unless something narrower is known, as of the few that run or did not end well.
    """
    narrow = which.key is not None or which.batch is not None or which.state in (*_ENDED, State.RUNNING)
    if which.ids is not None:
        return None
    if which.terms:
        return "piecework_term AS t WHERE t.term = :term0", "t.operation"
    if which.identity is not None:
        task = " AND t.task = :task" if which.task is not None else ""
        return f"piecework_job AS t WHERE t.identity = :identity{task}", "t.seq"
    if which.tags and not narrow:
        return "piecework_tag AS t WHERE t.tag = :tag0", "t.job"
    if only_operations(which) and not narrow:
        return "piecework_operation AS t WHERE true", "t.job"
    return None


def where(which: Filter, *, alone: bool = False) -> tuple[str, dict[str, Any]]:
    """The condition and its parameters; one that stands `alone` is for all jobs, and not for those of `source`."""
    return filters.where(which, _WORDS, alone=alone)


def fragments_of(which: Filter, *, alone: bool, newest: bool | None) -> tuple[dict[str, str], dict[str, Any]]:
    """What fills the places of a statement, and the parameters of that; `newest` is given for a page."""
    condition, params = where(which, alone=alone)
    fragments = {"columns": RECORD_COLUMNS, "where": condition, "order": order(which)}
    return fragments | {"jobs": source(which, newest)}, params
