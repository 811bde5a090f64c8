"""How SQLite goes about each statement: through the index that was made for it, and never through every job there is.

No clock here: the plan is what makes a fetch as fast with millions of finished and future jobs as without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from piecework.job import Filter, State
from piecework.store.sql.filters import RECORD_COLUMNS
from piecework.store.sqlite.filters import behind, order, source, where
from piecework.store.sqlite.store import SqliteStore
from piecework.store.sqlite.transaction import SQL

BY_ID, BY_SEQ = "sqlite_autoindex_piecework_job_1", "INTEGER PRIMARY KEY"
LINE, LATER, RUNNING, ENDED = (f"piecework_job_{name}" for name in ("line", "later", "running", "ended"))

# The ways of a fetch, a settlement and an enqueue: statement, and how the jobs are found in it.
WAYS = {
    "fetch_lines": [LINE, LINE],
    "fetch_due": [LATER, "piecework_job_expiry"],
    "fetch_expired": ["piecework_job_expiry"],
    "fetch_ripe": [BY_SEQ, LATER],
    "fetch_one_line": [LINE],
    "fetch_lines_merged": [BY_SEQ, LINE],
    "fetch_again": [RUNNING],
    "fetch_start": [BY_SEQ],
    "fence_read": [BY_ID],
    "settle_complete": [BY_ID],
    "settle_any": [BY_ID],
    "settle_fences": [BY_ID],
    "settle_stopping": [BY_ID],
    "settle_strays": ["piecework_job_place"],
    "history_add": [BY_ID],
    "then_read": [BY_ID],
    "own_read": [BY_ID],
    "batch_release": [BY_ID],
    "batch_fail_then": [BY_ID],
    "batch_first_failure": [ENDED, ENDED, ENDED],
    "advance_lines": [BY_ID],
    "advance_keep": [BY_ID],
    "advance_any": [BY_ID],
    "advance_results": [BY_ID],
    "advance_waits_over": [BY_ID],
    "fetch_operations": [BY_ID],
    "wait_late": [BY_SEQ],
    "wait_begin": [BY_ID],
    "wait_pause": [BY_ID],
    "wait_again": [BY_ID],
    "amend_read": [BY_ID],
    "amend_lines": [BY_ID],
    "amend_move": [BY_ID],
    "retry_plain": [BY_ID],
    "retry_rows": [BY_ID],
    "signal_for": [BY_ID],
    "wait_end": [BY_SEQ],
    "wait_wake": [BY_SEQ],
    "wait_met": [BY_ID],
    "add_plain": [],
    "add_operation": [],
    "add_operation_rows": [BY_ID],
    "add_operation_terms": [BY_ID],
    "add_held": [BY_SEQ, BY_ID],
    "add_placed": [],
    "add_known": [BY_ID],
    "add_batch": [BY_ID],
    "add_below": [BY_ID],
    "add_offer": [BY_ID],
    "add_last_place": ["piecework_job_place"],
    "add_labelled": [],
    "add_tags": [BY_ID],
    "set_status": [BY_ID],
    "standing_read": ["piecework_job_identity", BY_SEQ, BY_SEQ, "piecework_job_status"],
    "add_stored": [BY_ID, BY_ID, "piecework_job_key", "piecework_job_piece", "piecework_job_place"],
    "report_progress": [RUNNING],
    "report_stopping": [RUNNING],
    "holds_read": [RUNNING],
    "reap_rows": [RUNNING],
    "stop_running": [RUNNING],
    "prune_jobs": [BY_SEQ],
}
SORTS = {"fetch_lines_merged", "fetch_again", "batch_first_failure", "standing_read"}  # a claim's worth, or three rows

# What may be read from its first row to its last: what the statement was given, what it made, and tables of a few rows.
SMALL = re.compile(
    r"SCAN (json_each|s|t|n|e|named|newest|said|line|doomed|gone|step|\(subquery-\d+\)|CONSTANT ROW|piecework_(session|tally|pause))( .*)?"
    r"|SCAN (piecework_job|j) USING INDEX piecework_job_running"  # as many as there are places in workers
    r"|SCAN piecework_batch USING INDEX piecework_batch_held"
    r"|SCAN o USING COVERING INDEX piecework_operation_digest"  # `check` looks at every operation
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    store = SqliteStore(f"sqlite:///{tmp_path_factory.mktemp('plans')}/jobs.db")
    store.migrate()
    yield store
    store.close()


def plan(store: SqliteStore, sql: str) -> list[str]:
    params = dict.fromkeys(re.findall(r":([a-z_0-9]+)", sql), "[]")
    with store.db.read() as con:
        return [str(row[3]) for row in con.execute("EXPLAIN QUERY PLAN " + sql, params)]


def filled(title: str, which: Filter) -> str:
    return SQL[title].format(
        columns=RECORD_COLUMNS,
        jobs=source(which),
        where=where(which)[0],
        after=behind(which, newest=title.endswith("newest")),
        order=order(which),
    )


def scans(steps: list[str]) -> list[str]:
    """The steps that read something whole that can be large."""
    return [step for step in steps if step.startswith("SCAN") and not SMALL.fullmatch(step.split(" VIRTUAL")[0])]


def ways(steps: list[str]) -> list[str]:
    """How jobs are found: the index of each step that looks for some."""
    found = [
        re.match(r"(?:SEARCH|SCAN) (?:piecework_job|j) USING (?:COVERING )?(?:INDEX )?(.+?)(?: \(|$)", s) for s in steps
    ]
    return [match.group(1) for match in found if match]


@pytest.mark.parametrize("title", [title for title in SQL if "{" not in SQL[title]])
def test_no_statement_reads_all_jobs(store: SqliteStore, title: str) -> None:
    assert scans(plan(store, SQL[title])) == []


@pytest.mark.parametrize("title", WAYS)
def test_a_statement_of_the_daily_round_goes_its_way(store: SqliteStore, title: str) -> None:
    steps = plan(store, SQL[title])
    assert ways(steps) == WAYS[title]
    assert title in SORTS or not [step for step in steps if "TEMP B-TREE" in step]


def test_every_statement_of_the_daily_round_is_watched(store: SqliteStore) -> None:
    """A new statement of these verbs has to be given its way above."""
    verbs = [title for title in SQL if title.startswith(("fetch_", "settle_", "advance_", "wait_", "add_"))]
    assert [title for title in verbs if title not in WAYS and ways(plan(store, SQL[title]))] == []


@pytest.mark.parametrize("title", ["retry_select", "cancel_select", "find_page", "find_page_newest", "find_count"])
def test_a_job_that_is_named_is_found_by_its_name(store: SqliteStore, title: str) -> None:
    assert ways(plan(store, filled(title, Filter(ids=("a",))))) == [BY_ID]


@pytest.mark.parametrize("title", ["find_page", "find_page_newest", "find_count"])
@pytest.mark.parametrize(
    "which", [Filter(state=State.RUNNING), Filter(batch="a", state=State.RUNNING)], ids=["", "batch"]
)
def test_running_jobs_are_found_among_the_running(store: SqliteStore, title: str, which: Filter) -> None:
    """`watch` asks so, many times a second, of a batch that may have a million pieces."""
    assert ways(plan(store, filled(title, which))) == [RUNNING]


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.PARKED])
def test_jobs_that_did_not_end_well_are_found_among_their_like(store: SqliteStore, state: State) -> None:
    assert ways(plan(store, filled("find_page", Filter(state=state)))) == [ENDED]
    assert ways(plan(store, filled("find_page", Filter(batch="a", state=state)))) == [ENDED]


@pytest.mark.parametrize(
    ("condition", "way"),
    [("seq > :after ORDER BY seq LIMIT :limit", BY_SEQ), ("seq IN (SELECT value FROM json_each(:seqs))", BY_SEQ)],
    ids=["walk", "bite"],
)
def test_pruning_walks_by_arrival(store: SqliteStore, condition: str, way: str) -> None:
    steps = plan(store, SQL["prune_look"].format(which=condition))
    assert ways(steps)[0] == way
    assert scans(steps) == []


def test_a_page_of_failures_is_not_sorted_out_of_all(store: SqliteStore) -> None:
    assert ways(plan(store, SQL["pieces_failed_page"])) == [BY_SEQ, ENDED, ENDED, ENDED]


OPERATION = {"find_page": "place > ", "find_page_newest": "place < "}


@pytest.mark.parametrize("title", OPERATION)
def test_operations_are_found_by_their_terms(store: SqliteStore, title: str) -> None:
    """From the page's start, in the order of arrival: nothing is sorted, and nothing that does not match is read."""
    steps = plan(store, filled(title, Filter(terms=("n=1", "m=2"), state=State.FAILED)))
    assert steps[0].startswith("SEARCH t USING COVERING INDEX piecework_term_found (term=? AND operation")
    assert ways(steps) == [BY_SEQ]
    assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith("SCAN")]


