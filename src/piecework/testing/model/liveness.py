"""Who is alive, and what becomes of the jobs of the dead."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from piecework.job import CRASH_LIMIT, BatchState, Record, SessionRecord, State
from piecework.store.reaped import numbered
from piecework.testing.model.walk import Walk


class Liveness(Walk):
    """The verbs about sessions."""

    def enlist(self, session: SessionRecord) -> None:
        with self._transaction():
            self._t.sessions.setdefault(session.id, session)

    def renew(self, session: str, *, polled: float | None = None) -> bool:
        with self._transaction():
            alive = self._t.sessions.get(session)
            if alive is None:
                return False
            now = self._clock.now()
            polled_at = alive.polled_at if polled is None else now - polled
            self._t.sessions[session] = replace(alive, beat=alive.beat + 1, seen_at=now, polled_at=polled_at)
            return True

    def sessions(self) -> list[SessionRecord]:
        with self._changed:
            return list(self._t.sessions.values())

    def bury(self, session: str, beat: int | None = None) -> int | None:
        with self._transaction():
            alive = self._t.sessions.get(session)
            if beat is not None and (alive is None or alive.beat != beat):
                return None
            self._t.sessions.pop(session, None)
            self._t.reaped = {worker: True for worker in self._t.reaped if worker.rpartition(".")[0] != session}
            ids = [job.id for job in self._t.jobs.values() if job.state is State.RUNNING and _session(job) == session]
            for id in ids:
                self._take_away(id, "its session ended" if beat is None else "its session stopped beating")
            return len(ids)

    def reap(
        self, worker: str, *, crashed: Iterable[str] = (), reason: str = "", crash_limit: int = CRASH_LIMIT
    ) -> list[str]:
        numbered(worker)
        with self._transaction():
            guilty = set(crashed)
            self._t.reaped[worker] = True
            ids = [job.id for job in self._running(worker)]
            for id in ids:
                self._take_away(id, reason, crash_limit if id in guilty else None)
            return ids

    def _take_away(self, id: str, reason: str, crash_limit: int | None = None) -> None:
        """A run's worker is gone; with a limit, the run is to blame."""
        job = self._t.jobs[id]
        blamed = crash_limit is not None
        crashes = job.crashes + blamed
        self._remember(job, "crashed" if blamed else "released", job.attempt, None, reason)
        self._set_job(id, crashes=crashes, expires_at=None if blamed else job.expires_at)
        if crash_limit is not None and crashes >= crash_limit and not job.stopping:
            self._park(job, reason)
        else:
            self._hand_back(job)

    def _park(self, job: Record, reason: str) -> None:
        """Poison: it counts as failed in its batch, although it is kept."""
        self._set_job(job.id, state=State.PARKED, reason=reason, stopping=False, finished_at=self._clock.now())
        self._t.crashed[job.id] = True
        self._count_piece(job.id)

    def _hand_back(self, job: Record) -> None:
        """To the head of its queue, its `run_at` unchanged; unless it was asked to stop, then it has."""
        own = self._own(job.id)
        if job.id in self._t.to_undo:
            self._undo(job.id)
        elif job.stopping and own is not None and own.state is BatchState.FAILED:
            self._end(job.id, State.FAILED, error=self._why_failed(own.id))
        elif job.stopping:
            self._end(job.id, State.CANCELLED, reason=job.reason)
        else:
            self._set_job(job.id, state=State.AVAILABLE)


def _session(job: Record) -> str | None:
    return job.worker.rpartition(".")[0] if job.worker is not None else None
