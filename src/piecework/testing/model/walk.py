"""What an operation keeps of its way: its globals, what it waits for, and whether it goes back."""

from __future__ import annotations

import json
from collections.abc import Iterable

from msgspec.structs import replace

from piecework.job import BatchState, Change, OperationRun, Record, State, Wait
from piecework.outcome import Advance
from piecework.testing.model.fanin import FanIn


class Walk(FanIn):
    """Operations: moved on, made to listen, told, and turned round."""

    def _advance(self, id: str, advance: Advance) -> None:
        """A step has ended: its changes hold, and the next one begins anew."""
        job, operation = self._t.jobs[id], self._t.operations[id]
        self._leave_batch(id)
        self._set_job(
            id,
            attempt=0,
            crashes=0,
            progress=None,
            expires_at=None,
            queue=job.queue if advance.queue is None else advance.queue,
            priority=job.priority if advance.priority is None else advance.priority,
        )
        ending = (
            operation.ending or advance.ending
        )  # who asked for it to be undone is not told that it failed meanwhile
        self._set_operation(id, wait=advance.wait, received=None, ending=ending)
        self._change_globals(id, advance.changes)

    def _leave_batch(self, id: str) -> None:
        """It waits for no batch any more; one that is still open there is stopped, for nobody would look at it."""
        self._stop_below(id)
        self._set_job(id, below=None)

    def _stop_below(self, id: str) -> None:
        own = self._own(id)
        if own is not None and own.state is BatchState.OPEN:
            self._close(own, BatchState.STOPPED)

    # ── globals ──────────────────────────────────────────────────────────────────────────────────

    def _change_globals(self, id: str, changes: Iterable[Change]) -> None:
        """Key by key: what is not named stays as it is."""
        present = self._t.globals[id] | {change.key: change for change in changes}
        self._t.globals[id] = {key: change for key, change in present.items() if change.value is not None}

    def _globals(self, id: str) -> str:
        """The globals as a JSON object; the values are JSON already."""
        return "{" + ",".join(f"{json.dumps(key)}:{change.value}" for key, change in self._t.globals[id].items()) + "}"

    def _operation_run(self, id: str) -> OperationRun | None:
        operation = self._t.operations.get(id)
        if operation is None:
            return None
        globals = self._globals(id)
        return OperationRun(operation.digest, globals, operation.wait, operation.received, operation.ending)

    # ── signals ──────────────────────────────────────────────────────────────────────────────────

    def _lacks_signal(self, id: str) -> bool:
        operation = self._t.operations.get(id)
        return operation is not None and operation.wait is not None and operation.received is None

    def _awaited_signal(self, job: Record) -> Wait | None:
        """What the operation waits for now, if it is a signal, and not its pieces."""
        own = self._own(job.id)
        for_pieces = own is not None and own.state is BatchState.OPEN
        waits = job.state is State.WAITING and self._lacks_signal(job.id) and not for_pieces
        return self._t.operations[job.id].wait if waits else None

    def _has_timeout(self, job: Record) -> bool:
        """It waits for a signal, and is due at `run_at` without one."""
        wait = self._awaited_signal(job)
        return wait is not None and wait.timeout is not None

    def _listen(self, id: str) -> None:
        """The wait begins: its timeout counts from now, and what came before it counts as well."""
        wait = self._awaited_signal(self._t.jobs[id])
        if wait is not None:
            self._set_job(id, run_at=self._clock.now() + (wait.timeout or 0.0))
            self._hear(id)

    def _hear(self, id: str) -> None:
        """An operation that waits takes the oldest signal of that name, and may run."""
        wait, signals = self._awaited_signal(self._t.jobs[id]), self._t.signals.get(id, ())
        for place, signal in enumerate(signals):
            if wait is not None and signal.name == wait.name and signal.taken_at is None:
                now = self._clock.now()
                self._t.signals[id] = (*signals[:place], replace(signal, taken_at=now), *signals[place + 1 :])
                self._set_operation(id, received=signal.payload)
                self._set_job(id, state=State.AVAILABLE, run_at=max(now + (wait.delay or 0.0), wait.run_at or 0.0))
                return

    def _wake(self) -> None:
        """What has waited for as long as it said may run, without a signal."""
        for job in list(self._t.jobs.values()):
            if self._has_timeout(job) and job.run_at <= self._clock.now():
                self._set_job(job.id, state=State.AVAILABLE)

    def _stop_listening(self, id: str) -> None:
        self._set_operation(id, wait=None, received=None)

    # ── going back ───────────────────────────────────────────────────────────────────────────────

    def _undo(self, id: str) -> None:
        """An operation with an ending may run at once: its worker undoes what it did. All that it waited for is over."""
        self._t.to_undo.pop(id, None)
        self._leave_batch(id)
        self._stop_listening(id)
        self._t.crashed.pop(id, None)
        ending = self._t.operations[id].ending
        self._set_job(
            id,
            state=State.AVAILABLE,
            run_at=self._clock.now(),
            attempt=0,
            crashes=0,
            error=None,
            reason=None if ending is None else ending.reason,
            finished_at=None,
            expires_at=None,
            stopping=False,
        )
