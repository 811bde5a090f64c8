"""Whoever sends a verb about an operation dies before its commit and behind it, and the verb is sent again, and again."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from crashkit import Yard
from crashwalks import told
from support import until

from piecework.ids import new_id

Check = Callable[[Any], None]


def waiting(yard: Yard) -> Any:
    """An operation that waits for its last signal."""
    op = yard.app_module.operations.approved.later(n=2)
    op.signal("early", "first")
    until(lambda: op.waits_for == "approval", lambda: f"it waits: {op.status}\n{yard.logs()}")
    return op


def failing(yard: Yard) -> Any:
    """An operation that has failed in its first step, for want of a global that it has by now."""
    op = yard.app_module.operations.order.later(fails=0)
    until(lambda: op.state == "failed", lambda: f"it fails: {op.status}\n{yard.logs()}")
    op.set(n=5)
    return op


class unborn:
    """An operation that is not stored yet; afterwards it is the only one there is."""

    def __init__(self, yard: Yard) -> None:
        self.id = new_id()
        self._order = yard.app_module.operations.order

    def __getattr__(self, name: str) -> Any:
        (only,) = self._order.where()
        return getattr(only, name)


def completed_order(op: Any) -> None:
    assert told(op) == ["reserve", "pay", "pack", "again", "reserve", "pay", "pack", "again", "email", "end"]
    assert op.state == "completed"


def got_its_signal(op: Any) -> None:
    assert (op.state, op.globals["approval"]) == ("completed", "yes")
    assert [(kept.name, kept.taken_at is not None) for kept in op._app.store.signals(op.id)] == [
        ("early", True),
        ("approval", True),
    ]


def is_edited(op: Any) -> None:
    assert op.waits_for == "approval"
    assert op.globals["edit"] == 7
    assert [line.what for line in op.amendments()] == ["edited"]
    op.signal("approval")
    until(lambda: op.state == "completed", lambda: op.status)


def jumped(op: Any) -> None:
    assert (op.state, told(op)) == ("completed", ["reserve", "early", "end"])
    assert [line.what for line in op.amendments()] == ["jumped"]
    assert "approval" not in op.globals


def is_undone(op: Any) -> None:
    assert (op.state, op.globals["undone"]) == ("cancelled", ["reserve"])
    assert op.record().reason == "a test says so"


VERBS: dict[str, tuple[Callable[[Yard], Any], Check]] = {
    "add": (unborn, completed_order),
    "add by key": (unborn, completed_order),
    "signal": (waiting, got_its_signal),
    "edit": (waiting, is_edited),
    "jump": (waiting, jumped),
    "undo": (waiting, is_undone),
    "retry": (failing, completed_order),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_whose_sender_dies_and_which_is_sent_again_holds_once(yard: Yard, verb: str) -> None:
    tree = yard.work("-c", "2").ready()
    prepare, check = VERBS[verb]
    op = prepare(yard)
    deaths = "store.before_commit=kill:1", "store.after_commit=kill:1"
    assert yard.send(verb, op.id, *deaths, "", "") == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    if verb == "edit":
        check(op)
    yard.drained()
    assert tree.stop() == 0
    assert yard.wrong() == []
    if verb != "edit":
        check(op)
