"""A status asked for by business identity: from the call that stores a job until long after its end."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from piecework import Duplicate, Job, Piece, Pieces, Piecework, State, Status, current
from piecework.errors import BadArguments, BadOption, LeaseLost, NotSerializable, TooLarge, UsageError
from piecework.job import Claim, Filter, SessionRecord
from piecework.testing.drain import drain

ANSWER = {"success": False, "errors": ["Credit expire date not given"]}
Until = Callable[[Callable[[], object]], None]


def declare(app: Piecework, **options: Any) -> Any:
    """The credit card validator, with a name under which nothing else is stored."""

    def validate_card(user_id: int, number: str, attrs: dict[str, str]) -> bool:
        if "expires" not in attrs:
            current.set_status(ANSWER)
            return False
        current.set_status({"success": True, "errors": []})
        return True

    said = {"identity": lambda user_id, number, attrs: user_id, "name": "validate_card", **options}
    return app.task(**said)(validate_card)


class Importer:
    """An object that says how it stands."""

    def __init__(self, shop: str) -> None:
        self.shop = shop

    def run(self) -> None:
        current.set_status({"shop": self.shop})


# ── S3-6: in progress, and what was said ─────────────────────────────────────────────────────────


def test_s3_6_from_the_call_to_what_was_said(app: Piecework) -> None:
    validate_card = declare(app)
    assert (validate_card.in_progress(1), validate_card.status(1)) == (False, None)
    job = validate_card.later(1, "4123-5682-3821-1111", {})
    assert (validate_card.in_progress(1), validate_card.status(1)) == (True, None)
    drain(app)
    assert (validate_card.in_progress(1), validate_card.status(1)) == (False, ANSWER)
    assert (validate_card.in_progress(2), validate_card.status(2)) == (False, None)
    assert (job.result(timeout=5), job.said) == (False, ANSWER)


def test_s3_6_a_status_tells_which_job_and_when(app: Piecework) -> None:
    validate_card = declare(app)
    before = datetime.now(UTC)
    job = validate_card.later(1, "4123", {})
    drain(app)
    status = validate_card.status(1)
    assert isinstance(status, Status)
    assert (status.job, status.said_by, status.state) == (job, job, State.COMPLETED)
    assert before <= status.at <= datetime.now(UTC)
    assert validate_card.latest(1) == job
    assert validate_card.latest(2) is None


def test_s3_6_it_is_seen_while_the_job_still_runs(app: Piecework, until: Until) -> None:
    go_on = threading.Event()

    @app.task(identity="shop")
    def count(shop: int) -> None:
        current.set_status({"phase": "counting"})
        assert go_on.wait(30)
        current.set_status({"phase": "done"})

    with app.worker(concurrency=1):
        job = count.later(7)
        until(lambda: count.status(7) is not None)
        status = count.status(7)
        assert status == {"phase": "counting"}
        assert status.state is State.RUNNING
        assert count.in_progress(7)
        go_on.set()
        job.result(timeout=30)
    assert count.status(7) == {"phase": "done"}


def test_s3_6_by_a_call_of_the_same_arguments(app: Piecework) -> None:
    """Arguments that fit the task are those of a call; anything else is the identity's own value."""
    validate_card = declare(app)
    validate_card.later(1, "4123", {})
    assert validate_card.in_progress(1, "other", {"expires": "2030"})
    assert validate_card.in_progress(user_id=1, number="other", attrs={})
    assert validate_card.in_progress("1"), "7 and '7' are one identity"
    assert validate_card.using(identity=1).in_progress()
    assert not validate_card.in_progress(2, "4123", {})


@pytest.mark.parametrize(
    ("identity", "call", "asked"),
    [
        (lambda shop, user: (shop, user), ("a", 1), ("a", 1)),
        (lambda shop, user: [user], ("a", 1), (1,)),
        (["shop", "user"], ("a", 1), (("a", 1),)),
        (["user"], ("a", 1), (1,)),
        ("user", ("a", 0), (0,)),
        ("shop", ("", 1), ("",)),
        (lambda shop, user: uuid.UUID(int=user), ("a", 1), (uuid.UUID(int=1),)),
        (lambda shop, user: {"b": 1, "a": shop}, ("a", 1), ({"a": "a", "b": 1},)),
        (lambda shop, user: True, ("a", 1), (True,)),
    ],
    ids=["two", "list", "names", "one name", "zero", "empty", "uuid", "dict", "bool"],
)
def test_s3_6_identities_of_every_kind(app: Piecework, identity: Any, call: Any, asked: Any) -> None:
    @app.task(identity=identity)
    def task(shop: str, user: int) -> None:
        current.set_status({"seen": True})

    task.later(*call)
    assert task.in_progress(*asked)
    drain(app)
    assert task.status(*asked) == task.status(*call) == {"seen": True}


