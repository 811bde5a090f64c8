"""Who works, and when they looked for work last: what `piecework health` says and health endpoints answer.

Ages are told by the store's own clock, by which the sessions were written too; no clock of another machine is compared.
A session tells of its workers with each beat, about every five seconds, so an age may be that much more than it is.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from piecework.errors import StoreError
from piecework.job import SessionRecord
from piecework.store import Store

MAX_AGE = 30.0  # seconds after which a worker that has not looked for work is called silent


class WorkerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One session: a supervisor with its worker processes, or an embedded worker.

    `polled_seconds_ago` is about the life of its loops, not about its jobs: a worker that is busy goes on polling. With
    several processes it is that of the one which was silent for longest; None before the first time.
    """

    name: str
    session: str
    host: str
    pid: int
    started_seconds_ago: float
    beat_seconds_ago: float
    polled_seconds_ago: float | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at the store found; `status` is ``"ok"``, ``"silent"`` (nobody works) or ``"no store"``."""

    status: str
    store: str
    error: str | None = None
    workers: list[WorkerHealth] = []
    jobs: dict[str, int] = {}

    @property
    def ok(self) -> bool:
        """Whether the store is there and at least one worker polled lately."""
        return self.status == "ok"


def look(store: Store, *, max_age: float = MAX_AGE, name: str | None = None) -> Health:
    """Looks at the store once; where it cannot be used, that is the answer.

    `name` asks for workers of this name only.
    """
    try:
        if not store.is_set_up():
            return Health(status="no store", store=store.url, error="nothing is set up there yet; is the path right?")
        now = store.now()
        sessions = [session for session in store.sessions() if name in (None, session.name)]
        jobs: Counter[str] = Counter()
        for (_, state), n in store.counts().items():
            jobs[state] += n
    except StoreError as error:
        return Health(status="no store", store=store.url, error=str(error))
    workers = [_worker(session, now) for session in sessions]
    alive = any(w.polled_seconds_ago is not None and w.polled_seconds_ago <= max_age for w in workers)
    return Health(status="ok" if alive else "silent", store=store.url, workers=workers, jobs=dict(jobs))


def _worker(session: SessionRecord, now: float) -> WorkerHealth:
    def ago(moment: float) -> float:
        return round(max(0.0, now - moment), 3)

    return WorkerHealth(
        name=session.name,
        session=session.id,
        host=session.host,
        pid=session.pid,
        started_seconds_ago=ago(session.started_at),
        beat_seconds_ago=ago(session.seen_at),
        polled_seconds_ago=None if session.polled_at is None else ago(session.polled_at),
    )


def sentence(health: Health, *, max_age: float = MAX_AGE) -> str:
    """What was found, for a person."""
    if health.error is not None:
        return f"{health.store}: {health.error}"
    said = ", ".join(_said(worker) for worker in health.workers)
    if not health.workers:
        return "no worker is running"
    if not health.ok:
        return f"no worker polled within {max_age:g} seconds: {said}"
    return f"{len(health.workers)} worker{'s' if len(health.workers) > 1 else ''}: {said}"


def _said(worker: WorkerHealth) -> str:
    who = f"{worker.name} (pid {worker.pid} on {worker.host})"
    if worker.polled_seconds_ago is None:
        return f"{who} has not polled yet, started {worker.started_seconds_ago:.1f} seconds ago"
    return f"{who} polled {worker.polled_seconds_ago:.1f} seconds ago"
