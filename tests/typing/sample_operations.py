"""Right and wrong uses of operations, for type checkers to read; nobody runs it. A line that is wrong ends in `# error`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_type

from piecework import Job, Operation, OperationTask, Piece, Piecework, Step, branch, step, wait_for
from piecework.changed import Changed

app = Piecework("sqlite:///jobs.db")


@dataclass
class Order:
    subscription_id: int
    charge_id: str = ""


def charge(step: Step[Order]) -> None:
    assert_type(step.state, Order)
    step.state.charge_id = f"charge of {step.state.subscription_id}"
    step.state.charge = 1  # error
    step.jump_to(email)
    step.jump_to("main", "email")
    step.jump_to({"main": email})
    step.sleep("soon")  # error
    step.wait_for(7)  # error


def email(step: Step[Order]) -> None:
    step["sent"] = True
    step.set(7, True)  # error


def plain(step: Step) -> None:
    assert_type(step.state, dict[str, Any])
    assert_type(step.globals, dict[str, Any])


class SetUp:
    def call(self, step: Step[Order]) -> None: ...


@app.task
def square(n: int) -> int:
    return n * n


def pieces(step: Step) -> Iterator[Piece[int]]:
    yield square.piece(1)


# ── declared ─────────────────────────────────────────────────────────────────────────────────────

fulfil = app.operation(
    "fulfilment",
    main=[
        charge,
        step(SetUp, attempts=3, queue="slow", delay=60, undo=email),
        wait_for("approval", timeout=60),
        square,
    ],
    red=branch(email, then="charge"),
    state=Order,
    queue="orders",
    attempts=3,
)
loose = app.operation("loose", main=[plain, step(pieces, on_failure="compose")], branches={"odd name": [square]})
a_declared_one: OperationTask[Any, Order] = fulfil
a_wrong_one: OperationTask[Any, int] = fulfil  # error
app.operation("no main")  # error
app.operation("a function", main=charge)  # error
app.operation(7, main=[charge])  # error
app.operation("limit", main=[charge], max_steps="many")  # error
app.operation("state", main=[charge], state=7)  # error
step(charge, atempts=3)  # error
step(charge, attempts="many")  # error
step(charge, pool="processes")  # error
step(charge, on_failure="explode")  # error
step(charge, at=60)  # error
wait_for("ok", timeout="soon")  # error
wait_for("ok", otherwise=7)  # error
branch(charge, then=7)  # error

# ── now and later ────────────────────────────────────────────────────────────────────────────────

assert_type(fulfil(subscription_id=7), Order)
assert_type(fulfil(Order(7)), Order)
assert_type(loose(anything=1), dict[str, Any])
assert_type(fulfil.later(subscription_id=7), Operation[Order])
assert_type(fulfil.later(7, "x"), Operation[Order])
assert_type(fulfil.later(Order(7)), Operation[Order])
assert_type(loose.later(anything=[1]), Operation[dict[str, Any]])
assert_type(fulfil.using(key="k", again=True, queue="low", delay=60).later(Order(7)), Operation[Order])
assert_type(fulfil.piece(subscription_id=7), Piece[Order])
assert_type(fulfil.later_many([{"subscription_id": 7}]), list[Operation[Order]])
fulfil()  # error
fulfil(subscription_id="7")  # error
fulfil.later(subscripton_id=7)  # error
fulfil.later("7")  # error
fulfil.using(again="yes")  # error
fulfil.using(agan=True)  # error
fulfil.piece("7")  # error

# ── the handle ───────────────────────────────────────────────────────────────────────────────────

op = fulfil.later(Order(7))
a_job: Job[Order] = op
assert_type(op.result(timeout=5), Order)
assert_type(op.values, Order)
assert_type(op.globals, dict[str, Any])
assert_type(op.status, str)
assert_type(op.retry("fixed", by="me"), bool)
assert_type(op.cancel("no", undo=True), bool)
assert_type(op.signal("approval", {"by": "me"}), bool)
assert_type(op.fork(after=1, charge_id=""), Operation[Order])
op.jump_to(email, reason="a red one")
op.skip("by phone", resume=False)
op.set(charge_id="x", reason="a slip")
op.signal(7)  # error
op.cancel(undo="yes")  # error
op.skip(7)  # error
op.set(7)  # error
op.unset(7)  # error
wrong: Operation[int] = op  # error
for run in op.runs():
    assert_type(run.finished_at, datetime)
    assert_type(run.globals, dict[str, Any] | None)

# ── found ────────────────────────────────────────────────────────────────────────────────────────

assert_type(fulfil.where(subscription_id=7).first(), Operation[Order] | None)
assert_type(fulfil.where({"odd name": 7}).only(state="failed", step="email").count(), int)
assert_type(fulfil.where().retry("again"), Changed)
assert_type(fulfil.where().retry("again").refused, list[tuple[str, str]])
assert_type(fulfil.get(key="k"), Operation[Order])
assert_type(app.operations.where(subscription_id=7).first(), Operation[Any] | None)
fulfil.where(7)  # error
fulfil.where().only(stat="failed")  # error
fulfil.get(key=7)  # error


async def from_a_coroutine() -> None:
    assert_type(await fulfil.alater(subscription_id=7), Operation[Order])
    assert_type(await (await fulfil.alater(Order(7))).aresult(), Order)
    assert_type(await op.asignal("approval"), bool)
    assert_type(await fulfil.where().acount(), int)
    await fulfil.alater("7")  # error


step(charge, at=datetime.now(UTC))
