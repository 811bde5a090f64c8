"""Rows of SQLAlchemy as arguments: they travel as model and key, and are loaded again by a session of the run's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Union
from uuid import UUID

import pytest
from sqlalchemy import ForeignKey, create_engine, event, inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    object_session,
    relationship,
    scoped_session,
    sessionmaker,
)

from piecework import Piece, Pieces, Piecework, State
from piecework.errors import BadArguments, BadOption, JobCancelled, JobFailed, PieceFailed
from piecework.integrations.sqlalchemy import rows
from piecework.testing.drain import drain

# Rows are the engine's and the codec's; a store sees a key.
pytestmark = pytest.mark.elsewhere(shelf=())


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str] = mapped_column(default="user")
    posts: Mapped[list[Post]] = relationship(back_populates="user")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "user"}  # noqa: RUF012


class Admin(User):
    __mapper_args__ = {"polymorphic_identity": "admin"}  # noqa: RUF012


class Post(Base):
    __tablename__ = "post"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    user: Mapped[User] = relationship(back_populates="posts")


class Note(MappedAsDataclass, Base):
    __tablename__ = "note"
    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(default="")


class Mailer:
    """An object that is built with a row."""

    def __init__(self, user: User, copies: list[User] | None = None) -> None:
        self.user = user
        self.copies = copies

    def send(self, post: Post) -> list[Any]:
        assert post.user is self.user  # one session, and each row once
        return [self.user.name, [copy.name for copy in self.copies or []], object_session(post) is not None]


class Trouble:
    """What a session was seen to do."""

    def __init__(self, engine: Any) -> None:
        self.statements: list[str] = []
        self.out = 0
        event.listen(
            engine, "before_cursor_execute", lambda c, cur, statement, *rest: self.statements.append(statement)
        )
        event.listen(engine, "checkout", self._took)
        event.listen(engine, "checkin", self._gave)

    def _took(self, *_: Any) -> None:
        self.out += 1

    def _gave(self, *_: Any) -> None:
        self.out -= 1


@pytest.fixture
def Maker(tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    Base.metadata.create_all(engine)
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def seen(Maker: sessionmaker[Session]) -> Trouble:
    return Trouble(Maker.kw["bind"])


@pytest.fixture
def app(app: Piecework, Maker: sessionmaker[Session]) -> Piecework:
    rows(app, Maker)
    app.task(Mailer)
    return app


@pytest.fixture
def session(Maker: sessionmaker[Session]) -> Iterator[Session]:
    with Maker() as session:
        session.add(User(id=42, name="Ada"))
        session.add(Admin(id=43, name="Grace"))
        session.add(Post(id=UUID(int=7), at=datetime(2024, 1, 2, 3), user_id=42))
        session.add(Note(id="n"))
        session.commit()
        yield session


def ended(app: Piecework, job: Any) -> Any:
    drain(app)
    return job.result(timeout=0)


def test_a_row_travels_as_its_model_and_key(app: Piecework, session: Session) -> None:
    @app.task
    def greet(user: User) -> str:
        return f"hello {user.name}"

    user = session.get_one(User, 42)
    job = greet.later(user)
    name = f"{__name__}.User"
    assert job.record().args == f'{{"user":{{"model":"{name}","key":[42]}}}}'
    assert ended(app, job) == "hello Ada"
    assert greet(user) == "hello Ada"


@pytest.mark.elsewhere
def test_the_worker_reads_the_row_anew(app: Piecework, session: Session) -> None:
    @app.task
    def greet(user: User) -> str:
        return user.name

    user = session.get_one(User, 42)
    job = greet.later(user)
    user.name = "Augusta"
    session.commit()
    assert ended(app, job) == "Augusta"


def test_rows_are_arguments_of_constructors_and_methods(app: Piecework, session: Session) -> None:
    ada, grace = session.get_one(User, 42), session.get_one(User, 43)
    post = session.query(Post).one()
    assert ended(app, app.later(Mailer(ada, copies=[ada, grace]).send, post)) == ["Ada", ["Ada", "Grace"], True]
    assert ended(app, app.later(Mailer(ada).send, post)) == ["Ada", [], True]


@pytest.mark.elsewhere
def test_keys_keep_their_types(app: Piecework, session: Session) -> None:
    @app.task
    def show(post: Post, note: Note) -> list[str]:
        return [repr(post.id), repr(post.at), repr(note.id)]

    job = show.later(session.query(Post).one(), session.query(Note).one())
    assert '"key":["00000000-0000-0000-0000-000000000007","2024-01-02T03:00:00"]' in job.record().args
    assert ended(app, job) == [repr(UUID(int=7)), repr(datetime(2024, 1, 2, 3)), repr("n")]


def test_a_row_of_a_derived_model_arrives_as_itself(app: Piecework, session: Session) -> None:
    @app.task
    def what(user: User) -> str:
        return type(user).__name__

    job = what.later(session.get_one(User, 43))
    assert f"{__name__}.Admin" in job.record().args
    assert ended(app, job) == "Admin"


CONTAINERS: list[tuple[Any, Any]] = [
    (User | None, lambda user: user),
    (Union[User, None], lambda user: user),  # noqa: UP007 — the older spelling is another kind of object
    (list[User], lambda user: [user]),
    (Sequence[User], lambda user: [user, user]),
    (tuple[User, ...], lambda user: (user,)),
    (tuple[int, User], lambda user: (1, user)),
    (dict[str, User], lambda user: {"a": user}),
    (set[User], lambda user: {user}),
    (dict[str, list[User] | None], lambda user: {"a": [user], "b": None}),
    (Annotated[User, "a note"], lambda user: user),
]


@pytest.mark.parametrize(("hint", "make"), CONTAINERS, ids=[str(hint) for hint, _ in CONTAINERS])
def test_rows_travel_in_containers(app: Piecework, session: Session, hint: Any, make: Any) -> None:
    arrived: list[Any] = []

    def show(given: Any) -> None:
        arrived.append(given)

    show.__annotations__["given"] = hint
    job = app.task(show).later(make(session.get_one(User, 42)))
    drain(app)
    assert job.state is State.COMPLETED
    names = str(make("Ada"))
    assert _named(arrived[0]) == names


def _named(value: Any) -> str:
    """A value with the names of users in their place."""
    if isinstance(value, dict):
        return str(
            {
                key: item and [user.name for user in item] if isinstance(item, list | None) else item.name
                for key, item in value.items()
            }
        )
    if isinstance(value, list | tuple | set):
        return str(type(value)(item.name if isinstance(item, User) else item for item in value))
    return str(value.name)


def test_none_is_an_optional_row(app: Piecework, seen: Trouble) -> None:
    @app.task
    def show(user: User | None = None, more: str = "") -> str:
        return f"{user}{more}"

    jobs = [show.later(None), show.later(more="x")]
    drain(app)
    assert [job.result(timeout=0) for job in jobs] == ["None", "Nonex"]
    assert seen.statements == []  # no row, no session


def test_the_call_asks_the_database_nothing(app: Piecework, session: Session, seen: Trouble) -> None:
    """Not even for an expired row, or one whose columns are those of a dataclass."""

    @app.task
    def show(user: User, note: Note) -> None: ...

    @app.task
    def unannotated(thing: Any) -> None: ...

    user, note = session.get_one(User, 42), session.query(Note).one()
    session.commit()
    assert inspect(user).expired
    seen.statements.clear()
    show.later(user, note)
    for row in (user, note, [note]):
        with pytest.raises(BadArguments, match="annotate the parameter"):
            unannotated.later(row)
    assert seen.statements == []


# ── the session of a run ─────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere
def test_a_run_has_one_session_which_the_task_may_commit(app: Piecework, session: Session, seen: Trouble) -> None:
    @app.task
    def rename(user: User, same: User, other: User, keep: bool) -> bool:
        assert user is same
        own = object_session(user)
        assert own is object_session(other)
        assert own is not None
        user.name = "renamed"
        if keep:
            own.commit()
        return own is not session

    user, other = session.get_one(User, 42), session.get_one(User, 43)
    session.rollback()
    assert ended(app, rename.later(user, user, other, False)) is True
    assert session.get_one(User, 42).name == "Ada"  # what was not committed is rolled back
    session.rollback()
    assert ended(app, rename.later(user, user, other, True)) is True
    assert session.get_one(User, 42).name == "renamed"
    session.rollback()
    assert seen.out == 0


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_session_is_closed_when_the_run_raises(
    app: Piecework, session: Session, seen: Trouble, colour: str
) -> None:
    def fails(user: User) -> None:
        raise ValueError(user.name)

    async def afails(user: User) -> None:
        raise ValueError(user.name)

    task = app.task(attempts=1)(fails if colour == "sync" else afails)
    job = task.later(session.get_one(User, 42))
    session.rollback()
    with pytest.raises(JobFailed, match="ValueError: Ada"):
        ended(app, job)
    assert seen.out == 0


def test_a_coroutines_rows_are_loaded_beside_the_loop(app: Piecework, session: Session, seen: Trouble) -> None:
    loaders: list[str] = []
    ran: list[str] = []

    @event.listens_for(User, "load")
    def loaded(*_: Any) -> None:
        loaders.append(threading.current_thread().name)

    @app.task
    async def greet(user: User, same: User) -> str:
        ran.append(threading.current_thread().name)
        assert user is same
        return user.name

    user = session.get_one(User, 42)
    loaders.clear()
    job = greet.later(user, user)
    session.rollback()
    try:
        assert ended(app, job) == "Ada"
    finally:
        event.remove(User, "load", loaded)
    assert len(loaders) == 1
    assert set(loaders).isdisjoint(ran)
    assert seen.out == 0


def test_a_coroutine_that_is_late_gives_its_session_back(app: Piecework, session: Session, seen: Trouble) -> None:
    import asyncio

    @app.task(attempts=1, timeout=0.05)
    async def late(user: User) -> None:
        await asyncio.Event().wait()

    job = late.later(session.get_one(User, 42))
    session.rollback()
    with pytest.raises(JobFailed, match="timeout"):
        ended(app, job)
    assert seen.out == 0


def test_a_database_that_cannot_be_reached_is_an_error_of_the_run(app: Piecework, session: Session) -> None:
    @app.task(attempts=1)
    def greet(user: User) -> str:
        return user.name

    job = greet.later(session.get_one(User, 42))
    rows(app, sessionmaker(create_engine("sqlite:////nowhere/at/all.db")))
    with pytest.raises(JobFailed, match="OperationalError"):
        ended(app, job)


# ── rows that are gone ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("by", ["task", "call"])
@pytest.mark.parametrize(
    ("policy", "state", "runs"), [("fail", State.FAILED, 1), ("cancel", State.CANCELLED, 1), ("retry", State.FAILED, 3)]
)
def test_a_row_that_is_gone_follows_the_policy(
    app: Piecework, session: Session, policy: Any, state: State, runs: int, by: str, colour: str
) -> None:
    def greet(user: User) -> None:
        raise AssertionError("it ran")

    async def agreet(user: User) -> None:
        raise AssertionError("it ran")

    own = {"on_missing": policy} if by == "task" else {}
    task = app.task(attempts=3, retry=0, **own)(greet if colour == "sync" else agreet)
    user = session.get_one(User, 43)
    job = (task if by == "task" else task.using(on_missing=policy)).later(user)
    session.delete(user)
    session.commit()
    with pytest.raises(
        JobCancelled if policy == "cancel" else JobFailed, match=r"there is no .*Admin with the primary key 43"
    ):
        ended(app, job)
    assert job.state is state
    assert len(job.attempts()) == runs


@pytest.mark.elsewhere
def test_a_row_that_comes_late_is_found_by_a_retry(app: Piecework, session: Session, leaping: Any) -> None:
    @app.task(on_missing="retry", attempts=2, retry=10)
    def greet(user: User) -> str:
        return user.name

    session.rollback()
    user = User(id=50, name="Late")
    session.add(user)
    session.flush()
    job = greet.later(user)  # the caller has not committed yet
    drain(app)
    assert job.state is State.AVAILABLE
    session.commit()
    leaping.leap(20)
    assert ended(app, job) == "Late"


def test_an_unknown_policy_is_refused(app: Piecework) -> None:
    with pytest.raises(BadOption, match="on_missing must be 'fail', 'cancel' or 'retry'"):
        app.task(on_missing="explode")(lambda: None)  # type: ignore[call-overload]


# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.elsewhere
def test_pieces_with_rows_run_now_and_later(app: Piecework, session: Session, seen: Trouble) -> None:
    @app.task(attempts=1)
    def name(user: User) -> str:
        return user.name

    @app.split
    def names(first: User, gone: bool) -> Iterator[Piece[Any]]:
        yield name.piece(first)
        yield app.piece(Mailer(first).send, first.posts[0])

    @names.compose
    def join(pieces: Pieces[Any], first: User, gone: bool) -> list[Any]:
        return [first.name, *pieces.results()]

    user = session.get_one(User, 42)
    answer = ["Ada", "Ada", ["Ada", [], True]]
    assert names(user, False) == answer
    session.rollback()
    assert ended(app, names.later(user, False)) == answer
    assert seen.out == 0


def test_a_piece_whose_row_is_gone_fails_now_as_later(app: Piecework, session: Session) -> None:
    @app.task
    def name(user: User) -> str:
        return user.name

    @app.split
    def names(user: User) -> Iterator[Piece[str]]:
        yield name.piece(user)

    user = session.get_one(User, 43)
    piece = name.piece(user)
    session.delete(user)
    session.commit()

    @app.split
    def stale() -> Iterator[Piece[str]]:
        yield piece

    with pytest.raises(PieceFailed, match="RowGone"):
        stale()
    with pytest.raises(JobFailed, match="RowGone"):
        ended(app, stale.later())


# ── refused ──────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_cannot_be_referred_to_are_refused(app: Piecework, session: Session) -> None:
    @app.task
    def greet(user: User) -> None: ...

    @app.task
    def deep(users: dict[str, list[User]]) -> None: ...

    with pytest.raises(
        BadArguments, match="argument user: this User has no primary key yet; flush or commit its session"
    ):
        greet.later(User(id=1, name="new"))
    with pytest.raises(BadArguments, match="argument users: this User has no primary key yet"):
        deep.later({"a": [User(id=1, name="new")]})
    with pytest.raises(BadArguments, match=r"a row of .*User is expected, and this is one of .*Note"):
        greet.later(session.query(Note).one())  # type: ignore[arg-type]
    for other in (42, {"model": "x"}, "Ada"):
        with pytest.raises(BadArguments, match=r"a row of .*User is expected, and this is none"):
            greet.later(other)  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="null|None"):
        greet.later(None)  # type: ignore[arg-type]
    with pytest.raises(BadArguments, match="this User has no primary key yet"):
        app.later(Mailer(User(id=9, name="new")).send, session.query(Post).one())


def test_a_row_as_a_result_is_refused(app: Piecework, session: Session) -> None:
    @app.task(attempts=1)
    def find(user: User) -> Any:
        return user

    with pytest.raises(JobFailed, match="User is a row of a database; .* pass its key"):
        ended(app, find.later(session.get_one(User, 42)))


def test_an_app_without_a_session_refuses_rows(tmp_path: Path, session: Session) -> None:
    app = Piecework(f"sqlite:///{tmp_path}/bare.db")

    @app.task
    def greet(user: User) -> None: ...

    with pytest.raises(
        BadArguments,
        match=r"tell it how a session is opened: piecework\.integrations\.sqlalchemy\.rows\(app, Session\)",
    ):
        greet.later(session.get_one(User, 42))
    app.close()


def test_a_worker_without_a_session_parks_the_job(app: Piecework, session: Session) -> None:
    @app.task
    def greet(user: User) -> str:
        return user.name

    job = greet.later(session.get_one(User, 42))
    maker, app.rows.sqlalchemy.session = app.rows.sqlalchemy.session, None
    drain(app)
    assert job.state is State.PARKED
    assert "how a session is opened" in (job.record().reason or "")
    app.rows.sqlalchemy.session = maker
    job.retry()
    assert ended(app, job) == "Ada"


def test_a_stored_reference_to_another_model_parks_the_job(app: Piecework, session: Session) -> None:
    from piecework.ids import new_id
    from piecework.job import NewJob

    @app.task(name="greet")
    def greet(user: User) -> None: ...

    bad = ['{"model":"os.system","key":[1]}', f'{{"model":"{__name__}.Note","key":["n"]}}', f'{{"model":"{__name__}.User","key":[1,2]}}',
           f'{{"model":"{__name__}.User","key":["x"]}}', f'{{"model":"{__name__}.User","key":[1],"more":1}}']  # fmt: skip
    ids = app.store.add([NewJob(new_id(), "greet", f'{{"user":{text}}}') for text in bad])
    drain(app)
    assert [app.jobs.get(id).state for id in ids] == [State.PARKED] * len(bad)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: async_sessionmaker(), "asynchronous"),
        (lambda: sessionmaker(class_=AsyncSession), "asynchronous"),  # type: ignore[type-var]
        (lambda: Session(), "is one session"),
        (lambda: None, "give the sessionmaker"),
    ],
)
def test_what_makes_no_session_is_refused(app: Piecework, given: Any, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        rows(app, given())


def test_a_scoped_session_and_a_function_will_do(
    app: Piecework, session: Session, Maker: sessionmaker[Session]
) -> None:
    @app.task
    def greet(user: User) -> str:
        return user.name

    user = session.get_one(User, 42)
    session.rollback()
    for make in (scoped_session(Maker), lambda: Maker()):
        rows(app, make)
        assert ended(app, greet.later(user)) == "Ada"


def test_a_function_that_makes_no_session_fails_the_run(app: Piecework, session: Session) -> None:
    @app.task(attempts=1)
    def greet(user: User) -> str:
        return user.name

    rows(app, lambda: "none")  # type: ignore[arg-type, return-value]
    with pytest.raises(JobFailed, match="made a str, not a Session"):
        ended(app, greet.later(session.get_one(User, 42)))


def test_what_was_parked_for_want_of_a_session_is_not_brought_back_before_there_is_one(
    app: Piecework, session: Session
) -> None:
    """A worker looks through what is parked for jobs that it could run."""

    @app.task
    def greet(user: User) -> str:
        return user.name

    job = greet.later(session.get_one(User, 42))
    signature, text = app.registry[greet.name].signature, job.record().args
    assert signature.reads(text)
    app.rows.sqlalchemy.session = None
    assert not signature.reads(text)
