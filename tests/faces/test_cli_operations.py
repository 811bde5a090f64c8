"""`piecework operations`: what it prints, which operations it means, what it does to them, and how it exits."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from piecework import Operation, State
from piecework.byhand import whoami
from piecework.testing.drain import drain

Call = Callable[..., Any]

SOURCE = '''
"""An app with operations."""
from piecework import Piecework, branch, step, wait_for

app = Piecework("sqlite:///jobs.db")
broken = set()


def charge(step):
    step["charge"] = f"charge of {step['order']}"


def set_up(step):
    if step["order"] in broken:
        raise ConnectionError("no \\x1b[31manswer\\x00, " + "and so on " * 40)


def email(step):
    step["receipt"] = "sent"


def refund(step):
    step["refunded"] = True


def paint(step):
    step["colour"] = "red"


fulfil = app.operation("fulfilment", main=[charge, step(set_up, attempts=2, retry=0), email],
                       red=branch(paint, then="main/email"))
approve = app.operation("approval", main=[step(charge, undo=refund), wait_for("ok"), wait_for("again"), email])


@app.task
def add(a: int) -> int:
    return a
'''

_names = itertools.count(1)
NOBODY = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def name(folder: Path) -> Iterator[str]:
    name = f"desk{os.getpid()}_{next(_names)}"
    (folder / f"{name}.py").write_text(SOURCE)
    yield name
    sys.modules.pop(name, None)


def failed(shop: Any, *orders: int, **more: Any) -> list[Operation[Any]]:
    """Operations that have failed at set_up."""
    shop.broken.update(orders)
    found = shop.fulfil.later_many([{"order": order, **more} for order in orders])
    drain(shop.app)
    assert {op.status for op in found} == {"failed at main/set_up"}
    shop.broken.clear()
    return list(found)


def waiting(shop: Any, *orders: int) -> list[Operation[Any]]:
    found = shop.approve.later_many([{"order": order} for order in orders])
    drain(shop.app)
    return list(found)


def last(op: Operation[Any]) -> tuple[str, str, str]:
    """The last line of what was done by hand."""
    line = op.amendments()[-1]
    return line.what, line.by, line.reason


# ── list ─────────────────────────────────────────────────────────────────────────────────────────


def test_list_without_operations_says_so(call: Call, shop: Any) -> None:
    shop.add.later(1)
    assert call("operations", "list").out == "no operations match\n"
    assert call("operations", "list", "--json").data == []


def test_list_tells_where_each_is_newest_first(call: Call, shop: Any) -> None:
    (bad,), (wait,) = failed(shop, 1), waiting(shop, 2)
    soon = shop.fulfil.using(delay=10_000).later(order=3, a=1, b=2, c=3, d=4)
    shop.add.later(1)
    lines = call("operations", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == [soon.id, wait.id, bad.id]
    assert re.search(r"fulfilment +scheduled: main/charge +in 3 h +order=3, a=1, b=2, c=3, 1 more$", lines[0])
    assert re.search(r"approval +waiting for ok +\d+\.\d s +order=2, charge=\"charge of 2\"$", lines[1])
    assert re.search(r"fulfilment +failed at main/set_up +\d+\.\d s +order=1, charge=\"charge of 1\"$", lines[2])


def test_list_as_json_has_the_status_and_the_globals(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    (row,) = call("operations", "list", "--json").data
    assert (row["id"], row["status"], row["state"]) == (op.id, "failed at main/set_up", "failed")
    assert row["globals"] == {"order": 1, "charge": "charge of 1"}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--name", "approval"], [2]),
        (["--name", "nosuch"], []),
        (["--state", "failed"], [1]),
        (["--step", "set_up"], [1]),
        (["--step", "main/ok"], [2]),
        (["--where", "order=2"], [2]),
        (["--where", 'order="2"'], []),
        (["--where", "charge=charge of 1"], [1]),
        (["--where", 'who={"name": "ann"}'], [1]),
        (["--where", 'who={"tags": ["b"]}', "--where", "order=1"], [1]),
        (["--where", 'who={"tags": ["c"]}'], []),
        (["--where", "order=2", "--state", "failed"], []),
    ],
    ids=str,
)
def test_list_filters_by_name_state_step_and_globals(
    call: Call, shop: Any, options: list[str], wanted: list[int]
) -> None:
    failed(shop, 1, who={"name": "ann", "tags": ["a", "b"]})
    waiting(shop, 2)
    found = call("operations", "list", "--json", *options).data
    assert [row["globals"]["order"] for row in found] == wanted


@pytest.mark.parametrize(
    ("bad", "code", "said"),
    [
        (["--where", "order"], 2, "'order' is not key=value"),
        (["--where", "=1"], 2, "'=1' is not key=value"),
        (["--where", "a=[1"], 2, "is no JSON"),
        (["--where", "a=1", "--where", "a=2"], 2, "'a' is given twice"),
        (["--state", "done"], 2, "done"),
        (["--limit", "0"], 2, "--limit"),
        (["--after", NOBODY], 1, NOBODY),
    ],
    ids=str,
)
def test_bad_options_of_list_are_told(call: Call, shop: Any, bad: list[str], code: int, said: str) -> None:
    shop.fulfil.later(order=1)
    got = call("operations", "list", *bad)
    assert (got.code, got.out) == (code, "")
    assert said in got.err


def test_list_pages_with_after_in_both_directions_also_by_name(call: Call, shop: Any) -> None:
    ids = []
    for n in range(5):
        ids.append(shop.fulfil.later(order=n).id)
        shop.approve.later(order=n)
    for extra, expected in (([], ids[::-1]), (["--oldest"], ids)):
        seen: list[str] = []
        after: list[str] = []
        while page := call("operations", "list", "--name", "fulfilment", "--json", "--limit", "2", *extra, *after).data:
            seen += [row["id"] for row in page]
            after = ["--after", page[-1]["id"]]
        assert seen == expected
    assert f"more: --after {ids[3]}" in call("operations", "list", "--name", "fulfilment", "--limit", "2").out


def test_operations_under_a_former_name_are_listed_under_the_new_one(call: Call, shop: Any, folder: Path) -> None:
    old = shop.fulfil.later(order=1)
    source = SOURCE.replace('app.operation("fulfilment"', 'app.operation("deliver", aliases=["fulfilment"]')
    (folder / "renamed.py").write_text(source)
    importlib.invalidate_caches()
    try:
        renamed = importlib.import_module("renamed")
        new = renamed.fulfil.later(order=2)
        assert [row["id"] for row in call(
            "operations", "list", "--name", "deliver", "--json", "-a", "renamed:app", app=False
        ).data] == [new.id, old.id]  # fmt: skip
        renamed.app.close()
    finally:
        sys.modules.pop("renamed", None)


# ── summary ──────────────────────────────────────────────────────────────────────────────────────


def test_summary_counts_where_they_stand_and_what_went_wrong(call: Call, shop: Any) -> None:
    failed(shop, 1, 2, 3, batch="may")
    (wait,) = waiting(shop, 4)
    shop.fulfil.using(delay=10_000).later(order=5)
    said = call("operations", "summary")
    lines = said.out.splitlines()
    assert (said.code, lines[0]) == (0, "approval: 1 operation")
    assert re.fullmatch(r"        1  waiting for ok          for \d+\.\d s", lines[1])
    assert lines[2] == "fulfilment: 4 operations"
    assert re.fullmatch(r"        3  failed at main/set_up   for \d+\.\d s( … \d+\.\d s)?", lines[3])
    assert re.fullmatch(r"        1  scheduled: main/charge  in 3 h", lines[4])
    assert lines[5:7] == ["", "failures"]
    assert lines[7].startswith("        3  ConnectionError: no ·[31manswer\\x00, and so on")
    assert re.fullmatch(r" {11}fulfilment at main/set_up, in set_up \(desk\w+\.py:\d+\)", lines[8])
    assert re.fullmatch(r" {11}\d{4}-\d\d-\d\d [\d:]{8}( … [-\d: ]+)?, e\.g\. [-0-9a-f]{36}", lines[9])
    assert len(lines) == 10
    assert call("operations", "summary", "--where", "order=4").out.startswith(lines[0])
    assert wait.waits_for == "ok"


def test_summary_as_json_has_ids_and_moments(call: Call, shop: Any) -> None:
    ops = failed(shop, 1, 2)
    told = call("operations", "summary", "--name", "fulfilment", "--json").data
    (at,), (kind,) = told["counts"], told["failures"]
    assert (at["status"], at["step"], at["waits_for"], at["count"]) == ("failed at main/set_up", "main/set_up", None, 2)
    assert (kind["error"], kind["state"], kind["count"]) == ("ConnectionError", "failed", 2)
    assert {at["example"], kind["example"]} <= {op.id for op in ops}
    assert at["oldest"] <= at["newest"]


def test_summary_of_nothing_says_so(call: Call, shop: Any) -> None:
    shop.fulfil.later(order=1)
    drain(shop.app)
    assert call("operations", "summary").out == "no operations match, but for what has completed\n"
    assert call("operations", "summary", "--json").data == {"counts": [], "failures": []}
    assert "completed" in call("operations", "summary", "--state", "completed").out


def test_jobs_failures_tell_kinds_the_most_frequent_first(call: Call, shop: Any) -> None:
    failed(shop, 1, 2, 3)
    assert call("jobs", "failures", "--task", "nobody").out == "no failures match\n"
    first = call("jobs", "failures").out
    assert first.startswith("        3  ConnectionError: ")
    other = shop.fulfil.later(order=4)
    other.unset("order")
    drain(shop.app)
    assert [kind["count"] for kind in call("jobs", "failures", "--json").data] == [3]
    (again,) = call("jobs", "failures", "--state", "available", "--json").data
    assert (again["error"], again["raised_in"][:8], again["count"]) == ("KeyError", "charge (", 1)
    assert "KeyError: 'order' (will be tried again)" in call("jobs", "failures", "--state", "available").out
    lines = call("jobs", "failures", "--kinds", "1").out.splitlines()
    assert len(lines) == 3


# ── show ─────────────────────────────────────────────────────────────────────────────────────────


def test_show_tells_the_steps_the_globals_the_timeline_and_the_error(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "show", op.id)
    assert said.code == 0
    facts = dict(re.findall(r"^(\w+) +(.*)$", said.out, re.MULTILINE))
    assert (facts["operation"], facts["name"], facts["status"]) == (op.id, "fulfilment", "failed at main/set_up")
    assert re.search(r'^globals\n  order +1\n  charge +"charge of 1"\n', said.out, re.MULTILINE)
    (steps,) = re.findall(r"^steps\n((?:  .*\n)+)", said.out, re.MULTILINE)
    assert [line.split()[:2] for line in steps.splitlines()] == [
        ["completed", "main/charge"],
        ["failed", "main/set_up"],
        ["pending", "main/email"],
        ["pending", "red/paint"],
    ]
    assert "1 attempt " in steps.splitlines()[0]
    assert re.search(r"2 attempts +\d\d:\d\d:\d\d .*ConnectionError: no", steps.splitlines()[1])
    (timeline,) = re.findall(r"^timeline\n((?:  .*\n)+)", said.out, re.MULTILINE)
    assert [line.split()[2:4] for line in timeline.splitlines()] == [
        ["completed", "main/charge"],
        ["retry", "main/set_up:"],
        ["failed", "main/set_up:"],
    ]
    assert "sets charge" in timeline
    assert re.search(
        r"^ConnectionError: no .*\nTraceback .*\n.*in set_up\n +raise ConnectionError", said.out, re.MULTILINE
    )


def test_show_tells_who_did_what_and_what_it_waits_for(call: Call, shop: Any) -> None:
    (op,) = waiting(shop, 1)
    op.set(order=2, reason="a typo", by="ann@desk")
    op.signal("later", {"n": 1}, by="bob")
    said = call("operations", "show", op.id).out
    assert re.search(r"^waits for +the signal ok$", said, re.MULTILINE)
    assert re.search(r"edited +main/ok  by ann@desk: a typo; sets order$", said, re.MULTILINE)
    assert re.search(r"signal later +by bob$", said, re.MULTILINE)
    assert re.search(r'^signals that nobody has taken\n  \S+ \S+  later  {"n":1}  by bob$', said, re.MULTILINE)


def test_show_as_json_has_everything(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    op.set(order=2)
    data = call("operations", "show", "--json", op.id).data
    assert (data["status"], data["job"]["id"]) == ("failed at main/set_up", op.id)
    assert data["operation"]["globals"] == {"order": 2, "charge": "charge of 1"}
    assert [(s["name"], s["state"], s["attempts"]) for s in data["steps"]] == [
        ("charge", "completed", 1), ("set_up", "failed", 2), ("email", "pending", 0), ("paint", "pending", 0)
    ]  # fmt: skip
    assert [event["what"] for event in data["timeline"]] == ["completed", "retry", "failed", "edited"]
    assert data["plan"]["branches"]["main"] == ["charge", "set_up", "email"]
    assert data["amendments"][0]["what"] == "edited"


def test_nothing_from_an_operation_steers_the_terminal(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1, **{"a\x1b[2Jb": "c\x1b[2Jd\n\x07"})
    op.cancel()
    op.set(order=1, reason="r\x1b[1m\x00", by="x\x1b[2J")
    for said in (call("operations", "show", op.id), call("operations", "list"), call("jobs", "show", op.id)):
        assert said.code == 0
        assert not re.findall(r"[^\n\t\x20-\x7e·…–]", said.out)


def test_show_of_many_steps_shows_the_first_and_the_last(call: Call, shop: Any) -> None:
    def go_round(step: Any) -> None:
        step["n"] = step.get("n", 0) + 1
        if step["n"] < 60:
            step.jump_to("go_round")

    op = shop.app.operation("loop", main=[go_round]).later()
    drain(shop.app)
    said = call("operations", "show", op.id).out
    assert said.count("… 20 more; --json shows them all") == 2
    assert "go_round #60" in said
    assert len(call("operations", "show", "--json", op.id).data["steps"]) == 60


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_what_is_no_operation_is_not_shown(call: Call, shop: Any, extra: list[str]) -> None:
    job = shop.add.later(1)
    for id in (NOBODY, job.id, "nonsense"):
        said = call("operations", "show", id, *extra)
        assert (said.code, said.out) == (1, "")
        assert f"no operation {id}: " in said.err


# ── verbs ────────────────────────────────────────────────────────────────────────────────────────


def test_retry_goes_on_at_the_failed_step(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "retry", op.id, "--reason", "it is back", "--by", "ann")
    assert (said.code, said.out, said.err) == (0, "retried 1 operation\n", "")
    assert last(op) == ("retried", "ann", "it is back")
    drain(shop.app)
    assert [(step.name, step.attempts) for step in op.steps[:3]] == [("charge", 1), ("set_up", 3), ("email", 1)]


def test_what_a_verb_does_not_fit_is_told_with_its_status_and_the_others_are_done(call: Call, shop: Any) -> None:
    (bad,), (wait,) = failed(shop, 1), waiting(shop, 2)
    said = call("operations", "retry", wait.id, bad.id)
    assert (said.code, said.out) == (1, "retried 1 operation\n")
    assert said.err == f"piecework: operation {wait.id} (waiting for ok): there is nothing to retry\n"
    assert bad.state is State.AVAILABLE


def test_cancel_and_resume(call: Call, shop: Any) -> None:
    (op,) = waiting(shop, 1)
    assert call("operations", "cancel", op.id, "--reason", "a mistake").out == "cancelled 1 operation\n"
    assert last(op) == ("cancelled", whoami(), "a mistake")
    assert op.record().reason == "a mistake"
    assert call("operations", "cancel", op.id).code == 1
    assert call("operations", "resume", op.id).out == "resumed 1 operation\n"
    assert op.waits_for == "ok"


def test_cancel_with_undo(call: Call, shop: Any) -> None:
    (op,) = waiting(shop, 1)
    assert call("operations", "cancel", "--undo", op.id).code == 0
    assert re.search(r"^undoes +what it did, to end as cancelled", call("operations", "show", op.id).out, re.MULTILINE)
    drain(shop.app)
    assert (op.state, op.globals["refunded"]) == (State.CANCELLED, True)
    assert re.search(r"^undid +what it did, to end as cancelled", call("operations", "show", op.id).out, re.MULTILINE)


def test_skip_says_which_step(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "skip", op.id, "--reason", "done by phone")
    assert (said.code, said.out) == (0, f"{op.id}  main/set_up is skipped\nskipped 1 operation\n")
    assert op.status == "due: behind main/set_up"
    assert re.search(r"^  skipped +main/set_up ", call("operations", "show", op.id).out, re.MULTILINE)
    drain(shop.app)
    assert (op.state, op.globals["receipt"]) == (State.COMPLETED, "sent")


def test_skip_without_resuming_leaves_it_failed(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    assert call("operations", "skip", op.id, "--no-resume").code == 0
    assert op.state is State.FAILED


@pytest.mark.parametrize(
    "words", [["red", "{id}"], ["{id}", "paint"], ["{id}", "red", "paint"], ["red", "{id}", "paint"]]
)
def test_jump_takes_its_target_before_or_behind_the_id(call: Call, shop: Any, words: list[str]) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "jump", *(word.format(id=op.id) for word in words), "--by", "ann")
    assert (said.code, said.out) == (0, f"{op.id}  goes on at red/paint\nmoved 1 operation\n")
    assert last(op)[:2] == ("jumped", "ann")
    drain(shop.app)
    assert op.globals["colour"] == "red"


def test_jump_to_what_is_not_on_the_plan_is_told(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "jump", op.id, "emial")
    assert (said.code, said.out) == (1, "moved 0 operations\n")
    assert "did you mean 'email'?" in said.err
    for words in ([op.id], [op.id, "a", "b", "c"]):
        assert "say where to" in call("operations", "jump", *words).err
    assert op.amendments() == []


def test_set_takes_json_or_text_and_unset_takes_away(call: Call, shop: Any) -> None:
    (op,) = waiting(shop, 1)
    values = ["a=1", "b=x y", 'c={"d": [true]}', "e=", "f=null", "g==="]
    assert call("operations", "set", *values[:3], op.id, *values[3:], "--reason", "why").out == "edited 1 operation\n"
    added = {"a": 1, "b": "x y", "c": {"d": [True]}, "e": "", "f": None, "g": "=="}
    assert op.globals == {"order": 1, "charge": "charge of 1", **added}
    assert last(op)[::2] == ("edited", "why")
    assert call("operations", "unset", "a", "e", op.id).code == 0
    assert set(op.globals) == {"order", "charge", "b", "c", "f", "g"}
    said = call("operations", "unset", "nosuch", op.id)
    assert said.code == 1
    assert "there is no global 'nosuch'" in said.err


@pytest.mark.parametrize("words", [[], ["a"], ["a=[1"], ["=1"], ["a=1", "a=2"]], ids=str)
def test_what_cannot_be_set_changes_nothing(call: Call, shop: Any, words: list[str]) -> None:
    (op,) = waiting(shop, 1)
    before = op.globals
    said = call("operations", "set", op.id, *words)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("piecework: ")
    assert op.globals == before


def test_fork_prints_the_new_id_and_both_tell_of_each_other(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "fork", op.id, "--after", "charge", "order=5", "--reason", "for ann")
    new, told = said.out.splitlines()
    assert (said.code, told) == (0, "forked 1 operation")
    assert re.search(rf"^forks +{new}: for ann$", call("operations", "show", op.id).out, re.MULTILINE)
    assert re.search(rf"^forked from +{op.id}, after its visit 1$", call("operations", "show", new).out, re.MULTILINE)
    drain(shop.app)
    assert shop.fulfil.get(new).globals == {"order": 5, "charge": "charge of 1", "receipt": "sent"}
    (visit,) = call("operations", "fork", op.id, "--after", "1", "--json").data["ids"]
    assert shop.fulfil.get(visit).globals["charge"] == "charge of 1"
    start = call("operations", "fork", op.id).out.splitlines()[0]
    assert shop.fulfil.get(start).at.name == "main/charge"


def test_fork_behind_what_has_not_completed_is_told(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("operations", "fork", op.id, "--after", "email")
    assert (said.code, said.out) == (1, "forked 0 operations\n")
    assert "has no completed step 'email'" in said.err


@pytest.mark.parametrize("words", [["ok", '{"n": 1}'], ["ok", "--payload", '{"n": 1}']], ids=str)
def test_signal_brings_its_payload(call: Call, shop: Any, words: list[str]) -> None:
    (op,) = waiting(shop, 1)
    said = call("operations", "signal", op.id, *words, "--by", "ann")
    assert (said.code, said.out) == (0, "signalled 1 operation\n")
    drain(shop.app)
    assert (op.globals["ok"], op.waits_for) == ({"n": 1}, "again")
    assert [signal.by for signal in shop.app.store.signals(op.id)] == ["ann"]


@pytest.mark.parametrize("words", [[], ["ok", "text"], ["ok", "1", "2"], ["ok", "1", "--payload", "2"]], ids=str)
def test_a_signal_that_cannot_be_right_is_not_sent(call: Call, shop: Any, words: list[str]) -> None:
    (op,) = waiting(shop, 1)
    said = call("operations", "signal", op.id, *words)
    assert (said.code, said.out) == (2, "")
    assert shop.app.store.signals(op.id) == []


def test_without_the_app_everything_works_but_a_fork_which_says_what_it_needs(call: Call, shop: Any) -> None:
    (op,), (wait,) = failed(shop, 1), waiting(shop, 2)

    def bare(*words: str) -> Any:
        return call("operations", *words, "--store", "sqlite:///jobs.db", app=False)

    assert op.id in bare("list").out
    assert "main/set_up" in bare("show", op.id).out
    assert bare("set", op.id, "a=1").code == 0
    assert bare("jump", op.id, "red", "--no-resume").code == 0
    assert bare("skip", op.id, "--no-resume").code == 0
    assert bare("retry", op.id).code == 0
    assert bare("signal", wait.id, "ok").code == 0
    said = bare("fork", op.id)
    assert said.code == 1
    assert "name the app, --app MODULE:APP" in said.err
    drain(shop.app)
    assert (op.status, op.globals["a"], wait.waits_for) == ("completed", 1, "again")


# ── by filter ────────────────────────────────────────────────────────────────────────────────────


def test_many_by_filter_are_counted_first_and_done_with_yes(call: Call, shop: Any) -> None:
    found = failed(shop, 1, 2, 3)
    said = call("operations", "retry", "--name", "fulfilment")
    assert (said.code, said.out) == (1, "")
    assert said.err == "piecework: this is about 3 operations; say --yes to retry all of them\n"
    assert {op.state for op in found} == {State.FAILED}
    assert call("operations", "retry", "--name", "fulfilment", "--yes").out == "retried 3 operations\n"
    assert {op.state for op in found} == {State.AVAILABLE}


def test_one_by_filter_is_done_at_once_and_none_is_no_failure(call: Call, shop: Any) -> None:
    (op, _) = failed(shop, 1, 2)
    assert call("operations", "retry", "--where", "order=1", "--json").data == {"retried": 1}
    assert call("operations", "retry", "--where", "order=1", "--json").data == {"retried": 0}
    assert op.state is State.AVAILABLE


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (["cancel"], 5),
        (["resume"], 0),
        (["skip"], 5),
        (["jump", "main"], 5),
        (["jump", "email", "--state", "waiting"], 2),
        (["set", "a=1", "--step", "main/ok"], 2),
        (["unset", "order", "--where", "order=4"], 1),
        (["signal", "ok", "--state", "waiting"], 2),
        (["signal", "ok"], 3),
        (["fork", "--where", "order=1"], 1),
    ],
    ids=str,
)
def test_each_verb_acts_once_on_those_that_it_fits(call: Call, shop: Any, words: list[str], done: int) -> None:
    """Two that failed, two that wait, one that is due; one that completed. Waiting ones that are signalled become due."""
    ended = shop.fulfil.later(order=9)
    failed(shop, 1, 2)
    waiting(shop, 3, 4)
    shop.fulfil.later(order=5)
    done = done - 2 if words[0] == "cancel" else done  # what failed has ended
    chosen = [] if any(word.startswith("--") for word in words) else ["--all"]
    said = call("operations", *words, *chosen, "--yes", "--json")
    (number,) = (value for key, value in said.data.items() if key != "ids")
    assert (said.code, number, said.err) == (0, done, "")
    amended = [op for op in shop.app.operations if len(op.amendments()) > 1]
    assert amended == []
    assert sum(len(shop.app.store.signals(op.id)) for op in shop.app.operations) == (done if "signal" in words else 0)
    assert ended.state is State.COMPLETED


def test_refusals_of_many_are_told_a_few_and_counted(call: Call, shop: Any) -> None:
    failed(shop, *range(8))
    said = call("operations", "jump", "nowhere", "--all", "--yes")
    assert (said.code, said.out) == (1, "moved 0 operations\n")
    lines = said.err.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "piecework: … and 3 more like these"


@pytest.mark.parametrize("verb", ["retry", "resume", "cancel", "skip"])
def test_operations_have_to_be_named(call: Call, shop: Any, verb: str) -> None:
    (op,) = failed(shop, 1)
    before = op.record()
    assert "or --all" in call("operations", verb).err
    assert "not both" in call("operations", verb, op.id, "--name", "fulfilment").err
    assert "'nonsense' is no id" in call("operations", verb, "nonsense").err
    said = call("operations", verb, op.id, NOBODY)
    assert said.code == 1
    assert f"no operation {NOBODY}" in said.err
    assert (op.record(), op.amendments()) == (before, [])


def on_a_terminal(folder: Path, answer: str, *words: str) -> tuple[int, str]:
    """What a command comes to whose standard input and output are a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "piecework", *words, "--store", "sqlite:///jobs.db"]
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "TERM": "xterm",
    }
    child = subprocess.Popen(command, cwd=folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer.encode())
    said = b""
    while True:
        try:
            some = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        said += some
    os.close(ours)
    return child.wait(timeout=60), said.decode()