def test_s3_6_of_coroutines_splits_pieces_and_calls(app: Piecework) -> None:
    """Whatever runs as a job may say how it stands."""

    @app.task(identity="n")
    async def slow(n: int) -> None:
        current.set_status({"async": n})

    @app.task(identity="n")
    def leaf(n: int) -> int:
        current.set_status({"leaf": n})
        return n

    @app.split(identity="n")
    def whole(n: int) -> Iterator[Piece[int]]:
        current.set_status({"split": n})
        yield leaf.piece(n)

    @whole.compose
    def join(pieces: Pieces[int], n: int) -> int:
        current.set_status({"composed": n})
        return sum(pieces.results())

    @app.task
    def bare() -> None:
        current.set_status({"bare": True})

    slow.later(1)
    whole.later(2)
    by_call = bare.using(identity="nightly").later()
    alone = bare.later()
    assert whole.in_progress(2)
    drain(app)
    assert (slow.status(1), leaf.status(2), whole.status(2)) == ({"async": 1}, {"leaf": 2}, {"composed": 2})
    assert bare.using(identity="nightly").status() == by_call.said == alone.said == {"bare": True}
    assert bare.using(identity="other").status() is None


def test_s3_6_of_an_object(app: Piecework) -> None:
    app.task(name="Importer")(Importer)
    job = app.using(identity="acme", tags="import").later(Importer("acme").run)
    drain(app)
    assert job.said == {"shop": "acme"}
    assert [found.id for found in app.jobs.where(identity="acme", tags="import")] == [job.id]


def test_s3_6_a_failed_job_leaves_what_it_said(app: Piecework) -> None:
    @app.task(identity="n", attempts=1)
    def fails(n: int) -> None:
        current.set_status({"before": "the end"})
        raise ValueError("no")

    fails.later(1)
    drain(app)
    status = fails.status(1)
    assert status == {"before": "the end"}
    assert status is not None
    assert status.state is State.FAILED
    assert not fails.in_progress(1)


def test_s3_6_the_questions_awaited(app: Piecework) -> None:
    validate_card = declare(app)
    validate_card.later(1, "4123", {})

    async def ask() -> tuple[Any, ...]:
        return await validate_card.ain_progress(1), await validate_card.astatus(1), await validate_card.alatest(1)

    assert asyncio.run(ask())[:2] == (True, None)
    drain(app)
    assert asyncio.run(ask())[:2] == (False, ANSWER)


def test_s3_6_a_renamed_task_still_knows(app: Piecework, store_url: str) -> None:
    """Jobs are stored under the name that the task had then."""
    declare(app).later(1, "4123", {})
    drain(app)
    renamed = Piecework(store_url)
    check_card = declare(renamed, name="check_card", aliases=["validate_card"])
    assert check_card.status(1) == ANSWER
    check_card.later(1, "4123", {})
    assert check_card.in_progress(1)
    assert check_card.status(1) == ANSWER
    renamed.close()


def test_s3_6_now_it_says_nothing_and_is_checked_all_the_same(app: Piecework) -> None:
    validate_card = declare(app)
    assert validate_card(1, "4123", {}) is False
    assert validate_card.status(1) is None
    with pytest.raises(NotSerializable):
        current.set_status({"x": float("nan")})


# ── what cannot be a status, and who may not set one ─────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        ({"x": float("nan")}, NotSerializable, "NaN|nan"),
        ({"x": [1, float("inf")]}, NotSerializable, r"\['x'\]\[1\]"),
        ({"x": object()}, NotSerializable, r"\['x'\]"),
        ({"x": (1, 2)}, NotSerializable, "tuple"),
        ({"x": datetime(2026, 1, 1, tzinfo=UTC)}, NotSerializable, "datetime"),
        ({1: "x"}, BadArguments, "keys of a status are text"),
        (["x"], BadArguments, "must be a dict"),
        ("x", BadArguments, "must be a dict"),
        (None, BadArguments, "must be a dict"),
        ({"x": "y" * 2000}, TooLarge, "limit is 1,000"),
        ({"x": "\ud800"}, NotSerializable, "status"),
    ],
    ids=["nan", "inf", "object", "tuple", "datetime", "keys", "list", "text", "none", "large", "surrogate"],
)
def test_a_status_that_cannot_travel_is_refused_where_it_is_set(
    store_url: str, status: Any, error: type[Exception], says: str
) -> None:
    app = Piecework(store_url, max_payload=1000)

    @app.task(identity="n", attempts=1)
    def task(n: int) -> str:
        current.set_status({"first": n})
        with pytest.raises(error, match=says):
            current.set_status(status)
        return "refused"

    job = task.later(1)
    drain(app)
    assert (job.result(timeout=5), task.status(1)) == ("refused", {"first": 1})
    app.close()