@pytest.mark.parametrize("title", OPERATION)
def test_operations_are_listed_among_each_other(store: SqliteStore, title: str) -> None:
    steps = plan(store, filled(title, Filter(operations=True, task="a")))
    assert steps[0].startswith("SEARCH piecework_operation USING INTEGER PRIMARY KEY")
    assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith("SCAN")]


@pytest.mark.parametrize(
    ("title", "way"),
    [
        ("wait_late", "piecework_operation_wake"),
        ("fetch_due", "piecework_operation_wake"),
        ("oldest_due", "piecework_operation_wake"),
        ("wait_met", "piecework_signal_kept"),
        ("advance_waits_over", "piecework_operation_wait"),
        ("advance_open_batches", "piecework_batch_step"),
        ("attempts_read", "piecework_step_line"),
        ("history_trim_visit", "piecework_attempt_visit"),
        ("operation_terms_drop", "PRIMARY KEY (operation=? AND global=?)"),
        ("prune_terms", "PRIMARY KEY (operation=?)"),
        ("prune_steps", "piecework_step_line"),
        ("prune_plans", "piecework_operation_digest"),
        ("add_held", "piecework_operation_key"),
    ],
)
def test_what_belongs_to_operations_has_its_index(store: SqliteStore, title: str, way: str) -> None:
    assert [step for step in plan(store, SQL[title]) if way in step]


