"""`piecework jobs` and `watch`: what they print, which jobs they mean, and how they exit."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support import books

from piecework import Piecework
from piecework.byhand import whoami
from piecework.job import State
from piecework.testing.drain import drain

Call = Callable[..., Any]

# ── list ─────────────────────────────────────────────────────────────────────────────────────────


def test_list_without_jobs_says_so(call: Call, shop: Any) -> None:
    call("migrate")
    said = call("jobs", "list")
    assert (said.code, said.out, said.err) == (0, "no jobs match\n", "")
    assert call("jobs", "list", "--json").data == []


def test_list_shows_a_line_for_each_job_newest_first_and_the_counts(call: Call, shop: Any) -> None:
    first = shop.add.later(1)
    second = shop.bad.using(queue="mail").later("bad body")
    drain(shop.app)
    said = call("jobs", "list")
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[0].startswith(second.id)
    assert re.search(r"failed +mail .*bad  bad body$", lines[0])
    assert lines[1].startswith(first.id)
    assert lines[2:] == ["default: 1 completed", "mail: 1 failed"]


def test_list_as_json_has_every_column(call: Call, shop: Any) -> None:
    job = shop.add.using(queue="mail", priority=3, key="k").later(1, 2)
    (row,) = call("jobs", "list", "--json").data
    assert (row["id"], row["task"], row["queue"], row["priority"]) == (job.id, shop.add.name, "mail", 3)
    assert (row["state"], row["key"], json.loads(row["args"])) == ("available", "k", {"a": 1, "b": 2})


@pytest.mark.parametrize("option", ["queue", "task", "state", "batch"])
def test_list_filters(call: Call, shop: Any, option: str) -> None:
    split = shop.whole.using(queue="q").later(1)
    drain(shop.app)
    shop.slowly.later(1)
    (piece,) = split.pieces()
    value, wanted = {
        "queue": ("q", [split.id]),
        "task": (shop.add.name, [piece.id]),
        "state": ("available", None),
        "batch": (split.id, [piece.id]),
    }[option]
    found = [row["id"] for row in call("jobs", "list", "--json", f"--{option}", value).data]
    assert found == wanted if wanted is not None else len(found) == 1


def test_list_pages_with_after_in_both_directions(call: Call, shop: Any) -> None:
    ids = [job.id for job in shop.add.later_many([(n,) for n in range(7)])]
    for extra, expected in (([], ids[::-1]), (["--oldest"], ids)):
        seen: list[str] = []
        after: list[str] = []
        while page := call("jobs", "list", "--json", "--limit", "3", *extra, *after).data:
            seen += [row["id"] for row in page]
            after = ["--after", page[-1]["id"]]
        assert seen == expected


def test_a_full_page_says_how_to_go_on(call: Call, shop: Any) -> None:
    ids = [job.id for job in shop.add.later_many([(n,) for n in range(3)])]
    assert f"more: --after {ids[1]}" in call("jobs", "list", "--limit", "2").out
    assert "more" not in call("jobs", "list", "--limit", "4").out


def test_after_an_id_that_does_not_exist_is_told(call: Call, shop: Any) -> None:
    """Else the first page comes again and again."""
    shop.add.later(1)
    said = call("jobs", "list", "--after", "no-such-id")
    assert said.code == 1
    assert "no-such-id" in said.err


@pytest.mark.parametrize("bad", [["--limit", "0"], ["--limit", "many"], ["--state", "done"], ["--no-such"], ["extra"]])
def test_bad_options_of_list_are_usage_errors(call: Call, shop: Any, bad: list[str]) -> None:
    said = call("jobs", "list", *bad)
    assert said.code == 2
    assert said.out == ""
    assert bad[0] in said.err or "extra" in said.err


# ── show ─────────────────────────────────────────────────────────────────────────────────────────


def test_show_tells_what_is_known_of_a_job(call: Call, shop: Any) -> None:
    job = shop.add.using(key="k").later(1, 2)
    drain(shop.app)
    said = call("jobs", "show", job.id)
    assert said.code == 0
    facts = dict(re.findall(r"^(\w+) +(.*)$", said.out, re.MULTILINE))
    assert facts["job"] == job.id
    assert (facts["task"], facts["state"], facts["key"], facts["result"]) == (shop.add.name, "completed", "k", "3")
    assert facts["queue"] == "default, priority 0"
    assert json.loads(facts["arguments"]) == {"a": 1, "b": 2}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", facts["finished"])


def test_show_tells_each_attempt_with_its_traceback(call: Call, shop: Any) -> None:
    job = shop.bad.using(attempts=2, retry=0).later("bad body")
    drain(shop.app)
    said = call("jobs", "show", job.id)
    assert "run 1" in said.out
    assert "retry: ValueError: bad body" in said.out
    assert "failed: ValueError: bad body" in said.out
    assert said.out.count("raise ValueError(message)") == 2
    data = call("jobs", "show", "--json", job.id).data
    assert [attempt["outcome"] for attempt in data["attempts"]] == ["retry", "failed"]
    assert data["job"]["error"]["message"] == "bad body"


@pytest.mark.parametrize(
    ("attempts", "shown", "hidden"), [(10, 10, ""), (11, 10, "… 1 more run"), (130, 10, "… 100 more runs")]
)
def test_show_tells_the_first_and_the_last_of_many_attempts(
    call: Call, shop: Any, attempts: int, shown: int, hidden: str
) -> None:
    job = shop.bad.using(attempts=attempts, retry=0).later("bad body")
    drain(shop.app)
    said = call("jobs", "show", job.id).out
    assert said.count("raise ValueError(message)") == shown
    assert re.findall(r"… \d+ more runs?", said) == ([hidden] if hidden else [])
    runs = [int(run) for run in re.findall(r"^run (\d+),", said, re.MULTILINE)]
    assert runs == ([1, 2, *range(attempts - 7, attempts + 1)] if hidden else list(range(1, attempts + 1)))


def test_show_tells_the_pieces_and_which_failed(call: Call, shop: Any) -> None:
    job = shop.whole.later(4, 2)
    drain(shop.app)
    said = call("jobs", "show", job.id)
    assert "4: 3 completed, 1 failed, 0 cancelled, 0 open" in said.out
    assert re.search(r"failed pieces:\n +piece-2  \S+  ValueError: bad body", said.out)
    data = call("jobs", "show", "--json", job.id).data
    assert (data["batch"]["total"], data["batch"]["failed"]) == (4, 1)
    assert data["errors"]["pieces"][0]["key"] == "piece-2"


def test_show_tells_progress(call: Call, shop: Any) -> None:
    job = shop.whole.later(3)
    shop.app.store.pause("default")
    shop.app.store.pause("default", on=False)
    drain(shop.app)
    assert "3 of 3" in call("jobs", "show", job.id).out


# ── retry and cancel ─────────────────────────────────────────────────────────────────────────────


def test_retry_by_id(call: Call, shop: Any) -> None:
    job = shop.bad.later("x")
    drain(shop.app)
    said = call("jobs", "retry", job.id)
    assert (said.code, said.out) == (0, "retried 1 job\n")
    assert job.state is State.AVAILABLE


@pytest.mark.parametrize("by_filter", [False, True])
def test_who_retries_and_resumes_and_why_is_kept_with_operations(call: Call, shop: Any, by_filter: bool) -> None:
    op = shop.app.operation("f", main=[shop.add]).later(a=1)
    op.cancel("early", by="ann")
    which = ("--state", "cancelled") if by_filter else (op.id,)
    assert call("jobs", "resume", *which, "--by", "ben", "--reason", "not so early").code == 0
    op.cancel("again", by="ann")
    assert call("jobs", "retry", *which, "--by", "ben").code == 0
    lines = [(line.what, line.by, line.reason) for line in op.amendments()]
    assert lines == [
        ("cancelled", "ann", "early"), ("resumed", "ben", "not so early"), ("cancelled", "ann", "again"),
        ("retried", "ben", ""),
    ]  # fmt: skip


def test_retry_of_what_cannot_be_retried_is_a_failure(call: Call, shop: Any) -> None:
    done, failed = shop.add.later(1), shop.bad.later("x")
    drain(shop.app)
    said = call("jobs", "retry", done.id, failed.id)
    assert (said.code, said.out) == (1, "retried 1 job\n")
    assert failed.state is State.AVAILABLE


def test_retry_of_a_split_takes_its_failed_pieces_along(call: Call, shop: Any) -> None:
    job = shop.whole.later(3, 1)
    drain(shop.app)
    assert call("jobs", "retry", job.id).code == 0
    assert job.state is State.WAITING
    assert [piece.state for piece in job.pieces()] == [State.COMPLETED, State.AVAILABLE, State.COMPLETED]


@pytest.mark.parametrize("option", ["--queue=mail", "--all", "--state=failed"])
def test_retry_by_filter(call: Call, shop: Any, option: str) -> None:
    jobs = [shop.bad.using(queue="mail").later("x") for _ in range(3)]
    drain(shop.app)
    assert call("jobs", "retry", option).out == "retried 3 jobs\n"
    assert {job.state for job in jobs} == {State.AVAILABLE}
    assert call("jobs", "retry", option, "--json").data == {"retried": 0}


def test_cancel_by_id_with_a_reason(call: Call, shop: Any) -> None:
    job = shop.add.later(1)
    said = call("jobs", "cancel", job.id, "--reason", "a mistake")
    assert (said.code, said.out) == (0, "cancelled 1 job\n")
    assert job.state is State.CANCELLED
    assert job.record().reason == "a mistake"
    assert "reason      a mistake" in call("jobs", "show", job.id).out
    assert call("jobs", "cancel", job.id).code == 1


def test_a_stopped_tree_says_who_when_and_why_and_goes_on_where_it_was(call: Call, shop: Any) -> None:
    job = shop.whole.later(3)
    call("jobs", "cancel", job.id, "--reason", "the wrong list", "--by", "ann@desk")
    said = call("jobs", "show", job.id).out
    assert re.search(r"^stopped +ann@desk, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", said, re.MULTILINE)
    assert "reason      the wrong list" in said
    assert call("jobs", "resume", job.id).out == "resumed 1 job\n"
    drain(shop.app)
    assert job.result(timeout=0) == 6
    assert "stopped" not in call("jobs", "show", job.id).out
    assert call("jobs", "resume", job.id).code == 1


def test_without_a_name_it_was_the_user_of_this_process(call: Call, shop: Any) -> None:
    job = shop.add.later(1)
    call("jobs", "cancel", job.id)
    assert job.record().stopped_by == whoami()
    assert "@" in whoami()


def test_resume_by_filter_leaves_what_failed(call: Call, shop: Any) -> None:
    failed = shop.bad.later("x")
    drain(shop.app)
    stopped = [shop.add.later(n) for n in range(3)]
    call("jobs", "cancel", "--all")
    assert call("jobs", "resume", "--all", "--json").data == {"resumed": 3}
    assert {job.state for job in stopped} == {State.AVAILABLE}
    assert failed.state is State.FAILED


@pytest.mark.parametrize("option", ["--queue=mail", "--all", "--state=available"])
def test_cancel_by_filter(call: Call, shop: Any, option: str) -> None:
    jobs = [shop.add.using(queue="mail").later(n) for n in range(3)]
    assert call("jobs", "cancel", option, "--json").data == {"cancelled": 3}
    assert {job.state for job in jobs} == {State.CANCELLED}
    assert call("jobs", "cancel", option).out == "cancelled 0 jobs\n"


@pytest.mark.parametrize("verb", ["retry", "cancel", "resume"])
def test_a_verb_without_any_job_named_is_refused(call: Call, shop: Any, verb: str) -> None:
    job = shop.add.later(1)
    said = call("jobs", verb)
    assert said.code in (1, 2)
    assert "--all" in said.err
    assert job.state is State.AVAILABLE


@pytest.mark.parametrize("verb", ["retry", "cancel", "resume", "delete"])
def test_ids_together_with_filters_are_refused(call: Call, shop: Any, verb: str) -> None:
    """Nobody knows which of both is meant, and a filter that is passed over is a surprise."""
    job = shop.bad.later("x")
    if verb != "cancel":
        drain(shop.app)
    before = job.state
    said = call("jobs", verb, job.id, "--queue", "other")
    assert said.code in (1, 2)
    assert job.state is before


@pytest.mark.parametrize(
    "verb", [["jobs", "show"], ["jobs", "retry"], ["jobs", "cancel"], ["jobs", "delete"], ["watch"]]
)
@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_job_that_does_not_exist_is_told_in_a_sentence(
    call: Call, shop: Any, verb: list[str], extra: list[str]
) -> None:
    call("migrate")
    said = call(*verb, "01890000-0000-7000-8000-000000000000", *extra)
    assert said.code == 1
    assert said.out == ""
    assert re.fullmatch(r"piecework: .*no job 01890000-0000-7000-8000-000000000000.*\n", said.err)


def test_retry_says_why_a_job_cannot_come_back_and_goes_on_with_the_others(call: Call, shop: Any) -> None:
    first = shop.bad.using(key="k").later("x")
    drain(shop.app)
    second = shop.bad.using(key="k").later("x")
    third = shop.bad.later("x")
    drain(shop.app)
    holder = shop.add.using(key="k").later(1)
    said = call("jobs", "retry", first.id, third.id, second.id)
    assert (said.code, said.out) == (1, "retried 1 job\n")
    assert said.err.count("its unique key 'k' is carried by another job that has not finished") == 2
    assert [job.state for job in (first, second, third, holder)] == ["failed", "failed", "available", "available"]


def test_retry_by_filter_says_what_stays_as_it_is_and_why(
    call: Call, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piecework.cli.jobs.MOST_TOLD", 2)
    jobs = []
    for _ in range(4):
        jobs.append(shop.bad.using(key="k").later("x"))
        drain(shop.app)
    shop.add.using(key="k").later(1)
    said = call("jobs", "retry", "--state", "failed")
    assert (said.code, said.out) == (0, "retried 0 jobs\n")
    assert said.err.splitlines() == [
        *(
            f"piecework: job {job.id} stays as it is: its unique key 'k' is carried by another job that has not finished"
            for job in jobs[:2]
        ),
        "piecework: and 2 more jobs",
    ]


# ── delete ───────────────────────────────────────────────────────────────────────────────────────


def test_delete_by_filter(call: Call, shop: Any) -> None:
    shop.bad.later_many([("x",)] * 3)
    good = shop.add.later(1)
    drain(shop.app)
    waits = shop.bad.later("y")
    said = call("jobs", "delete", "--state", "failed")
    assert (said.code, said.out) == (0, "deleted 3 jobs\n")
    assert call("jobs", "delete", "--state", "failed", "--json").data == {"deleted": 0}
    assert (good.state, waits.state) == ("completed", "available")
    assert call("jobs", "delete", "--all").out == "deleted 1 job\n"
    assert [job.id for job in shop.app.jobs] == [waits.id]


def test_delete_of_a_tree_by_its_roots_id(call: Call, shop: Any, folder: Path) -> None:
    job, other = shop.whole.later(4, 2), shop.add.later(1)
    drain(shop.app)
    (piece, *_) = job.pieces()
    said = call("jobs", "delete", piece.id)
    assert (said.code, said.out) == (1, "deleted 0 jobs\n")
    said = call("jobs", "delete", job.id, other.id, job.id)
    assert (said.code, said.out) == (0, "deleted 6 jobs\n")
    assert list(shop.app.jobs) == []
    assert books(folder / "jobs.db") == []


def test_delete_of_everything_has_to_be_said(call: Call, shop: Any) -> None:
    job = shop.bad.later("x")
    drain(shop.app)
    assert "or --all" in call("jobs", "delete").err
    assert job.state is State.FAILED


# ── queues ───────────────────────────────────────────────────────────────────────────────────────


def test_queues_shows_counts_ages_and_pauses(call: Call, shop: Any) -> None:
    shop.add.using(queue="mail").later(1)
    shop.add.using(delay=60).later(1)
    assert call("queues", "pause", "video").out == "video is paused\n"
    said = call("queues")
    assert said.code == 0
    first, second, third = said.out.splitlines()
    assert first == "default: 1 available"
    assert re.fullmatch(r"mail: 1 available; oldest due for \d+\.\d s", second)
    assert third == "video: no jobs  (paused)"
    found = call("queues", "--json").data
    assert [(queue["name"], queue["counts"], queue["paused"]) for queue in found] == [
        ("default", {"available": 1}, False),
        ("mail", {"available": 1}, False),
        ("video", {}, True),
    ]
    assert (found[0]["oldest_due"], found[1]["oldest_due"] >= 0) == (None, True)


def test_a_queue_is_paused_and_unpaused(call: Call, shop: Any) -> None:
    job = shop.add.later(1, 1)
    call("queues", "pause", "default")
    assert shop.app.jobs.paused() == ["default"]
    assert drain(shop.app) == 0
    assert call("queues", "unpause", "default").out == "default is not paused\n"
    assert drain(shop.app) == 1
    assert job.result(timeout=0) == 2


def test_queues_takes_the_store_before_or_after_the_verb(call: Call, shop: Any) -> None:
    call("migrate")
    assert call("queues", "--store", "sqlite:///jobs.db", "pause", "a", app=False).code == 0
    assert call("queues", "pause", "b", "--store", "sqlite:///jobs.db", app=False).code == 0
    assert shop.app.jobs.paused() == ["a", "b"]


def test_queues_without_any(call: Call, shop: Any) -> None:
    call("migrate")
    assert call("queues").out == "no queue has jobs, and none is paused\n"


@pytest.mark.parametrize("verb", ["pause", "unpause"])
def test_what_is_no_queue_is_not_paused(call: Call, shop: Any, verb: str) -> None:
    call("migrate")
    said = call("queues", verb, "a b")
    assert (said.code, said.out) == (1, "")
    assert "queue name" in said.err


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (12.4, "12 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (200_000, "2 days")]
)  # fmt: skip
def test_ages_in_few_figures(seconds: float, said: str) -> None:
    from piecework.cli.common import duration

    assert duration(seconds) == said


# ── watch ────────────────────────────────────────────────────────────────────────────────────────


def test_watch_of_a_completed_split_says_so_and_exits_with_0(call: Call, shop: Any) -> None:
    job = shop.whole.later(3)
    drain(shop.app)
    said = call("watch", job.id)
    assert said.code == 0
    assert "100 %" in said.out
    assert "3/3 pieces" in said.out
    assert said.out.splitlines()[-1] == f"{job.id} completed"


def test_watch_of_a_failed_split_says_why_and_exits_with_1(call: Call, shop: Any) -> None:
    job = shop.whole.later(3, 1)
    drain(shop.app)
    said = call("watch", job.id)
    assert said.code == 1
    assert said.out.splitlines()[-1] == f"{job.id} failed: PieceFailed: piece piece-1 failed: ValueError: bad body"
    assert "1 failed" in said.out


def test_watch_of_a_cancelled_job_exits_with_1(call: Call, shop: Any) -> None:
    job = shop.add.later(1)
    job.cancel("a mistake")
    said = call("watch", job.id)
    assert (said.code, said.out.splitlines()[-1]) == (1, f"{job.id} cancelled: a mistake")


def test_watch_as_json_prints_the_last_record_only(call: Call, shop: Any) -> None:
    job = shop.whole.later(3)
    drain(shop.app)
    data = call("watch", job.id, "--json").data
    assert (data["id"], data["state"], data["result"]) == (job.id, "completed", "6")


def test_watch_of_a_running_split_follows_it_to_its_end(call: Call, shop: Any) -> None:
    gate, begun = threading.Event(), threading.Event()

    app: Piecework = shop.app

    @app.task
    def gated() -> int:
        begun.set()
        assert gate.wait(30)
        return 1

    @app.split
    def slow():  # type: ignore[no-untyped-def]
        yield shop.add.piece(1)
        yield gated.piece()

    job = slow.later()
    looks: list[int] = []
    batch = shop.app.store.batch

    def look(id: str) -> Any:
        """Opens the gate once the split has been looked at twice while its piece ran."""
        if begun.is_set():
            looks.append(1)
            if len(looks) > 2:
                gate.set()
        return batch(id)

    shop.app.store.batch = look
    with shop.app.worker(concurrency=2):
        said = call("watch", job.id)
    assert said.code == 0
    lines = said.out.splitlines()
    assert len(lines) >= 2
    assert "100 %" not in lines[0]
    assert "2/2 pieces" in lines[-2]
    assert lines[-1] == f"{job.id} completed"


# ── by identity, tags and times ──────────────────────────────────────────────────────────────────


def ids_of(said: Any) -> list[str]:
    return [row["id"] for row in said.data]


def test_list_by_identity_and_tags(call: Call, shop: Any) -> None:
    seven = shop.add.using(identity=7, tags=["import", "acme"]).later(1)
    pair = shop.add.using(identity=("acme", 1), tags="import").later(2)
    shop.add.later(3)
    assert ids_of(call("jobs", "list", "--json", "--identity", "7")) == [seven.id]
    assert ids_of(call("jobs", "list", "--json", "--identity", '["acme",1]')) == [pair.id]
    assert ids_of(call("jobs", "list", "--json", "--tag", "import")) == [pair.id, seven.id]
    assert ids_of(call("jobs", "list", "--json", "--tag", "import", "--tag", "acme")) == [seven.id]
    assert ids_of(call("jobs", "list", "--json", "--identity", "7", "--tag", "other")) == []
    assert call("jobs", "list", "--identity", "").out.startswith("no jobs match")


def test_list_by_times(call: Call, shop: Any) -> None:
    job = shop.add.later(1)
    drain(shop.app)
    at = job.record().created_at
    after = datetime.fromtimestamp(at + 1, UTC).isoformat()
    assert ids_of(call("jobs", "list", "--json", "--since", "1h")) == [job.id]
    assert ids_of(call("jobs", "list", "--json", "--until", "1h")) == []
    assert ids_of(call("jobs", "list", "--json", "--since", after)) == []
    assert ids_of(call("jobs", "list", "--json", "--until", after, "--ended-since", "2 d")) == [job.id]
    assert ids_of(call("jobs", "list", "--json", "--ended-until", "0.5h")) == []
    local = datetime.fromtimestamp(at - 60).strftime("%Y-%m-%d %H:%M:%S")
    assert ids_of(call("jobs", "list", "--json", "--since", local)) == [job.id], "as it is printed, in local time"


@pytest.mark.parametrize("moment", ["yesterday", "5", "h", "2026-13-01", "-1h", "99999999999w"])
def test_what_is_no_moment(call: Call, shop: Any, moment: str) -> None:
    call("migrate")
    said = call("jobs", "list", f"--since={moment}")
    assert said.code == 2
    assert "moment" in said.err or "years" in said.err


def test_verbs_by_identity_and_tags(call: Call, shop: Any) -> None:
    mine = shop.add.using(identity=7).later(1)
    tagged = shop.add.using(tags="import").later(2)
    other = shop.add.later(3)
    assert call("jobs", "cancel", "--identity", "7").out == "cancelled 1 job\n"
    assert call("jobs", "cancel", "--tag", "import", "--since", "1h").out == "cancelled 1 job\n"
    assert [job.state for job in (mine, tagged, other)] == [State.CANCELLED, State.CANCELLED, State.AVAILABLE]
    assert call("jobs", "retry", "--ended-since", "1h").out == "retried 2 jobs\n"
    assert call("jobs", "cancel", "--identity", "7", mine.id).code == 2


def test_show_tells_identity_tags_and_status(call: Call, shop: Any) -> None:
    job = shop.report.using(identity="acme", tags=["a", "b"]).later(3)
    drain(shop.app)
    said = call("jobs", "show", job.id)
    assert re.search(r"^identity +acme$", said.out, re.M)
    assert re.search(r"^tags +a, b$", said.out, re.M)
    assert re.search(r'^status +\{"done":3\}, \d{4}-', said.out, re.M)
    data = call("jobs", "show", job.id, "--json").data["job"]
    assert (data["identity"], data["tags"], data["status"]) == ("acme", ["a", "b"], '{"done":3}')
