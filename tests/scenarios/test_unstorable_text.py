"""Text that no store can keep, or that one of them cannot, is told of at the call, in the same words on all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from piecework import Piecework
from piecework.errors import UsageError
from piecework.handle import Job

SURROGATE, NUL = "\ud800", "a\0b"

Entry = Callable[[Piecework, str], Any]

ENTRIES: dict[str, Entry] = {
    "a job": lambda app, bad: app.jobs.get(bad),
    "a handle": lambda app, bad: Job(app, bad).state,
    "an operation": lambda app, bad: app.operations.get(bad),
    "after": lambda app, bad: app.jobs.where().page(after=bad),
    **{
        what: lambda app, bad, what=what: list(app.jobs.where(**{what: bad}))
        for what in ("queue", "task", "batch", "root", "key", "worker")
    },
    "identity": lambda app, bad: app.jobs.where(identity=bad),
    "tags": lambda app, bad: app.jobs.where(tags=bad),
    "state": lambda app, bad: app.jobs.where(state=bad),
    "paused": lambda app, bad: app.jobs.pause(bad),
    "token": lambda app, bad: app.distributed_job(bad),
    "parts": lambda app, bad: app.distributed_job("t").push_all([bad]),
    "part": lambda app, bad: app.distributed_job("t").done(bad),
    "status": lambda app, bad: app.task(name="a")(lambda x: None).status(bad),
    **{
        f"using {what}": lambda app, bad, what=what: app.task(name="a")(lambda: None).using(**{what: bad})
        for what in ("key", "queue", "identity", "tags")
    },
    "a task": lambda app, bad: app.task(name=bad)(lambda: None),
    "an identity of arguments": lambda app, bad: app.task(name="a", identity=lambda x: x)(lambda x: None).later(bad),
}


@pytest.mark.parametrize("bad", [SURROGATE, NUL], ids=["surrogate", "NUL"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_text_that_no_store_keeps_is_refused_at_the_call(app: Piecework, entry: str, bad: str) -> None:
    with pytest.raises(UsageError):
        ENTRIES[entry](app, bad)
    assert app.store.counts() == {}


def test_the_error_says_what_was_wrong_and_with_which(app: Piecework) -> None:
    with pytest.raises(
        UsageError, match=r"key must be text that can be stored, without NUL and lone surrogates, not '\\ud800'"
    ):
        app.jobs.where(key=SURROGATE)
    with pytest.raises(UsageError, match=r"an id must be text that can be stored, .* not 7"):
        app.jobs.get(7)  # type: ignore[arg-type]
