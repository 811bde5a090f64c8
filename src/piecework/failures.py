"""Why a job failed, down to the pieces that did: a tree of failures, and no more of it than somebody reads."""

from __future__ import annotations

import msgspec

from piecework.job import ErrorInfo, PieceResult, Record, State
from piecework.split import key_of
from piecework.store.protocol import Store

PAGE = 200


class ErrorNode(msgspec.Struct, frozen=True):
    """One failed job in a tree of failures, with the failed pieces below it."""

    id: str
    task: str
    state: State
    key: str | None
    error: ErrorInfo | None
    reason: str | None
    pieces: list[ErrorNode]


def error_tree(store: Store, record: Record, budget: list[int]) -> ErrorNode | None:
    """The failures at and below a job, as far as the budget of nodes goes."""
    below: list[ErrorNode] = []
    after = -1
    batch = record.below
    while batch and budget[0] > 0 and (page := store.pieces(batch, after=after, limit=PAGE, failed=True)):
        for piece in page:
            if budget[0] <= 0:
                break
            node = _piece_node(store, piece, budget)
            if node is not None:
                below.append(node)
        after = page[-1].ordinal
    if record.error is None and record.state not in (State.FAILED, State.CANCELLED, State.PARKED) and not below:
        return None
    budget[0] -= 1
    return ErrorNode(record.id, record.task, record.state, record.piece_key, record.error, record.reason, below)


def _piece_node(store: Store, piece: PieceResult, budget: list[int]) -> ErrorNode | None:
    found = store.get([piece.id])
    if found:
        return error_tree(store, found[0], budget)
    return ErrorNode(piece.id, piece.task, piece.state, key_of(piece), piece.error, None, [])
