"""Operations that stay in their worker: what the end of a step comes to, and the run that follows it without a fetch.

An operation of short steps is fetched once: each end is recorded in one trip, and the answer to it says that the next
step may run here. After a second it goes back to its line, so that others get their turn, and edits by hand are seen.
"""

from __future__ import annotations

from piecework.clock import Clock
from piecework.engine.context import Running
from piecework.engine.runner import Runner
from piecework.engine.spots import Spot
from piecework.failpoints import failpoint
from piecework.outcome import Outcome, Settlement
from piecework.walk import next_run, settle_operation

HOLD_SECONDS = 1.0


class Keeping:
    """Decides for one worker which operations run on in it."""

    def __init__(self, runner: Runner, clock: Clock) -> None:
        self._runner = runner
        self._clock = clock

    def settlement(self, running: Running, spot: Spot, outcome: Outcome, draw: float, *, keep: bool) -> Settlement:
        """What the end of a run comes to; with `keep`, the next may follow here."""
        now = self._clock.monotonic()
        keep = keep and now < running.held_since + HOLD_SECONDS and now < self._runner.begin_until
        return settle_operation(running.job, outcome, spot.walk, spot.options, draw, self._clock.now(), keep=keep)

    def next(self, ended: Running, settlement: Settlement) -> Running | tuple[Running, Outcome]:
        """The run that follows one whose end was recorded; with what it comes to, where it cannot run here."""
        failpoint("step.kept")
        job = next_run(ended.job, settlement, self._clock.now())
        prepared = self._runner.prepare(job)
        if not isinstance(prepared, Running):
            return Running(job, None, None), prepared
        prepared.held_since = ended.held_since
        return prepared


def put_down(in_hand: dict[str, Running], settlement: Settlement) -> Running | None:
    """Takes out the run that ended; None where its worker has fetched the job again since, and is at a later run."""
    running = in_hand.get(settlement.id)
    if running is None or running.job.run != settlement.run:
        return None
    return in_hand.pop(settlement.id)
