"""Who is alive, and what becomes of the jobs of the dead, on the Redis shelf."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from piecework.errors import UsageError
from piecework.job import SessionRecord
from piecework.store.reaped import numbered
from piecework.store.redis.rows import seconds
from piecework.store.redis.shard import Shard, given

STOPPED, SILENT = "its worker's session ended", "its worker's session stopped beating"


def session_row(session: SessionRecord) -> tuple[str, list[Any]]:
    """What the script `enlist` is told."""
    if "." in session.id:
        raise UsageError(f"the session id {session.id!r} has a dot, which ends the session in a worker's name")
    kept = [
        session.beat,
        session.started_at,
        session.seen_at,
        session.name,
        session.host,
        session.pid,
        given(session.polled_at),
    ]
    return session.id, kept


def renew(shard: Shard, session: str, polled: float | None) -> bool:
    """The verb `renew`, in one shard."""
    return bool(shard.run("renew", (session, given(polled))))


def sessions(shard: Shard) -> list[SessionRecord]:
    """The verb `sessions`, in one shard: the oldest first."""
    found = []
    for id, (beat, started_at, seen_at, name, host, pid, *polled_at) in shard.run("sessions"):
        found.append(
            SessionRecord(
                id=id,
                beat=beat,
                started_at=float(started_at),
                seen_at=float(seen_at),
                name=name,
                host=host,
                pid=pid,
                polled_at=seconds(polled_at[0]) if polled_at else None,
            )
        )
    return sorted(found, key=lambda session: (session.started_at, session.id))


def reason_for(beat: int | None) -> str:
    """Why the jobs of a session come back: it was ended, or by its beat found to be silent."""
    return STOPPED if beat is None else SILENT


def bury(shard: Shard, session: str, beat: int | None, reason: str) -> int | None:
    """The verb `bury`, in one shard."""
    answer = shard.run("bury", (session, given(beat), reason))
    if answer is False:
        return None
    returned, more = answer
    while more:  # it is marked by now, and its beat stands still
        n, more = shard.run("bury", (session, False, reason))
        returned += n
    return int(returned)


def reap(shard: Shard, worker: str, crashed: Iterable[str], reason: str, crash_limit: int) -> list[str]:
    """The verb `reap`, in one shard."""
    named = numbered(worker)
    told = worker, list(crashed), reason, crash_limit, named.session, named.number
    returned: list[str] = []
    more = True
    while more:
        ids, more = shard.run("reap", told)
        returned += ids
    return returned
