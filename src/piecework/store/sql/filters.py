"""Filters to conditions: what the shelves on SQL say in the same words, or with a few of their own put in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from piecework.job import Filter, State

RECORD_COLUMNS = (
    "id, task, queue, priority, state, run_at, run, attempt, crashes, created_at, started_at, finished_at, worker, "
    "batch, coalesce(root, batch), below, ordinal, piece, key, cursor, options, reason, stopping, progress, error, args, "
    "result, expires_at, stopped_by, stopped_at, identity, tags, status, status_at"
)


class Words(NamedTuple):
    """What a shelf says in its own way."""

    of_ids: str  # that a job is one of `:ids`
    moment: str  # that a {column} is {sign} than the moment :{name}
    states: Mapping[State, str]  # that a job is in a state


def only_operations(which: Filter) -> bool:
    """Whether none but operations are asked for."""
    return bool(which.operations) or which.terms is not None


_TIMES = (
    ("created_at", "created_from", ">="),
    ("created_at", "created_before", "<"),
    ("finished_at", "finished_from", ">="),
    ("finished_at", "finished_before", "<"),
)


def where(which: Filter, words: Words, *, alone: bool) -> tuple[str, dict[str, Any]]:
    """A condition made of fixed fragments, and its parameters; no value ever becomes part of the text.

    It goes with the table that the shelf asks; one that stands `alone` is for all jobs.
    """
    parts: list[str] = []
    params: dict[str, Any] = {}
    if which.ids is not None:
        parts.append(words.of_ids)
        params["ids"] = msgspec.json.encode(which.ids).decode()
    for name in ("queue", "task", "batch", "key", "worker", "identity"):
        value = getattr(which, name)
        if value is not None:
            parts.append(f"{name} = :{name}")
            params[name] = value
    if which.root is not None:
        parts.append("coalesce(root, batch) = :root")
        params["root"] = which.root
    if which.state is not None:
        parts.append(words.states[State(which.state)])
    for column, name, sign in _TIMES:
        moment = getattr(which, name)
        if moment is not None:
            parts.append(words.moment.format(column=column, sign=sign, name=name))
            params[name] = moment
    parts += _of_tags(which, alone)
    params |= {f"tag{n}": tag for n, tag in enumerate(which.tags or ())}
    parts += _of_operations(which, alone)
    params |= {f"term{n}": term for n, term in enumerate(which.terms or ())}
    return " AND ".join(parts) or "true", params


def _of_tags(which: Filter, alone: bool) -> list[str]:
    has_tag = "EXISTS (SELECT 1 FROM piecework_tag AS g WHERE g.tag = :tag{} AND g.job = seq)"
    parts = [has_tag.format(n) for n in range(len(which.tags or ()))]
    if alone and parts:
        parts[0] = "seq IN (SELECT job FROM piecework_tag WHERE tag = :tag0)"
    return parts


def _of_operations(which: Filter, alone: bool) -> list[str]:
    if alone and only_operations(which):
        lead = "operation FROM piecework_term WHERE term = :term0" if which.terms else "job FROM piecework_operation"
        parts = [f"seq IN (SELECT {lead})"]
    elif only_operations(which):
        parts = ["EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = seq)"]
    else:
        parts = []
    if which.operations is False:
        parts.append("NOT EXISTS (SELECT 1 FROM piecework_operation AS o WHERE o.job = seq)")
    has_term = "EXISTS (SELECT 1 FROM piecework_term AS t WHERE t.term = :term{} AND t.operation = seq)"
    return parts + [has_term.format(n) for n in range(len(which.terms or ()))]
