"""The verbs over the shards of a store: with one they pass through, with several each job's own is asked, or all of them.

What must be true together is in one shard, so each part of a call is a transaction of its own, and a call that was
interrupted is completed by being sent again. The order of fetching holds over all shards but for what happens between
looking at the heads of the lines and taking.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from piecework.errors import UsageError
from piecework.job import Answer, Claim, Fence, Fetched, NewBatch, NewJob, Progress, SessionRecord
from piecework.outcome import Settlement
from piecework.store.bites import bites
from piecework.store.redis import enqueue, liveness, work
from piecework.store.redis.client import Client
from piecework.store.redis.homes import Homes
from piecework.store.redis.recent import Recent
from piecework.store.redis.shard import Shard, answer


class Told(NamedTuple):
    """What a script said of some jobs, by their numbers in the call."""

    shard: Shard
    numbers: Sequence[int]
    said: Any


class Spread:
    """The shards of one store."""

    def __init__(self, client: Client, shards: Sequence[Shard]) -> None:
        self._client = client
        self.shards = shards
        self.homes = Homes(client, shards)
        self.one = shards[0] if len(shards) == 1 else None
        self._recent = Recent()
        self._servers = client.servers

    def everywhere(self, title: str, asked: Any) -> list[Any]:
        """What a script answers in each shard, in one trip."""
        return self.homes.ask_all(title, asked)

    # ── enqueue ──────────────────────────────────────────────────────────────────────────────────

    def add(self, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> list[str]:
        """The verb `add`; all or none where the jobs go to one shard, which only unique keys can prevent."""
        if self.one is not None:
            return enqueue.add(self.one, jobs, batch, fence)
        parts = self._parts(jobs, batch, fence)
        stored: dict[int, str] = {}
        for home, numbers in parts.items():
            some = [jobs[n] for n in numbers]
            ids = enqueue.add(self.shards[home], some, batch, fence)
            stored |= zip(numbers, ids, strict=True)
            self.homes.remember(ids, home)
            if batch is not None:
                self.homes.remember([batch.id], home)
        return [stored[n] for n in range(len(jobs))]

    def _parts(self, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> dict[int, list[int]]:
        """Which jobs go where, by their numbers in the call."""
        self._refuse_keyed_pieces(jobs)
        tree = self._home_of_tree(jobs, batch, fence)
        if tree is not None:
            return {tree: list(range(len(jobs)))}
        batches = self.homes.find({job.batch for job in jobs if job.batch is not None})
        known = self.homes.known(job.id for job in jobs)
        parts: dict[int, list[int]] = defaultdict(list)
        # One home for all that may go anywhere: then they are stored, or not, together.
        plain = next(iter(batches.values()), None)
        for n, job in enumerate(jobs):
            if job.batch is not None:
                home = batches.get(job.batch, 0)
            elif job.id in known:
                home = known[job.id]
            elif job.key is not None:
                home = self.homes.of_name(job.key)
            else:
                home = plain = self.homes.of_name(job.queue) if plain is None else plain
            parts[home].append(n)
        return parts

    def _home_of_tree(self, jobs: Sequence[NewJob], batch: NewBatch | None, fence: Fence | None) -> int | None:
        """Where all jobs of a call go, because a run or a new batch holds them together."""
        if fence is not None:
            return self.homes.find([fence.id]).get(fence.id, 0)
        if batch is None:
            return None
        known = self.homes.find(id for id in (batch.id, batch.then) if id is not None)
        if known:
            return next(iter(known.values()))
        keys = [job.key for job in jobs if job.key is not None]
        return self.homes.of_name(keys[0] if keys else jobs[0].queue if jobs else batch.id)

    def _refuse_keyed_pieces(self, jobs: Iterable[NewJob]) -> None:
        for job in jobs:
            if job.key is not None and job.batch is not None:
                raise UsageError(
                    f"the piece {job.id} has a unique key of its own ({job.key!r}), and a Cluster keeps a key and a tree in "
                    "different places; give the key to the job at the top of the tree, or use a store on one server"
                )

    def seal(self, batch: str) -> bool:
        return bool(self.shard_of(batch).run("seal", (batch,)))

    def shard_of(self, id: str) -> Shard:
        """The shard of a job or batch."""
        return self.one or self.homes.shard_of(id)

    def of_many(self, ids: Sequence[str], title: str, asked: Sequence[Any], most: int) -> list[Told]:
        """What a script answers that is told of some jobs at a time, up to `most` and each once, in their own shards.

        All scripts are sent in one trip; those of one shard run in the order of the jobs.
        """
        found = {} if self.one is not None else self.homes.find(ids)
        parts: dict[int, list[int]] = defaultdict(list)
        for n, id in enumerate(ids):
            parts[found.get(id, 0)].append(n)
        some = [(home, bite) for home, numbers in parts.items() for bite in bites(numbers, ids.__getitem__, most)]
        calls = [self.shards[home].call(title, [asked[n] for n in numbers]) for home, numbers in some]
        answers = map(answer, self._client.together(calls))
        return [Told(self.shards[home], numbers, said) for (home, numbers), said in zip(some, answers, strict=True)]

    # ── work ─────────────────────────────────────────────────────────────────────────────────────

    def exchange(self, settlements: Sequence[Settlement], claim: Claim | None) -> tuple[list[Answer], list[Fetched]]:
        """`settle`, then `fetch`; the settlements of a shard are one transaction."""
        answers, jobs = self._exchange(settlements, claim)
        if self._servers != self._client.servers:
            self._servers = self._client.servers
            answers = self._remind(settlements, answers)
        self._recent.note(settlements)
        return answers, jobs

    def _remind(self, settlements: Sequence[Settlement], answers: list[Answer]) -> list[Answer]:
        """Sends the ends of the last seconds again, and then those that may have been refused for want of them."""
        for some in self._recent.all():
            self._exchange(some, None)
        refused = [n for n, said in enumerate(answers) if said is Answer.STALE]
        again, _ = self._exchange([settlements[n] for n in refused], None)
        corrected = dict(zip(refused, again, strict=True))
        return [corrected.get(n, said) for n, said in enumerate(answers)]

    def _exchange(self, settlements: Sequence[Settlement], claim: Claim | None) -> tuple[list[Answer], list[Fetched]]:
        if not settlements and claim is None:
            return [], []
        if self.one is not None:
            return work.exchange(self.one, settlements, claim)
        answers = self._settle(settlements) if settlements else []
        return answers, [] if claim is None else self._fetch(claim)

    def _settle(self, settlements: Sequence[Settlement]) -> list[Answer]:
        homes = self.homes.find(settlement.id for settlement in settlements)
        parts: dict[int, list[int]] = defaultdict(list)
        for n, settlement in enumerate(settlements):
            parts[homes.get(settlement.id, 0)].append(n)
        asked = [work.asked([settlements[n] for n in numbers], None) for numbers in parts.values()]
        calls = [self.shards[home].call("exchange", one.told) for home, one in zip(parts, asked, strict=True)]
        answers: dict[int, Answer] = {}
        for (home, numbers), one, said in zip(parts.items(), asked, self._client.together(calls), strict=True):
            some = work.looked(self.shards[home], [settlements[n] for n in numbers], one.read(said)[0])
            answers |= zip(numbers, some, strict=True)
        return [answers[n] for n in range(len(settlements))]

    def _fetch(self, claim: Claim) -> list[Fetched]:
        heads = self._heads(claim)
        again = any(before for before, _, _ in heads)  # then no shard gives anything new
        ranked = sorted(
            (rank, home) for home, (before, _, ranks) in enumerate(heads) if before or not again for rank in ranks
        )
        order = [home for _, home in (ranked if again else ranked[: claim.limit])]
        shares = {home: msgspec.structs.replace(claim, limit=0 if again else n) for home, n in Counter(order).items()}
        return _merged(self._take(shares), order)

    def _heads(self, claim: Claim) -> list[Any]:
        """What is next in each shard, once all that time has brought has been seen to."""
        while True:
            heads = self.everywhere("heads", work.claim_row(claim))
            if not any(more for _, more, _ in heads):
                return heads

    def _take(self, shares: Mapping[int, Claim]) -> dict[int, list[Fetched]]:
        asked = [work.asked((), share) for share in shares.values()]
        calls = [self.shards[home].call("exchange", one.told) for home, one in zip(shares, asked, strict=True)]
        taken: dict[int, list[Fetched]] = {}
        for (home, share), one, said in zip(shares.items(), asked, self._client.together(calls), strict=True):
            _, more, jobs = one.read(said)
            # Something stood in its way: that shard by itself clears it.
            taken[home] = work.exchange(self.shards[home], (), share)[1] if more else jobs
            for job in taken[home]:
                self.homes.remember((job.id, job.batch), home)
        return taken

    def report(self, worker: str, progress: Mapping[str, Progress]) -> list[str]:
        if self.one is not None:
            return work.report(self.one, worker, progress)
        return [id for ids in self.everywhere("report", work.report_row(worker, progress)) for id in ids]

    def holds(self, worker: str) -> list[Fence]:
        return [Fence(*run) for runs in self.everywhere("holds", (worker,)) for run in runs]

    def set_status(self, fence: Fence, status: str) -> bool:
        return bool(self.shard_of(fence.id).run("set_status", (fence.id, fence.run, status)))

    # ── liveness ─────────────────────────────────────────────────────────────────────────────────

    def enlist(self, session: SessionRecord) -> None:
        self.everywhere("enlist", liveness.session_row(session))

    def renew(self, session: str, polled: float | None) -> bool:
        """The beat is in the first shard alone."""
        return liveness.renew(self.shards[0], session, polled)

    def sessions(self) -> list[SessionRecord]:
        return liveness.sessions(self.shards[0])

    def bury(self, session: str, beat: int | None) -> int | None:
        """Marked in the first shard, ended in the others, and then in the first: whoever is interrupted is followed by others."""
        if self.one is None and not self.shards[0].run("mark", (session, beat if beat is not None else False)):
            return None if beat is not None else 0
        reason = liveness.reason_for(beat)
        ended = [liveness.bury(shard, session, None, reason) or 0 for shard in self.shards[1:]]
        last = liveness.bury(self.shards[0], session, beat, reason)
        if last is None:  # another, who was at it at the same time, came to the end first
            return sum(ended) or None
        return last + sum(ended)

    def reap(self, worker: str, crashed: Iterable[str], reason: str, crash_limit: int) -> list[str]:
        blamed = list(crashed)
        return [id for shard in self.shards for id in liveness.reap(shard, worker, blamed, reason, crash_limit)]


def _merged(taken: Mapping[int, list[Fetched]], order: Iterable[int]) -> list[Fetched]:
    """The jobs of several shards in the order of their heads; what came otherwise is behind."""
    left = {home: iter(jobs) for home, jobs in taken.items()}
    found = [job for home in order if (job := next(left[home], None)) is not None]
    return [*found, *(job for jobs in left.values() for job in jobs)]