@pytest.mark.parametrize(("answer", "code", "state"), [("y\n", 0, State.AVAILABLE), ("n\n", 130, State.FAILED)])
def test_on_a_terminal_it_asks(shop: Any, folder: Path, answer: str, code: int, state: State) -> None:
    found = failed(shop, 1, 2)
    got, said = on_a_terminal(folder, answer, "operations", "retry", "--all")
    assert "retry 2 operations? [y/N]" in said
    assert got == code
    assert {op.state for op in found} == {state}


def test_on_a_narrow_terminal_lines_are_cut(shop: Any, folder: Path) -> None:
    failed(shop, 1, text="x" * 500)
    code, said = on_a_terminal(folder, "", "operations", "list")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
    assert code == 0
    assert len(lines) == 2  # a terminal of unknown width has 80 columns
    assert max(len(line) for line in lines) <= 80


# ── as jobs ──────────────────────────────────────────────────────────────────────────────────────


def test_jobs_tell_that_one_is_an_operation(call: Call, shop: Any) -> None:
    (op,), (wait,) = failed(shop, 1), waiting(shop, 2)
    said = call("jobs", "show", op.id).out
    assert re.search(r"^operation +at main/set_up; piecework operations show tells its steps$", said, re.MULTILINE)
    assert "run 1 of main/charge, " in said
    assert re.search(r"^run 3 of main/set_up, .*: failed: ConnectionError", said, re.MULTILINE)
    lines = call("jobs", "list").out.splitlines()
    assert re.search(rf"^{wait.id}  waiting .*approval  at main/ok$", lines[0])
    assert re.search(rf"^{op.id}  failed .*fulfilment  at main/set_up: no ", lines[1])


def test_watch_tells_where_an_operation_stands(call: Call, shop: Any) -> None:
    (op,) = failed(shop, 1)
    said = call("watch", op.id)
    assert said.code == 1
    assert "fulfilment: 2 steps, failed" in said.out
    op.retry()
    with shop.app.worker(concurrency=1):
        said = call("watch", op.id)
    assert said.code == 0
    assert "3 steps, completed" in said.out
    assert json.loads(call("watch", op.id, "--json").out)["state"] == "completed"
