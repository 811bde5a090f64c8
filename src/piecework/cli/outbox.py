"""What waits in an app's outbox, and what came to grief there: the part of `piecework check` about it."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

import msgspec

from piecework.cli.common import counted, duration, when
from piecework.job import Filter, Finding, State
from piecework.outbox import QUEUE, Outbox
from piecework.store import Store, redacted

WAITING = State.AVAILABLE, State.RUNNING, State.PARKED
LONG = 60.0  # seconds after which something is amiss: a carrier comes by at once, and again some seconds after a failure


def outbox_findings(outbox: Outbox) -> Iterator[Finding]:
    """Whether the outbox itself is sound, how many jobs wait in it and since when, and what could not be carried."""
    store = outbox.box.store
    about = store.examine()
    for finding in about:
        if finding.level != "ok":
            yield msgspec.structs.replace(finding, subject=f"outbox {finding.subject}")
    if any(finding.level == "error" for finding in about):
        return
    if not store.is_set_up():
        yield Finding("warning", "outbox", f"{redacted(store.url)} has no tables yet; run: piecework migrate")
        return
    counts = store.counts()
    yield _waiting(store, sum(counts.get((QUEUE, state), 0) for state in WAITING))
    if n := counts.get((QUEUE, State.FAILED), 0):
        yield _failed(store, n)


def _waiting(store: Store, n: int) -> Finding:
    if not n:
        return Finding("ok", "outbox", f"{redacted(store.url)}: nothing waits to be carried over")
    oldest = [store.find(Filter(queue=QUEUE, state=state), limit=1) for state in WAITING]
    since = min((record.created_at for page in oldest for record in page), default=store.now())
    waited = max(0.0, store.now() - since)
    said = f"{redacted(store.url)}: {counted(n, 'job')} to be carried over, the oldest since {when(since)} ({duration(waited)})"
    if waited < LONG:
        return Finding("ok", "outbox", said)
    return Finding("warning", "outbox", f"{said}; workers of this app carry them: is one running, and what does its log say?")


def _failed(store: Store, n: int) -> Finding:
    why = ""
    for record in store.find(Filter(queue=QUEUE, state=State.FAILED), limit=1):
        if record.error:
            why = f" ({record.error.type}: {record.error.message})"
    return Finding(
        "warning",
        "outbox",
        f"{counted(n, 'job')} could not be carried over{why}; once that is mended: "
        f"piecework jobs retry --store {quote(redacted(store.url))} --queue {QUEUE} --state failed",
    )
