"""Whoever sends a verb about an operation dies before its commit and behind it, and the verb is sent again, and again."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from crashkit import Yard
from crashwalks import told
from support import books, until

from piecework import Operation
from piecework.ids import new_id

DEATHS = "store.before_commit=kill:1", "store.after_commit=kill:1"
DIED = [-signal.SIGKILL, -signal.SIGKILL, 0]
WHOLE = ["reserve", "pay", "pack", "again", "reserve", "pay", "pack", "again", "email", "end"]
Op = Any  # an operation, or several of them


class Scene(NamedTuple):
    """What a verb is about, what it comes to, and whether that waits for a signal still."""

    prepare: Callable[[Yard], Iterator[Op]]  # gives it once it is begun, and is at its end when the verb can be sent
    check: Callable[[Op], None]
    waits: bool = False


# ── before ───────────────────────────────────────────────────────────────────────────────────────


class Many:
    """Several operations that one verb is about."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops
        self.id = ops[0].id


def unborn(yard: Yard) -> Iterator[Op]:
    """An operation that is not stored yet."""
    yield Operation(yard.app, new_id())


def unborn_many(yard: Yard) -> Iterator[Op]:
    id = new_id()
    yield Many([Operation(yard.app, id), *(Operation(yard.app, f"{id}{n}") for n in range(3))])


def waiting(yard: Yard, **globals: Any) -> Iterator[Op]:
    """An operation that waits for its last signal."""
    op = yard.app_module.operations.approved.later(n=2, **globals)
    op.signal("early", "first")
    yield op
    until(lambda: op.waits_for == "approval", lambda: f"it waits: {op.status}\n{yard.logs()}")


def waiting_many(yard: Yard) -> Iterator[Op]:
    scenes = [waiting(yard, group="undone") for _ in range(3)]
    yield Many([next(scene) for scene in scenes])
    for scene in scenes:
        yield from scene


def cancelled(yard: Yard) -> Iterator[Op]:
    scene = waiting(yard)
    op = next(scene)
    yield op
    yield from scene
    op.cancel()


def failing(yard: Yard, **globals: Any) -> Iterator[Op]:
    """An operation that has failed in its first step, for want of a global that it has by now."""
    op = yard.app_module.operations.order.later(fails=0, **globals)
    yield op
    until(lambda: op.state == "failed", lambda: f"it fails: {op.status}\n{yard.logs()}")
    op.set(n=5)


def failing_many(yard: Yard) -> Iterator[Op]:
    scenes = [failing(yard, group="retried") for _ in range(3)]
    yield Many([next(scene) for scene in scenes])
    for scene in scenes:
        yield from scene


# ── afterwards ───────────────────────────────────────────────────────────────────────────────────


def completed_order(op: Op) -> None:
    assert told(op) == WHOLE
    assert op.state == "completed"


def one_order_of_its_key(op: Op) -> None:
    (only,) = [one for one in op._app.operations.where() if one.record().key == "only once"]
    completed_order(only)


def completed_all(many: Many) -> None:
    for op in many.ops[1:]:
        completed_order(op)


def retried_all(many: Many) -> None:
    for op in many.ops:
        completed_order(op)
        assert deeds(op) == ["edited", "retried"]


def deeds(op: Op) -> list[str]:
    return [line.what for line in op.amendments()]


def got_its_signal(op: Op) -> None:
    assert (op.state, op.globals["approval"]) == ("completed", "yes")
    assert [(kept.name, kept.taken_at is not None) for kept in op._app.store.signals(op.id)] == [
        ("early", True),
        ("approval", True),
    ]


def forked(op: Op) -> None:
    fork = Operation(op._app, f"fork-of-{op.id}")
    assert (op.state, fork.state, fork.forked_from) == ("completed", "completed", op.id)
    assert (told(op), told(fork)) == (["reserve", "early", "approval", "end"], ["early", "approval", "end"])
    assert (fork.globals["n"], fork.globals["reserved"], op.globals["n"]) == (4, 4, 2)


def is_edited(op: Op) -> None:
    assert (op.state, op.globals["edit"], deeds(op)) == ("completed", 7, ["edited"])


def is_unset(op: Op) -> None:
    assert (op.state, "n" in op.globals, deeds(op)) == ("completed", False, ["edited"])


def jumped(op: Op) -> None:
    assert (op.state, told(op), deeds(op)) == ("completed", ["reserve", "early", "end"], ["jumped"])
    assert "approval" not in op.globals


def skipped(op: Op) -> None:
    assert (op.state, told(op), deeds(op)) == ("completed", ["reserve", "early", "end"], ["skipped"])
    assert [run.name for run in op.runs() if run.outcome == "skipped"] == ["approval"]


def is_cancelled(op: Op) -> None:
    assert (op.state, op.record().reason, told(op)) == ("cancelled", "a test says so", ["reserve", "early"])
    assert deeds(op) == ["cancelled"]


def resumed(op: Op) -> None:
    assert (op.state, told(op), deeds(op)) == (
        "completed",
        ["reserve", "early", "approval", "end"],
        ["cancelled", "resumed"],
    )


def is_undone(op: Op) -> None:
    assert (op.state, op.globals["undone"]) == ("cancelled", ["reserve"])
    assert op.record().reason == "a test says so"


def undone_all(many: Many) -> None:
    for op in many.ops:
        is_undone(op)
        assert deeds(op) == ["undoing"]


VERBS = {
    "add": Scene(unborn, completed_order),
    "add by key": Scene(unborn, one_order_of_its_key),
    "add many": Scene(unborn_many, completed_all),
    "fork": Scene(waiting, forked, waits=True),
    "signal": Scene(waiting, got_its_signal),
    "edit": Scene(waiting, is_edited, waits=True),
    "unset": Scene(waiting, is_unset, waits=True),
    "jump": Scene(waiting, jumped),
    "skip": Scene(waiting, skipped),
    "cancel": Scene(waiting, is_cancelled),
    "resume": Scene(cancelled, resumed, waits=True),
    "undo": Scene(waiting, is_undone),
    "undo many": Scene(waiting_many, undone_all),
    "retry": Scene(failing, completed_order),
    "retry many": Scene(failing_many, retried_all),
}


def test_verbs_whose_sender_dies_and_which_are_sent_again_hold_once(yard: Yard) -> None:
    tree = yard.work("-c", "2").ready()
    scenes = {verb: scene.prepare(yard) for verb, scene in VERBS.items()}
    about = {verb: next(scene) for verb, scene in scenes.items()}
    assert [*chain.from_iterable(scenes.values())] == []
    codes = yard.send({verb: op.id for verb, op in about.items()}, *DEATHS, "")
    assert codes == dict.fromkeys(VERBS, DIED)
    fork = Operation(yard.app, f"fork-of-{about['fork'].id}")
    fork.signal("early")
    for op in [fork, *(about[verb] for verb, scene in VERBS.items() if scene.waits)]:
        until(lambda op=op: op.waits_for == "approval", lambda op=op: f"it waits: {op.status}\n{yard.logs()}")
        op.signal("approval")
    yard.drained()
    assert tree.stop() == 0
    assert yard.wrong() == []
    for verb, scene in VERBS.items():
        print(verb)
        scene.check(about[verb])
    assert yard.send({"prune": about["add"].id}, *DEATHS, "") == {"prune": DIED}
    assert yard.app.jobs.counts() == {}
    assert books(yard.place) == []