def test_a_run_that_lost_its_job_is_not_heard(app: Piecework) -> None:
    """A worker that stood still for too long must not speak over the one that has the job now."""

    @app.task(identity="n", attempts=1)
    def task(n: int) -> None:
        if current.run == 1:
            record = app.store.get([current.id])[0]
            assert record.worker is not None
            app.store.reap(record.worker)
            with pytest.raises(LeaseLost):
                current.set_status({"run": 1})
            assert task.status(1) is None
            return
        current.set_status({"run": current.run})

    task.later(1)
    drain(app)
    drain(app)
    assert task.status(1) == {"run": 2}


@pytest.mark.parametrize("shelf", ["sqlite", "postgres"])  # those that have one
def test_with_a_transaction_it_is_a_part_of_that(app: Piecework) -> None:
    @app.task(identity="n", transaction=True, attempts=1)
    def task(n: int) -> None:
        assert current.connection
        current.set_status({"n": n})
        if n == 1:
            raise ValueError("rolled back")

    for n in (1, 2):
        task.later(n)
    drain(app)
    assert (task.status(1), task.status(2)) == (None, {"n": 2})


def test_a_transaction_that_was_not_begun_holds_nothing_back(app: Piecework) -> None:
    @app.task(identity="n", transaction=True, attempts=1)
    def task(n: int) -> None:
        current.set_status({"n": n})
        raise ValueError("the status is not a part of this")

    task.later(1)
    drain(app)
    assert task.status(1) == {"n": 1}


# ── S3-7: one for each identity ──────────────────────────────────────────────────────────────────


def test_s3_7_a_second_call_answers_with_the_first_job(app: Piecework) -> None:
    validate_card = declare(app, one_per_identity=True)
    first = validate_card.later(1, "4123", {})
    assert validate_card.later(1, "other", {"expires": "2030"}) == first
    assert validate_card.later(2, "4123", {}) != first
    assert app.jobs.where(identity=1).count() == 1
    with pytest.raises(Duplicate, match=r"validate_card\(1\)") as refused:
        validate_card.using(on_duplicate="raise").later(1, "other", {})
    assert refused.value.job_id == first.id
    drain(app)
    second = validate_card.later(1, "other", {"expires": "2030"})
    assert second != first
    assert (validate_card.in_progress(1), validate_card.status(1)) == (True, ANSWER)
    drain(app)
    assert validate_card.status(1) == {"success": True, "errors": []}
    assert first.said == ANSWER


def test_s3_7_also_while_it_runs(app: Piecework, until: Until) -> None:
    go_on = threading.Event()

    @app.task(identity="n", one_per_identity=True)
    def task(n: int) -> None:
        assert go_on.wait(30)

    with app.worker(concurrency=2):
        job = task.later(1)
        until(lambda: job.state is State.RUNNING)
        assert task.later(1) == job
        go_on.set()
        job.result(timeout=30)
        assert task.later(1) != job


def test_s3_7_fifty_threads_at_once(app: Piecework) -> None:
    validate_card = declare(app, one_per_identity=True)
    barrier, found = threading.Barrier(50), list[Job[Any]]()

    def call() -> None:
        barrier.wait()
        found.append(validate_card.later(1, "4123", {}))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 50
    assert len(set(found)) == 1
    assert app.jobs.where(identity=1).count() == 1
    drain(app)
    assert validate_card.status(1) == ANSWER


def test_s3_7_many_at_once_and_one_call_that_says_otherwise(app: Piecework) -> None:
    validate_card = declare(app, one_per_identity=True)
    jobs = validate_card.later_many([(n % 3, "4123", {}) for n in range(9)])
    assert len(set(jobs)) == 3
    assert jobs[:3] == jobs[3:6] == jobs[6:]
    assert validate_card.using(one_per_identity=False).later(1, "4123", {}) not in jobs
    assert validate_card.using(identity=None).later(1, "4123", {}) not in jobs
    assert validate_card.using(identity="1").later(8, "4123", {}) == jobs[1]


def test_s3_7_two_tasks_do_not_stand_in_each_others_way(app: Piecework) -> None:
    one, other = declare(app, one_per_identity=True), declare(app, one_per_identity=True, name="other")
    assert one.later(1, "4123", {}) != other.later(1, "4123", {})


def test_s3_7_no_identity_no_limit(app: Piecework) -> None:
    @app.task(identity=lambda user: user or None, one_per_identity=True)
    def task(user: int) -> None: ...

    assert task.later(0) != task.later(0)
    assert task.later(1) == task.later(1)


