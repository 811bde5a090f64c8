"""Right and wrong questions about a status, for type checkers to read; nobody runs it. A wrong line ends in `# error`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import assert_type

from piecework import Job, Piecework, State, Status, current

app = Piecework("sqlite:///jobs.db")


@app.task(identity=lambda user_id, number, attrs: user_id, one_per_identity=True, tags=["checkout"])
def validate_card(user_id: int, number: str, attrs: dict[str, str]) -> bool:
    current.set_status({"success": True})
    current.set_status("fine")  # error
    current.set_status(7)  # error
    return True


@app.task(identity="user_id", tags="one")
async def slow(user_id: int) -> str:
    return str(user_id)


assert_type(validate_card.in_progress(7), bool)
assert_type(validate_card.in_progress(7, "4123", {}), bool)
assert_type(validate_card.in_progress(user_id=7, number="4123", attrs={}), bool)
assert_type(validate_card.status(7), Status | None)
assert_type(validate_card.using(identity=7).status(), Status | None)
assert_type(validate_card.latest(7), Job[bool] | None)
assert_type(slow.latest(7), Job[str] | None)
validate_card.in_progress(user=7)  # error
validate_card.in_progress(user_id=7)  # error
validate_card.status(user_id="seven", number="4123", attrs={})  # error

status = validate_card.status(7)
status["success"]  # error
if status is not None:
    assert_type(status.state, State)
    assert_type(status.at, datetime)
    status["success"]


async def ask() -> None:
    assert_type(await validate_card.ain_progress(7), bool)
    assert_type(await validate_card.astatus(7, "4123", {}), Status | None)
    assert_type(await slow.alatest(7), Job[str] | None)


validate_card.using(identity=None, one_per_identity=False, tags="x").later(7, "4123", {})
validate_card.using(one_per_identity="yes")  # error
validate_card.using(tags=7)  # error
app.task(identity=7)  # error
app.task(one_per_identity=1.5)  # error
app.jobs.where(identity=("acme", 7), tags=["a", "b"], created_after=datetime.now(UTC))
app.jobs.where(tags="a", finished_before="yesterday")  # error