IDENTITY = "piecework_job_identity"


@pytest.mark.parametrize("title", ["find_page", "find_page_newest", "find_count", "retry_select", "cancel_select"])
def test_jobs_are_found_by_their_identity(store: SqliteStore, title: str) -> None:
    """Whatever else is asked of them; those of one task are in order of arrival already."""
    for more in ({}, {"task": "a"}, {"state": State.FAILED}, {"tags": ("a",)}, {"created_from": 1.0}, {"queue": "q"}):
        steps = plan(store, filled(title, Filter(identity="7", **more)))
        assert ways(steps) == [IDENTITY], more
        if "task" in more:
            assert not [step for step in steps if "TEMP B-TREE" in step]


@pytest.mark.parametrize("title", ["find_page", "find_page_newest", "find_count", "retry_select", "cancel_select"])
def test_jobs_are_found_by_their_tags(store: SqliteStore, title: str) -> None:
    """In order of arrival, from the page's start: nothing is sorted, and nothing without the tag is read."""
    place = {"find_page": " AND job>?", "find_page_newest": " AND job<?"}.get(title, "")
    for more in ({}, {"task": "a"}, {"state": State.COMPLETED}, {"finished_from": 1.0}, {"queue": "q"}):
        steps = plan(store, filled(title, Filter(tags=("a", "b"), **more)))
        assert steps[0] == f"SEARCH piecework_tag USING PRIMARY KEY (tag=?{place})"
        assert ways(steps) == [BY_SEQ]
        assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith("SCAN")]


def test_failures_with_a_tag_are_found_among_the_failures(store: SqliteStore) -> None:
    """A tag may be on a million jobs that ended well."""
    assert ways(plan(store, filled("find_page", Filter(tags=("a",), state=State.FAILED)))) == [ENDED]
    assert ways(plan(store, filled("find_page", Filter(finished_from=1.0, state=State.FAILED)))) == [ENDED]


def test_what_is_deleted_by_a_label_is_found_by_it(store: SqliteStore) -> None:
    for which, way in ((Filter(identity="7"), IDENTITY), (Filter(tags=("a",)), BY_SEQ)):
        steps = plan(store, SQL["delete_select"].format(where=where(which, alone=True)[0]))
        assert ways(steps)[0] == way


def test_whether_an_identity_is_busy_is_told_without_what_has_ended(store: SqliteStore) -> None:
    assert [step for step in plan(store, SQL["standing_read"]) if "SEARCH b USING INDEX piecework_job_busy" in step]


def test_these_eyes_see_a_scan(store: SqliteStore) -> None:
    assert scans(plan(store, "SELECT * FROM piecework_job WHERE task = 'a'")) == ["SCAN piecework_job"]
    assert scans(plan(store, "SELECT * FROM piecework_job ORDER BY seq")) == ["SCAN piecework_job"]
    assert scans(plan(store, "SELECT id FROM piecework_job")) != []