# ── S3-8: the truth after a crash; with real workers in tests/crash ──────────────────────────────


def test_s3_8_a_dead_worker_does_not_block_an_identity(app: Piecework) -> None:
    """What it held is available again: in progress for a new attempt, and the same job for a second call."""
    validate_card = declare(app, one_per_identity=True)
    job = validate_card.later(1, "4123", {})
    app.store.enlist(SessionRecord(id="dead", beat=0, started_at=1.0, seen_at=1.0, name="", host="", pid=1))
    assert [run.id for run in app.store.fetch(Claim("dead.1", 1, 1))] == [job.id]
    assert app.store.bury("dead", 0) == 1
    assert validate_card.in_progress(1)
    assert validate_card.later(1, "4123", {}) == job
    drain(app)
    assert (validate_card.in_progress(1), validate_card.status(1)) == (False, ANSWER)
    assert job.record().run == 2
    assert validate_card.later(1, "4123", {}) != job


# ── what cannot be declared or asked ─────────────────────────────────────────────────────────────


@pytest.mark.elsewhere(shelf=())
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"identity": "usr_id"}, "'usr_id' is none of its arguments"),
        ({"identity": ["user_id", "x"]}, "'x' is none of its arguments"),
        ({"identity": lambda user_id: user_id}, "is called with its arguments"),
        ({"identity": 7}, "must be a function"),
        ({"identity": []}, "must be a function"),
        ({"one_per_identity": True}, "one_per_identity needs identity="),
        ({"one_per_identity": "yes", "identity": "user_id"}, "True or False"),
        ({"identitty": "user_id"}, "did you mean 'identity'"),
        ({"tags": [""]}, "1 to 100 printable"),
        ({"tags": ["x" * 101]}, "1 to 100 printable"),
        ({"tags": 7}, "must be text, or a list"),
        ({"tags": [f"t{n}" for n in range(21)]}, "up to 20"),
    ],
    ids=[
        "name",
        "names",
        "parameters",
        "number",
        "empty",
        "one alone",
        "no flag",
        "misspelt",
        "tag",
        "long",
        "7",
        "many",
    ],
)
def test_what_cannot_be_declared(app: Piecework, options: dict[str, Any], says: str) -> None:
    with pytest.raises(BadOption, match=says):

        @app.task(**options)
        def validate(user_id: int, number: str) -> None: ...


@pytest.mark.elsewhere(shelf=())
def test_what_cannot_be_asked(app: Piecework) -> None:
    validate_card = declare(app)

    @app.task
    def bare(n: int) -> None: ...

    with pytest.raises(UsageError, match="no identity to be asked by"):
        bare.status(1)
    with pytest.raises(BadArguments):
        validate_card.status()
    with pytest.raises(BadArguments):
        validate_card.status(user=1)
    with pytest.raises(BadArguments, match="no identity"):
        validate_card.status(None)
    with pytest.raises(BadArguments, match="no arguments beside it"):
        validate_card.using(identity=1).status(1)
    with pytest.raises(BadArguments, match="up to 300 characters"):
        validate_card.status("x" * 301)


@pytest.mark.elsewhere(shelf=())
def test_what_cannot_be_called(app: Piecework) -> None:
    """Nothing is stored by a call that has no good identity."""

    @app.task(identity=lambda user: user["id"], one_per_identity=True)
    def task(user: dict[str, Any]) -> None: ...

    with pytest.raises(BadArguments, match=r"identity= raised KeyError"):
        task.later({})
    with pytest.raises(BadArguments, match="300 characters"):
        task.later({"id": "x" * 301})
    with pytest.raises(BadArguments, match="NUL"):
        task.later({"id": "a\0b"})
    with pytest.raises(BadArguments, match=r"later_many: call 1"):
        task.later_many([({"id": 1},), ({},)])
    with pytest.raises(BadOption, match="give no key= beside it"):
        task.using(key="k").later({"id": 1})
    with pytest.raises(BadOption, match="call later for each"):
        task.using(on_duplicate="raise").later_many([({"id": 1},)])
    with pytest.raises(BadOption, match="does not apply to a piece"):
        task.piece({"id": 1})
    with pytest.raises(BadOption, match="identity"):
        task.using(identity=object())
    assert app.store.count(Filter()) == 0
    assert task.using(one_per_identity=False).piece({"id": 1}).identity == "1"


def test_objects_and_operations_take_it_of_the_call(app: Piecework) -> None:
    with pytest.raises(BadOption, match=r"app.using\(identity=…\)"):

        @app.task(identity="n")
        class Thing:
            def __init__(self, n: int) -> None: ...

    with pytest.raises(BadOption, match="find it by its globals"):
        app.operation("op", main=[lambda step: None], identity="n")
