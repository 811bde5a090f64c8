"""Rows of Django as arguments: nothing is to be set up, they travel as model and key and are loaded by the base manager."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

FOLDER = Path(tempfile.mkdtemp(prefix="piecework-django-"))

if not settings.configured:
    base = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 10}}
    settings.configure(
        DATABASES={"default": {**base, "NAME": FOLDER / "shop.db"}, "archive": {**base, "NAME": FOLDER / "archive.db"}},
        INSTALLED_APPS=[],
        USE_TZ=True,
    )
    django.setup()

from django.db import connections, models, reset_queries, transaction  # noqa: E402
from django.utils.functional import SimpleLazyObject  # noqa: E402

from piecework import Piece, Pieces, Piecework, State  # noqa: E402
from piecework.errors import BadArguments, JobCancelled, JobFailed  # noqa: E402
from piecework.testing.drain import drain  # noqa: E402

# Rows are the engine's and the codec's; a store sees a key.
pytestmark = pytest.mark.elsewhere(shelf=())


class Visible(models.Manager):  # type: ignore[type-arg]
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(hidden=False)


class User(models.Model):
    name = models.CharField(max_length=20)
    hidden = models.BooleanField(default=False)
    objects = Visible()

    class Meta:
        app_label = "shop"


class Admin(User):
    """A model below another one, with a table of its own."""

    level = models.IntegerField(default=1)

    class Meta:
        app_label = "shop"


class Paper(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    class Meta:
        app_label = "shop"


class Seat(models.Model):
    pk = models.CompositePrimaryKey("row", "at")
    row = models.IntegerField()
    at = models.DateTimeField()

    class Meta:
        app_label = "shop"


class Profile(models.Model):
    user = models.OneToOneField(User, primary_key=True, on_delete=models.CASCADE)

    class Meta:
        app_label = "shop"


MODELS = (User, Admin, Paper, Seat, Profile)


class Mailer:
    def __init__(self, user: User) -> None:
        self.user = user

    def send(self, paper: Paper, copies: list[User]) -> list[Any]:
        return [self.user.name, str(paper.pk), [copy is self.user for copy in copies]]


class Untouched:
    """Does not keep what it is given."""

    def __init__(self, user: User) -> None: ...

    def told(self) -> str:
        return "built"


@pytest.fixture(scope="module", autouse=True)
def tables() -> Iterator[None]:
    for alias in connections:
        with connections[alias].schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
    yield
    connections.close_all()
    shutil.rmtree(FOLDER)


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    connections.close_all()


@pytest.fixture
def user() -> User:
    return User.objects.create(name="Ada")


def ended(app: Piecework, job: Any) -> Any:
    drain(app)
    return job.result(timeout=0)


@pytest.mark.elsewhere
def test_a_row_travels_as_its_model_and_key(app: Piecework, user: User) -> None:
    @app.task
    def greet(user: User) -> str:
        return f"hello {user.name}"

    job = greet.later(user)
    assert job.record().args == f'{{"user":{{"model":"shop.User","key":[{user.pk}]}}}}'
    assert ended(app, job) == "hello Ada"


def test_rows_are_arguments_of_constructors_and_methods(app: Piecework, user: User) -> None:
    app.task(Mailer)
    paper = Paper.objects.create()
    answer = ["Ada", str(paper.pk), [True, True]]
    assert ended(app, app.later(Mailer(user).send, paper, [user, user])) == answer


@pytest.mark.elsewhere
@pytest.mark.parametrize("name", ["Paper", "Seat", "Profile", "Admin"])
def test_keys_of_every_kind_keep_their_types(app: Piecework, user: User, name: str) -> None:
    seen: list[Any] = []

    @app.task
    def look(
        paper: Paper | None = None, seat: Seat | None = None, profile: Profile | None = None, user: User | None = None
    ) -> None:
        seen.append(paper or seat or profile or user)

    made: Any = {
        "Paper": lambda: Paper.objects.create(),
        "Seat": lambda: Seat.objects.create(row=1, at=datetime(2024, 1, 2, 3, 4, 5, 6, UTC)),
        "Profile": lambda: Profile.objects.create(user=user),
        "Admin": lambda: Admin.objects.create(name="Grace"),
    }[name]()
    ended(app, look.later(**{"user" if name == "Admin" else name.lower(): made}))
    assert seen == [made]
    assert type(seen[0]) is type(made)
    assert seen[0].pk == made.pk
    assert type(seen[0].pk) is type(made.pk)
    if name == "Seat":
        made.delete()


def test_a_row_of_another_database_is_loaded_from_there(app: Piecework) -> None:
    @app.task
    def where(user: User) -> list[Any]:
        return [user.name, user._state.db]

    old = User.objects.using("archive").create(name="Old")
    job = where.later(old)
    assert '"database":"archive"' in job.record().args
    assert ended(app, job) == ["Old", "archive"]


def test_a_manager_that_hides_rows_does_not_hide_them_from_jobs(app: Piecework) -> None:
    @app.task
    def greet(user: User) -> str:
        return user.name

    assert ended(app, greet.later(User.objects.create(name="Hid", hidden=True))) == "Hid"


def test_the_call_asks_the_database_nothing(app: Piecework, user: User, settings_debug: None) -> None:
    @app.task
    def greet(user: User) -> None: ...

    lazy = User.objects.only("id").get(pk=user.pk)
    reset_queries()
    greet.later(lazy)
    assert connections["default"].queries == []


@pytest.fixture
def settings_debug() -> Iterator[None]:
    connections["default"].force_debug_cursor = True
    yield
    connections["default"].force_debug_cursor = False


@pytest.mark.elsewhere
@pytest.mark.parametrize("fails", [False, True])
def test_connections_are_given_back_at_the_end_of_a_run(app: Piecework, user: User, fails: bool) -> None:
    left: list[Any] = []

    @app.task(attempts=1)
    def greet(user: User) -> str:
        left.append(connections["default"])
        assert connections["default"].connection is not None
        if fails:
            raise ValueError("after it was loaded")
        return user.name

    drain_one = greet.later(user)
    drain(app)
    assert drain_one.state is (State.FAILED if fails else State.COMPLETED)
    assert [connection.connection for connection in left] == [None]


def test_a_coroutines_rows_are_loaded_beside_the_loop(app: Piecework, user: User) -> None:
    """Django itself refuses to ask the database where a loop runs."""

    @app.task(attempts=1)
    async def greet(user: User, same: User) -> str:
        assert user is same
        return user.name

    assert ended(app, greet.later(user, user)) == "Ada"


@pytest.mark.parametrize(
    ("policy", "state"), [("fail", State.FAILED), ("cancel", State.CANCELLED), ("retry", State.AVAILABLE)]
)
def test_a_row_that_is_gone_follows_the_policy(app: Piecework, user: User, policy: Any, state: State) -> None:
    @app.task(on_missing=policy, attempts=2, retry=3600)
    def greet(user: User) -> str:
        return user.name

    job = greet.later(user)
    key = user.pk
    user.delete()
    drain(app)
    assert job.state is state
    if policy == "retry":
        User(pk=key, name="Back").save()
        assert job.record().attempt == 1
        return
    with pytest.raises(
        JobFailed if policy == "fail" else JobCancelled, match=rf"no shop\.User with the primary key {key}"
    ):
        job.result(timeout=0)


@pytest.mark.elsewhere
def test_pieces_with_rows_run_now_and_later(app: Piecework, user: User) -> None:
    @app.task
    def name(user: User) -> str:
        return user.name

    @app.split
    def names(user: User) -> Iterator[Piece[str]]:
        yield name.piece(user)

    @names.compose
    def join(pieces: Pieces[str], user: User) -> list[str]:
        return [user.name, *pieces.results()]

    assert names(user) == ended(app, names.later(user)) == ["Ada", "Ada"]


def test_a_split_that_runs_now_in_a_transaction_leaves_it_open(app: Piecework) -> None:
    @app.task
    def name(user: User) -> str:
        return user.name

    @app.split
    def names(user: User) -> Iterator[Piece[str]]:
        yield name.piece(user)

    with transaction.atomic():
        mine = User.objects.create(name="Mine")
        names(mine)
        assert connections["default"].in_atomic_block
        assert User.objects.filter(pk=mine.pk).exists()


def test_a_lazy_object_is_the_row_that_it_stands_for_and_is_asked_at_the_call(app: Piecework, user: User) -> None:
    """Such as the user of a request."""
    asked: list[int] = []

    def find() -> User:
        asked.append(1)
        return user

    app.task(Mailer)

    paper = Paper.objects.create()
    mailer = Mailer(SimpleLazyObject(find))
    assert asked == []
    job = app.later(mailer.send, paper, [SimpleLazyObject(lambda: user)])
    assert asked == [1]
    assert ended(app, job) == ["Ada", str(paper.pk), [True]]


def test_a_lazy_object_is_kept_until_the_call(app: Piecework, user: User) -> None:
    app.task(Untouched)
    assert ended(app, app.later(Untouched(SimpleLazyObject(lambda: user)).told)) == "built"


def test_a_lazy_object_for_no_annotation_is_told_to_be_a_row(app: Piecework, user: User) -> None:
    @app.task
    def anything(thing: Any) -> None: ...

    with pytest.raises(BadArguments, match="User is a row of a database.*annotate the parameter as User"):
        anything.later(SimpleLazyObject(lambda: user))


def test_rows_that_cannot_be_referred_to_are_refused(app: Piecework, user: User) -> None:
    @app.task
    def greet(user: User) -> None: ...

    @app.task
    def unannotated(thing: Any) -> None: ...

    @app.task
    def sheet(paper: Paper) -> None: ...

    with pytest.raises(BadArguments, match="argument user: this User has no row in the database yet; save it first"):
        greet.later(User(name="new"))
    with pytest.raises(BadArguments, match="argument paper: this Paper has no row in the database yet"):
        sheet.later(Paper())  # has a key already, but no row
    with pytest.raises(BadArguments, match="annotate the parameter as User"):
        unannotated.later(user)
    with pytest.raises(BadArguments, match=r"a row of shop\.Paper is expected, and this is one of shop\.User"):
        sheet.later(user)  # type: ignore[arg-type]
    gone = User.objects.create(name="gone")
    gone.delete()
    with pytest.raises(BadArguments, match="no row in the database"):
        greet.later(gone)


def test_a_stored_key_that_is_none_parks_the_job(app: Piecework) -> None:
    from piecework.ids import new_id
    from piecework.job import NewJob

    @app.task(name="sheet")
    def sheet(paper: Paper) -> None: ...

    bad = [
        '{"model":"shop.Paper","key":["no uuid"]}',
        '{"model":"shop.Paper","key":[]}',
        '{"model":"auth.User","key":[1]}',
    ]
    ids = app.store.add([NewJob(new_id(), "sheet", f'{{"paper":{text}}}') for text in bad])
    drain(app)
    assert [app.jobs.get(id).state for id in ids] == [State.PARKED] * 3
