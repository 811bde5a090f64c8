"""`piecework check` on operations that are under way: which of them the code of a release would break."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from piecework import Piecework, Step, wait_for
from piecework import step as a_step
from piecework.testing.drain import drain

Call = Callable[..., Any]
STORE = "sqlite:///running.db"

BEGIN = """
from piecework import Piecework, branch, step, wait_for

app = Piecework("sqlite:///other.db")


def charge(step): ...
def set_up(step): ...
def set_it_up(step): ...
def email(step): ...
def paint(step): ...


"""

SAME = 'app.operation("order", main=[charge, set_up, email], red=[paint])'
REORDERED = 'app.operation("order", main=[set_up, charge, email], red=[paint])'
LONGER = 'app.operation("order", main=[charge, set_up, paint, email], red=[paint])'
RENAMED = 'app.operation("order", main=[charge, set_it_up, email], red=[paint])'
ALIASED = 'app.operation("order", main=[charge, step(set_it_up, aliases=["set_up"]), email], red=[paint])'
REMOVED = 'app.operation("order", main=[charge, email], red=[paint])'
RETIRED = 'app.operation("order", main=[charge, email], red=[paint], retired=[set_up])'
NO_BRANCH = 'app.operation("order", main=[charge, set_up, email])'
GONE = 'app.operation("ordering", main=[charge, set_up, email], red=[paint])'
MOVED = 'app.operation("ordering", main=[charge, set_up, email], red=[paint], aliases=["order"])'
NOTHING = ""
A_TASK = 'app.task(name="order")(charge)'


def charge(step: Step[Any]) -> None: ...


def email(step: Step[Any]) -> None: ...


def paint(step: Step[Any]) -> None: ...


STEPS: list[Any] = [charge, email, paint]


@dataclass
class Stated:
    n: int = 0


@pytest.fixture
def running(folder: Path) -> Iterator[Piecework]:
    """A store in which operations of the old code are under way."""
    app = Piecework(STORE)

    def charge(step: Step[Any]) -> None: ...

    def set_up(step: Step[Any]) -> None:
        if step.get("broken"):
            raise ValueError("broken")

    def email(step: Step[Any]) -> None: ...

    def paint(step: Step[Any]) -> None: ...

    app.operation("order", main=[charge, set_up, email], red=[paint], attempts=1)
    yield app
    app.close()


@pytest.fixture
def release(folder: Path, call: Call) -> Iterator[Callable[..., Any]]:
    """Checks the code of a release against that store."""
    made = []

    def check(code: str, *more: str) -> Any:
        name = f"release{len(made)}_{folder.name}".replace("-", "_").replace("[", "").replace("]", "")
        (folder / f"{name}.py").write_text(BEGIN + code + "\n")
        made.append(name)
        return call("check", f"{name}:app", "--store", STORE, *more, app=False)

    yield check
    for name in made:
        sys.modules.pop(name, None)


def under_way(app: Piecework) -> tuple[Any, Any]:
    """One that has failed at set_up, and one that has not begun; and one that has completed, which nothing breaks."""
    order = app.registry["order"]
    task = app.task_of(order)
    bad, done = task.later(broken=True), task.later()
    drain(app)
    assert (bad.status, done.status) == ("failed at main/set_up", "completed")
    return bad, task.using(delay=600).later()


def told(said: Any) -> list[str]:
    return [line for line in said.out.splitlines() if " operation" in line]


@pytest.mark.parametrize("code", [SAME, MOVED], ids=["same", "moved"])
def test_a_release_that_knows_every_step_is_fine(running: Piecework, release: Any, code: str) -> None:
    under_way(running)
    said = release(code)
    assert (said.code, told(said)) == (0, ["ok      operations: 2 not ended or failed"])


@pytest.mark.parametrize(
    "code", [REORDERED, LONGER, ALIASED, RETIRED], ids=["reordered", "longer", "aliased", "retired"]
)
def test_those_that_finish_on_an_older_plan_are_counted(running: Piecework, release: Any, code: str) -> None:
    under_way(running)
    said = release(code)
    assert (said.code, told(said)) == (
        0,
        ["ok      operations: 2 not ended or failed; 2 of them finish on an older plan"],
    )


@pytest.mark.parametrize(("code", "hint"), [
    (RENAMED, 'step(set_it_up, aliases=["set_up"])'), (REMOVED, "retired=[set_up]")
])  # fmt: skip
def test_each_that_would_be_parked_is_told_with_what_to_do(
    running: Piecework, release: Any, code: str, hint: str
) -> None:
    bad, later = under_way(running)
    said = release(code)
    assert said.code == 1
    first, second, last = sorted(told(said))
    lines = {bad.id: "order, failed at main/set_up: ", later.id: "order, scheduled: main/charge: "}
    for line, (id, where) in zip((first, second), sorted(lines.items()), strict=True):
        assert line.startswith(f"ERROR   operation {id}: {where}this code does not have the step set_up before it")
        assert hint in line
    assert last == "ok      operations: 2 not ended or failed"


@pytest.mark.parametrize("code", [GONE, NOTHING, A_TASK], ids=["another name", "nothing", "a task"])
def test_an_operation_that_is_declared_no_more_is_told(running: Piecework, release: Any, code: str) -> None:
    under_way(running)
    said = release(code)
    assert said.code == 1
    assert said.out.count("this code declares no operation 'order'") == 2
    assert said.out.count('aliases=["order"]') == 2


def test_a_step_to_which_only_a_jump_leads_is_a_warning(running: Piecework, release: Any) -> None:
    under_way(running)
    said = release(NO_BRANCH)
    assert said.code == 0
    (line,) = [line for line in told(said) if line.startswith("warning")]
    assert line.startswith(
        "warning operations order: 2 operations would be parked if a step should jump to the step paint"
    )


WITH_UNDO = "app.operation('paying', main=[step(charge, undo=paint), set_up, step(email, undo=paint)], attempts=1)"
WITHOUT_UNDO = "app.operation('paying', main=[charge, set_up, email])"
WITHOUT_STEP = "app.operation('paying', main=[set_up, email])"
KEPT_UNDO = "app.operation('paying', main=[set_up, email], retired=[step(charge, undo=paint)])"


@pytest.mark.parametrize(("code", "lost"), [(WITHOUT_UNDO, 1), (WITHOUT_STEP, 1), (WITH_UNDO, 0), (KEPT_UNDO, 0)])
def test_a_completed_step_whose_undo_is_gone_is_a_warning(
    running: Piecework, release: Any, code: str, lost: int
) -> None:
    def charge(step: Step[Any]) -> None: ...

    def refund(step: Step[Any]) -> None: ...

    def email(step: Step[Any]) -> None: ...

    main = [a_step(charge, undo=refund), wait_for("ok", name="set_up"), a_step(email, undo=refund)]
    paying = running.operation("paying", main=main)
    paying.later()
    drain(running)
    paying.later()  # has completed nothing yet
    said = release(code)
    found = [line for line in said.out.splitlines() if "whose undo this code does not have" in line]
    assert (said.code, len(found)) == (int(code == WITHOUT_STEP), lost)  # the other one would come to it
    assert all("1 operation would be parked" in line and "completed the step charge" in line for line in found)


def paying(running: Piecework, *more: Any, queue: str = "default", **branches: Any) -> Any:
    """Starts one with undos, which waits for a signal behind the two steps that it has completed."""

    def charge(step: Step[Any]) -> None: ...

    def email(step: Step[Any]) -> None: ...

    def undo(step: Step[Any]) -> None: ...

    undone = a_step(undo, queue=queue)
    waits = wait_for("ok", timeout=60, otherwise="late") if branches else wait_for("ok")
    main = [a_step(charge, undo=undo), a_step(email, undo=undone), waits, *more]
    op = running.operation("paying", main=main, **branches).later()
    drain(running)
    assert op.status == "waiting for ok"
    return op


BOTH = "step(charge, undo=paint), step(email, undo=paint)"


@pytest.mark.parametrize("begun", [False, True], ids=["to be undone", "amid its undos"])
@pytest.mark.parametrize(
    ("main", "code"),
    [(f"{BOTH}, wait_for('ok')", 0), (BOTH, 0), ("charge, step(email, undo=paint)", 1), ("step(email, undo=paint)", 1)],
    ids=["same", "the step where it is taken out", "undo taken out", "step taken out"],
)
def test_one_that_is_being_undone_needs_its_undos_and_nothing_else(
    running: Piecework, release: Any, begun: bool, main: str, code: int
) -> None:
    op = paying(running, queue="slow")
    op.cancel(undo=True)
    if begun:
        running.worker(queues=["default"], burst=True).run()
        assert op.status == "undoing main/email"
    said = release(f"app.operation('paying', main=[{main}])")
    errors = [line for line in told(said) if line.startswith("ERROR")]
    assert (said.code, len(errors)) == (code, code)
    assert all(f"operation {op.id}: paying, undoing" in line for line in errors)
    assert all("no undo for the step charge before it" in line for line in errors)
    assert "warning operations" not in said.out


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("main=[{both}, wait_for('ok', timeout=60, otherwise='email')]", "does not have the step tell before it"),
        ("main=[{both}, wait_for('ok', timeout=60, otherwise='late')], late=[tell]", ""),
        ("main=[{both}, wait_for('ok')], retired=[tell]", ""),
        ("main=[{both}, wait_for('ok', timeout=60, otherwise='new')], new=[tell]", ""),
    ],
)
def test_where_a_wait_leads_that_is_over_is_before_the_operation_too(
    running: Piecework, release: Any, code: str, what: str
) -> None:
    def tell(step: Step[Any]) -> None: ...

    op = paying(running, late=[tell])
    said = release("def tell(step): ...\n\n\napp.operation('paying', " + code.format(both=BOTH) + ")")
    errors = [line for line in told(said) if line.startswith("ERROR")]
    assert (said.code, len(errors)) == (bool(what), bool(what))
    assert all(f"operation {op.id}: paying, waiting for ok" in line and what in line for line in errors)


def test_a_wait_that_leads_to_what_only_the_new_plan_has_is_told(running: Piecework, release: Any) -> None:
    main = "main=[charge, wait_for('ok', timeout=60, otherwise='{0}'), email], {0}=[paint]"
    running.operation(
        "asking", main=[*STEPS[:1], wait_for("ok", timeout=60, otherwise="late"), STEPS[1]], late=STEPS[2:]
    )
    op = running.task_of(running.registry["asking"]).later()
    assert release(f"app.operation('asking', {main.format('late')})").code == 0
    said = release(f"app.operation('asking', {main.format('tardy')})")
    (line,) = [line for line in told(said) if line.startswith("ERROR")]
    assert line.startswith(
        f"ERROR   operation {op.id}: asking, due: main/charge: its plan has no tardy/paint, to which a wait"
    )


@pytest.mark.parametrize(("field", "code"), [("colour: str", 1), ("colour: str = 'red'", 0), ("n: int", 0)])
def test_globals_that_do_not_fit_the_new_state_are_told(
    running: Piecework, release: Any, field: str, code: int
) -> None:
    running.operation("stated", main=STEPS[:1], state=Stated)
    op = running.task_of(running.registry["stated"]).later(n=1)
    state = f"@dataclasses.dataclass\nclass Stated:\n    {field}\n\n\n"
    said = release(f"import dataclasses\n\n\n{state}app.operation('stated', main=[charge], state=Stated)")
    errors = [line for line in told(said) if line.startswith("ERROR")]
    assert (said.code, len(errors)) == (code, code)
    assert all(
        f"operation {op.id}: stated, due: main/charge: its globals do not fit the state Stated" in e for e in errors
    )


def test_troubles_of_many_kinds_are_told_in_few_lines(running: Piecework, release: Any) -> None:
    names = [f"s{n}" for n in range(12)]
    ops = running.operation("long", main=[a_step(STEPS[0], name=name) for name in names]).later_many([{}] * 36)
    for n, op in enumerate(ops):
        op.jump_to(names[n % 12])
    said = release("app.operation('long', main=[charge])")
    errors = [line for line in told(said) if line.startswith("ERROR")]
    assert len([line for line in errors if line.startswith("ERROR   operation ")]) == 20
    assert len(errors) == 32
    assert errors[-1].startswith(
        "ERROR   operations long: … and 2 more: this code does not have the step s11 before it"
    )


def test_many_are_told_by_a_few_and_counted(running: Piecework, release: Any) -> None:
    running.task_of(running.registry["order"]).later_many([{} for _ in range(530)])
    said = release(REMOVED)
    assert said.code == 1
    assert len([line for line in told(said) if line.startswith("ERROR   operation 0")]) == 20
    assert "ERROR   operations order: … and 510 more: " in said.out
    assert "ok      operations: 530 not ended or failed" in said.out


def test_the_findings_as_json(running: Piecework, release: Any) -> None:
    bad, _ = under_way(running)
    said = release(REMOVED, "--json")
    assert said.code == 1
    assert [f["level"] for f in said.data if f["subject"] == f"operation {bad.id}"] == ["error"]


def test_check_changes_nothing(running: Piecework, release: Any) -> None:
    bad, later = under_way(running)
    before = bad.record(), later.record()
    release(GONE)
    assert (bad.record(), later.record()) == before


def test_without_code_operations_are_not_judged(running: Piecework, call: Call) -> None:
    under_way(running)
    said = call("check", "--store", STORE, app=False)
    assert said.code == 0
    assert told(said) == []


def test_the_app_is_named_once(running: Piecework, call: Call) -> None:
    assert call("check", "a:app", "-a", "b:app", app=False).code == 2
