"""What waits in an app's outbox, and what came to grief there: the part of `piecework check` about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

import msgspec

from piecework.cli.common import counted, duration, when
from piecework.job import Filter, Finding, State
from piecework.outbox import QUEUE, Outbox
from piecework.store import Store, redacted

WAITING, STUCK = (State.AVAILABLE, State.RUNNING), (State.FAILED, State.PARKED)
LONG = (
    60.0  # seconds after which something is amiss: a carrier comes by at once, and again some seconds after a failure
)


def outbox_findings(outbox: Outbox, said: Sequence[Finding] = ()) -> Iterator[Finding]:
    """How many jobs wait in the outbox and since when, what could not be carried, and what is amiss with its database.

    What was said of the app's store already, of the same library or server, is not said again.
    """
    store = outbox.box.store
    about = store.examine()
    for finding in about:
        if finding.level != "ok" and finding not in said:
            yield msgspec.structs.replace(finding, subject=f"outbox {finding.subject}")
    if any(finding.level == "error" for finding in about):
        return
    if not store.is_set_up():
        yield Finding("warning", "outbox", f"{redacted(store.url)} has no tables yet; run: piecework migrate")
        return
    counts = store.counts()
    yield _waiting(store, sum(counts.get((QUEUE, state), 0) for state in WAITING))
    for state in STUCK:
        if n := counts.get((QUEUE, state), 0):
            yield _stuck(store, state, n)


def _waiting(store: Store, n: int) -> Finding:
    if not n:
        return Finding("ok", "outbox", f"{redacted(store.url)}: nothing waits to be carried over")
    oldest = [store.find(Filter(queue=QUEUE, state=state), limit=1) for state in WAITING]
    since = min((record.created_at for page in oldest for record in page), default=store.now())
    waited = max(0.0, store.now() - since)
    said = f"{redacted(store.url)}: {counted(n, 'job')} to be carried over, the oldest since {when(since)} ({duration(waited)})"
    if waited < LONG:
        return Finding("ok", "outbox", said)
    return Finding(
        "warning", "outbox", f"{said}; workers of this app carry them: is one running, and what does its log say?"
    )


def _stuck(store: Store, state: State, n: int) -> Finding:
    why = ""
    for record in store.find(Filter(queue=QUEUE, state=state), limit=1):
        found = f"{record.error.type}: {record.error.message}" if record.error else record.reason
        why = f" ({found})" if found else ""
    return Finding(
        "warning",
        "outbox",
        f"{counted(n, 'job')} could not be carried over{why}; once that is mended: "
        f"piecework jobs retry --store {quote(redacted(store.url))} --queue {QUEUE} --state {state}",
    )
