"""The PostgreSQL shelf in trouble: lost connections, strange roles, old schemas, poolers, and what it says of them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.adapt import AdaptersMap, Loader
from tests.servers import UNSYNCED, Postgres
from tests.support import until
from waiting import Waiter, quiet

from piecework.errors import BadSettings, SchemaOutdated, StoreError, StoreUnavailable, UsageError
from piecework.job import Answer, Filter, State
from piecework.store import open_store
from piecework.store.postgres import bulk, database, ground, schema
from piecework.store.postgres import store as shelf
from piecework.store.postgres.filters import order, source, where
from piecework.store.postgres.store import PostgresStore
from piecework.store.postgres.transaction import SQL, Statements
from piecework.store.sql.filters import RECORD_COLUMNS
from piecework.testing.conformance.kit import (
    a_claim,
    a_job,
    a_session,
    add,
    assert_sound,
    at_work,
    completed,
    everything,
    fetch,
    fetch_one,
    settle,
    state,
    together,
)

_names = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A schema that no other test has."""
    return f"pg_test_{next(_names)}".replace("pg_", "p_")


@pytest.fixture
def url(postgres: Postgres, name: str) -> str:
    return f"{postgres.url}?schema={name}"


@pytest.fixture
def store(url: str) -> Iterator[PostgresStore]:
    with at_work(PostgresStore(url), sound=False) as store:
        yield store


@pytest.fixture
def admin(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url, autocommit=True) as con:
        yield con


def sessions(admin: psycopg.Connection[Any]) -> list[int]:
    """The server's processes that serve piecework."""
    return [row[0] for row in admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'piecework'")]


def cut(admin: psycopg.Connection[Any]) -> None:
    """Ends every connection of piecework's on the server."""
    for pid in sessions(admin):
        admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
    until(lambda: not sessions(admin), "they are gone")


# ── where it is ──────────────────────────────────────────────────────────────────────────────────


def test_the_url_is_shown_without_credentials() -> None:
    store = open_store("postgres://u:secret@h:5433/db?schema=jobs&sslmode=require&password=secret2")
    assert store.url == "postgresql://h:5433/db?schema=jobs"
    assert open_store("postgresql://u:secret@h/db").url == "postgresql://h/db"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("schema=", "schema="),
        ("schema=pg_jobs", "pg_"),
        (f"schema={'x' * 64}", "bytes"),
        ("pooler=perhaps", "yes or no"),
        ("connections=1", "2 to 100"),
        ("connections=many", "2 to 100"),
        ("no_such_option=1", "no_such_option"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(options: str, said: str) -> None:
    with pytest.raises(BadSettings, match=said) as refused:
        open_store(f"postgresql://u:secret@h/db?{options}")
    assert "secret" not in str(refused.value)


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(BadSettings, match=r"pip install 'piecework\[postgres\]'"):
        open_store("postgresql://h/db")


def test_time_is_the_servers(store: PostgresStore, admin: psycopg.Connection[Any]) -> None:
    row = admin.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row is not None
    assert abs(store.now() - row[0]) < 5
    store.clock = None  # type: ignore[assignment]  # no verb of these asks the process's own clock
    id = add(store, delay=0.01)
    until(lambda: [run.id for run in fetch(store)] == [id], "it was due by the server's clock")


# ── lost connections ─────────────────────────────────────────────────────────────────────────────


def test_a_lost_connection_is_made_again_and_the_call_sent_again(
    store: PostgresStore, admin: psycopg.Connection[Any]
) -> None:
    cut(admin)
    id = add(store)
    cut(admin)
    run = fetch_one(store)
    cut(admin)
    assert settle(store, completed(run)) is Answer.OK
    cut(admin)
    assert state(store, id) is State.COMPLETED
    assert_sound(store)


def test_a_call_whose_commit_got_lost_on_the_way_back_is_applied_once(
    store: PostgresStore, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut after the commit, before its answer is read: nobody can tell whether it was applied."""
    passed = []

    def lose(point: str) -> None:
        passed.append(point)
        if passed.count("store.after_commit") == 1 and point == "store.after_commit":
            raise psycopg.OperationalError("the answer got lost")

    monkeypatch.setattr(database, "failpoint", lose)
    job = a_job()
    assert store.add([job]) == [job.id]
    assert passed.count("store.after_commit") == 2
    assert [found.id for found in everything(store)] == [job.id]
    assert store.counts() == {("default", "available"): 1}


def test_who_waits_for_a_hint_says_that_the_server_went_away(
    store: PostgresStore, admin: psycopg.Connection[Any]
) -> None:
    waiter = Waiter(store)
    cut(admin)
    assert isinstance(waiter.ended(), StoreUnavailable)
    again = Waiter(store)
    add(store)
    assert again.ended() is True


def test_a_server_that_is_away_is_told_and_come_back_to() -> None:
    server = Postgres(**UNSYNCED).start()
    try:
        store = PostgresStore(server.url)
        store.migrate()
        store.enlist(a_session("w"))
        id = add(store)
        server.end(signal.SIGQUIT)
        with pytest.raises(StoreUnavailable, match=r"postgresql://127\.0\.0\.1"):
            add(store)
        with pytest.raises(StoreUnavailable):
            store.counts()
        server.launch()
        assert fetch_one(store).id == id
        store.close()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("setting", "said"),
    [("default_transaction_read_only=on", "read-only"), ("statement_timeout=1", "statement_timeout")],
)
def test_a_server_that_cannot_now_may_be_asked_again(store: PostgresStore, url: str, setting: str, said: str) -> None:
    hindered = PostgresStore(f"{url}&options=-c%20{setting}")
    with pytest.raises(StoreUnavailable, match=said):
        hindered.add([a_job() for _ in range(20_000)])
    hindered.close()
    assert everything(store) == []


def test_too_many_connections_may_be_asked_again(
    store: PostgresStore, postgres: Postgres, name: str, admin: psycopg.Connection[Any]
) -> None:
    role = sql.Identifier(f"few_{name}")
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 0").format(role))
    crowded = PostgresStore(f"{postgres.url.replace('postgres@', f'few_{name}@')}?schema={name}")
    with pytest.raises(StoreUnavailable, match="too many connections"):
        crowded.counts()


def test_who_stops_in_the_middle_of_a_transaction_does_not_hold_up_the_others(
    store: PostgresStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped while it had the store for itself: the server ends its transaction."""
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    stopped = PostgresStore(url)
    inside, gate = threading.Event(), threading.Event()
    answers: list[Any] = []

    def body(tx: Any) -> str:
        tx.flush()
        inside.set()
        gate.wait(30)
        tx.run("pause_on", queue="q")
        return "done"

    thread = threading.Thread(target=lambda: answers.append(stopped._alone(body)))
    thread.start()
    assert inside.wait(10)
    add(store)
    assert fetch_one(store).run == 1  # waits for the gate until the server has ended the other
    gate.set()
    thread.join(20)
    assert answers == ["done"]  # sent again
    stopped.close()


def test_a_ripe_job_that_somebody_holds_does_not_hold_up_the_line(
    store: PostgresStore, name: str, postgres: Postgres
) -> None:
    held = add(store, delay=0.001)
    with psycopg.connect(postgres.url) as other:
        other.execute(
            sql.SQL("SELECT 1 FROM {}.piecework_job WHERE id = %s FOR UPDATE").format(sql.Identifier(name)), (held,)
        )
        until(lambda: store.next_due() == 0, "its time has come")
        id = add(store)
        assert [run.id for run in fetch(store)] == [id]
        assert fetch(store) == []
        assert store.next_due() == shelf.HELD_PAUSE  # and not at once, over and over
        other.rollback()
    assert [run.id for run in fetch(store)] == [held]


# ── roles and schemas ────────────────────────────────────────────────────────────────────────────


def test_a_role_that_may_only_read_and_write_the_tables_is_enough(
    store: PostgresStore, postgres: Postgres, name: str, admin: psycopg.Connection[Any]
) -> None:
    role, place = sql.Identifier(f"app_{name}"), sql.Identifier(name)
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    admin.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(place, role))
    granted = sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {} TO {}")
    admin.execute(granted.format(place, role))
    poor = PostgresStore(f"{postgres.url.replace('postgres@', f'app_{name}@')}?schema={name}")
    assert poor.migrate() == []
    assert {finding.level for finding in poor.examine()} <= {"ok", "warning"}
    poor.enlist(a_session("poor"))
    id = add(poor)
    run = fetch_one(poor, worker="poor.1")
    assert settle(poor, completed(run)) is Answer.OK
    assert poor.cancel(Filter(ids=(id,)), reason="no") == 0
    assert poor.bury("poor") == 0
    assert_sound(poor)
    poor.close()


def test_a_role_that_may_not_create_the_schema_is_told_who_may(
    postgres: Postgres, name: str, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(f"app_{name}")))
    store = PostgresStore(f"{postgres.url.replace('postgres@', f'app_{name}@')}?schema={name}")
    assert store.is_set_up() is False
    with pytest.raises(StoreError, match="administrator"):
        add(store)


def test_a_role_without_a_grant_is_told_which(
    store: PostgresStore, postgres: Postgres, name: str, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(f"app_{name}")))
    poor = PostgresStore(f"{postgres.url.replace('postgres@', f'app_{name}@')}?schema={name}")
    with pytest.raises(StoreError, match="grant it USAGE"):
        add(poor)


@pytest.mark.parametrize("place", ['a "quoted" one', "Größe%s", "public.x"])
def test_a_schema_may_have_any_name(postgres: Postgres, place: str) -> None:
    from urllib.parse import quote

    store = PostgresStore(f"{postgres.url}?schema={quote(place)}")
    store.enlist(a_session("w"))
    id = add(store)
    assert store.wait(5)
    assert settle(store, completed(fetch_one(store))) is Answer.OK
    assert state(store, id) is State.COMPLETED
    assert len(store.add([a_job() for _ in range(bulk.MANY)])) == bulk.MANY
    store.close()


def test_every_character_is_kept_whatever_the_clients_encoding_is(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    for place in (url, f"{url}&client_encoding=latin1"):
        other = PostgresStore(place)
        other.pause("漢")
        assert other.paused() == store.paused() == ["漢"]
        other.close()


def test_a_database_that_does_not_hold_every_character_is_refused(
    postgres: Postgres, name: str, admin: psycopg.Connection[Any]
) -> None:
    place = sql.Identifier(name)
    admin.execute(
        sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'").format(place)
    )
    store = PostgresStore(f"{postgres.url.rpartition('/')[0]}/{name}")
    for verb in (store.migrate, store.counts):
        with pytest.raises(StoreError, match="LATIN1.*CREATE DATABASE … ENCODING 'UTF8'"):
            verb()
    assert not store.is_set_up()
    assert "encoding" in {finding.subject for finding in store.examine() if finding.level == "error"}
    store.close()
    admin.execute(sql.SQL("DROP DATABASE {}").format(place))


class AsText(Loader):
    """What a program may have the driver do with numbers, here or everywhere."""

    def load(self, data: Any) -> str:
        return bytes(data).decode()


def test_what_the_program_teaches_the_driver_is_no_matter(
    url: str, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, delay=5.0)
    taught = AdaptersMap(psycopg.adapters)
    for name in ("float8", "int4", "int8", "bool", "numeric"):
        taught.register_loader(name, AsText)
    monkeypatch.setattr(psycopg.postgres, "adapters", taught)
    another = PostgresStore(url)
    assert isinstance(another.now(), float)
    due = another.next_due()
    assert isinstance(due, float)
    assert sum(another.counts().values()) == 1
    another.close()


def _streams(con: Any) -> Any:
    rows = con.cursor().stream("SELECT generate_series(1, 10)")
    next(rows)
    return rows


def _copies(con: Any) -> Any:
    copy = con.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
    copy.__enter__()
    return copy


def _pipes(con: Any) -> Any:
    pipeline = con.pipeline()
    pipeline.__enter__()
    con.execute("SELECT 1")
    return pipeline


@pytest.mark.parametrize("leave", [_streams, _copies, _pipes])
@pytest.mark.parametrize("fails", [False, True])
def test_what_a_task_left_open_on_its_connection_holds_nobody_up(
    store: PostgresStore, leave: Callable[[Any], Any], fails: bool
) -> None:
    """The driver has one lock for each connection, and keeps it while a stream or a COPY goes on."""
    add(store)
    job = fetch_one(store)
    left: list[Any] = []
    said: list[BaseException] = []

    def work() -> None:
        try:
            with store.transaction() as own:
                left.append(leave(own.connection))
                if fails:
                    raise KeyError("its own")
                own.settle(completed(job))
        except Exception as error:
            said.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30.0)
    assert [type(error) for error in said] == [KeyError if fails else UsageError], said
    assert settle(store, completed(job)) is Answer.OK


def test_two_schemas_in_one_database_know_nothing_of_each_other(store: PostgresStore, postgres: Postgres) -> None:
    other = PostgresStore(f"{postgres.url}?schema=other_{next(_names)}")
    add(other)
    assert everything(store) == []
    other.close()


def test_a_database_without_tables_gets_them_at_first_use(url: str) -> None:
    store = PostgresStore(url)
    assert store.is_set_up() is False
    assert store.counts() == {}
    assert store.is_set_up() is True
    store.close()


def test_an_old_schema_is_not_touched_and_the_command_is_told(
    store: PostgresStore, url: str, name: str, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    old = PostgresStore(url)
    with pytest.raises(SchemaOutdated, match="run: piecework migrate"):
        add(old)
    assert "error" in {finding.level for finding in old.examine()}


def test_a_newer_schema_is_not_touched(
    store: PostgresStore, url: str, name: str, admin: psycopg.Connection[Any]
) -> None:
    admin.execute(sql.SQL("INSERT INTO {}.piecework_schema VALUES (999, 'future', 0)").format(sql.Identifier(name)))
    old = PostgresStore(url)
    for verb in (old.counts, old.migrate):
        with pytest.raises(SchemaOutdated, match="newer|999"):
            verb()


def test_tables_that_went_away_are_told(store: PostgresStore, name: str, admin: psycopg.Connection[Any]) -> None:
    admin.execute(sql.SQL("DROP TABLE {}.piecework_pause").format(sql.Identifier(name)))
    with pytest.raises(SchemaOutdated, match="run: piecework migrate"):
        store.pause("q")


def test_tables_that_grow_a_column_do_not_disturb_who_is_at_work(
    store: PostgresStore, name: str, admin: psycopg.Connection[Any]
) -> None:
    """As a later migration will, while workers run that have their statements prepared."""
    for _ in range(8):
        add(store)
        settle(store, completed(fetch_one(store)))
    for change in ("ADD COLUMN later integer", "ALTER COLUMN reason TYPE varchar", "DROP COLUMN later"):
        admin.execute(sql.SQL("ALTER TABLE {}.piecework_job " + change).format(sql.Identifier(name)))
        add(store)
        assert settle(store, completed(fetch_one(store))) is Answer.OK
        assert everything(store)


# ── connections ──────────────────────────────────────────────────────────────────────────────────


def test_the_number_of_connections_does_not_grow_with_the_threads(
    url: str, store: PostgresStore, admin: psycopg.Connection[Any]
) -> None:
    cut(admin)
    store.close()
    busy = PostgresStore(url)
    counts: list[int] = []

    def work() -> None:
        for _ in range(10):
            add(busy)
            busy.counts()
            counts.append(len(sessions(admin)))

    together(*[work for _ in range(12)], lambda: busy.wait(0.3))
    assert max(counts) <= 4
    busy.close()
    until(lambda: not sessions(admin), "all are closed")


def test_behind_a_pooler_nothing_is_left_in_a_session(url: str, store: PostgresStore) -> None:
    pooled = PostgresStore(f"{url}&pooler=yes")
    for _ in range(8):
        add(pooled)
        settle(pooled, completed(fetch_one(pooled)))
        pooled.counts()
    quiet(pooled)
    (con,) = pooled.db._free
    assert con.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    assert con.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)
    assert con.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'").fetchone() == (0,)  # fmt: skip
    assert con.execute("SELECT current_setting('lock_timeout')").fetchone() == ("0",)
    assert con.execute("SELECT current_setting('jit')").fetchone() == ("on",)
    assert len(pooled.db._free) == 1
    pooled.close()


def test_an_idle_fetch_writes_nothing(store: PostgresStore, admin: psycopg.Connection[Any]) -> None:
    def next_number() -> int:
        row = admin.execute("SELECT txid_snapshot_xmax(txid_current_snapshot())").fetchone()
        assert row is not None
        return int(row[0])

    store.fetch(a_claim())
    before = [next_number() for _ in range(2)]
    for _ in range(5):
        assert store.fetch(a_claim()) == []
    after = next_number()
    # Autovacuum may take a number; five fetches that write would take five.
    assert after - before[-1] < 5


def test_a_child_of_a_fork_has_connections_of_its_own(store: PostgresStore) -> None:
    add(store)
    mine = store.db._free[0].info.backend_pid
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            add(store)
            os.write(writer, str(store.db._free[0].info.backend_pid).encode())
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert int(os.read(reader, 100)) != mine
    assert store.db._free[0].info.backend_pid == mine
    assert len(everything(store)) == 2


# ── hints ────────────────────────────────────────────────────────────────────────────────────────


def test_an_addition_elsewhere_wakes_who_sleeps(store: PostgresStore, url: str) -> None:
    other = PostgresStore(url)
    waiter = Waiter(store)
    add(other)
    assert waiter.ended() is True
    other.close()


def test_two_threads_that_sleep_are_both_woken(store: PostgresStore) -> None:
    waiters = [Waiter(store), Waiter(store)]
    add(store)
    assert [waiter.ended() for waiter in waiters] == [True, True]


def test_a_wait_ends_when_the_store_is_closed(store: PostgresStore) -> None:
    waiter = Waiter(store)
    store.close()
    assert waiter.ended() is False


def test_while_nobody_sleeps_nobody_is_notified(store: PostgresStore, name: str, postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as ear:
        ear.execute(sql.SQL("LISTEN {}").format(sql.Identifier(f"piecework_{name}")))
        for _ in range(10):
            add(store)
        assert list(ear.notifies(timeout=0.2)) == []
        quiet(store)  # lies down
        for _ in range(10):
            add(store)
        assert len(list(ear.notifies(timeout=0.5))) == 1


# ── what it keeps ────────────────────────────────────────────────────────────────────────────────


def test_counters_are_folded_and_stay_the_same(
    store: PostgresStore, name: str, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "FOLD_LINES", 10)
    for _ in range(25):
        add(store)
        settle(store, completed(fetch_one(store)))
    lines = admin.execute(sql.SQL("SELECT count(*) FROM {}.piecework_tally").format(sql.Identifier(name))).fetchone()
    assert lines is not None
    assert lines[0] < 20
    assert store.counts() == {("default", "completed"): 25}


def test_counters_that_cannot_be_folded_are_no_error_of_the_call_that_counted(
    store: PostgresStore,
    name: str,
    admin: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ground, "FOLD_LINES", 1)
    table = sql.SQL("{}.piecework_tally").format(sql.Identifier(name))
    add(store)
    admin.execute(
        sql.SQL(
            "CREATE FUNCTION {} () RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;"
            "CREATE TRIGGER no_fold BEFORE DELETE ON {} EXECUTE FUNCTION {} ();"
        ).format(sql.Identifier(name, "refuse"), table, sql.Identifier(name, "refuse"))
    )
    for _ in range(5):
        add(store)
    assert store.counts() == {("default", "available"): 6}
    said = [line for line in caplog.messages if "could not be folded" in line]
    assert len(said) == 1
    assert "not now" in said[0]
    admin.execute(sql.SQL("DROP TRIGGER no_fold ON {}").format(table))
    add(store)
    assert admin.execute(sql.SQL("SELECT sum(n), count(*) FROM {}").format(table)).fetchone() == (7, 1)


def test_all_tables_may_be_published(
    store: PostgresStore, name: str, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publication takes deletions only from tables that say which columns tell a row."""
    monkeypatch.setattr(ground, "FOLD_LINES", 1)
    tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (name,)).fetchall()
    assert len(tables) > 10
    admin.execute(
        sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(
            sql.Identifier(name), sql.SQL(", ").join(sql.Identifier(name, table) for (table,) in tables)
        )
    )
    add(store)
    add(store)
    settle(store, completed(fetch_one(store)))
    assert store.delete(Filter(state=State.COMPLETED), limit=10) == 1
    assert store.counts() == {("default", "available"): 1}
    for (table,) in tables:
        admin.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(name, table)))


def test_a_text_with_nul_is_refused_with_what_to_do(store: PostgresStore) -> None:
    add(store)
    with pytest.raises(UsageError, match="NUL"):
        store.cancel(Filter(), reason="a\0b")
    with pytest.raises(UsageError, match="NUL"):
        store.add([a_job(queue="a\0b")])
    assert [job.state for job in everything(store)] == ["available"]


def test_arguments_with_an_escaped_nul_are_kept(store: PostgresStore) -> None:
    args = '{"text":"a\\u0000b 100% \\"quoted\\" :name"}'
    add(store, args=args)
    run = fetch_one(store)
    assert run.args == args
    settle(store, completed(run, args))
    assert everything(store)[0].result == args


def test_no_transaction_is_compiled(store: PostgresStore, url: str) -> None:
    """Compiling a statement that takes a millisecond takes fifty; the planner's guess at a fetch invites it to."""
    for asked in (store, PostgresStore(f"{url}&pooler=yes")):
        setting = "SELECT current_setting('jit')"
        assert asked._write(lambda tx: tx.con.execute(setting.encode()).fetchone()) == ("off",)  # noqa: B023
    assert store._read(lambda tx: tx.con.execute(b"SELECT current_setting('jit')").fetchone()) == ("off",)


# ── plans ────────────────────────────────────────────────────────────────────────────────────────

SMALL = "tally|pause|session|sleeper|schema|plan"  # read whole on purpose; those that are not are a page or two


def explained(admin: psycopg.Connection[Any], text: str) -> list[str]:
    """How the server goes about a statement with parameters that it does not know, and where a scan is the last resort."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    for n, parameter in enumerate(names, 1):
        text = text.replace(f"%({parameter})s", f"${n}")
    text = text.replace("%%", "%")
    admin.execute("SET plan_cache_mode = force_generic_plan")
    admin.execute("SET enable_seqscan = off")
    admin.execute("DEALLOCATE ALL")
    admin.execute(f"PREPARE asked AS {text}".encode())
    called = f"({', '.join(['NULL'] * len(names))})" if names else ""
    return [row[0] for row in admin.execute(f"EXPLAIN EXECUTE asked{called}".encode())]


@pytest.fixture(scope="module")
def planned(postgres: Postgres) -> str:
    """A schema for statements that are only planned: one is as good as the other."""
    store = PostgresStore(f"{postgres.url}?schema=planned")
    store.migrate()
    store.close()
    return "planned"


PLANNED = [title for title in SQL if "{" not in SQL[title] and not SQL[title].startswith("COPY")]


@pytest.mark.parametrize("title", PLANNED)
def test_no_statement_has_to_read_all_jobs(admin: psycopg.Connection[Any], planned: str, title: str) -> None:
    """Whatever the planner believes: with generic plans, and where a scan is the last resort, there is an index."""
    plan = explained(admin, Statements(planned, server_time=True)[title].decode())
    scanned = [line for line in plan if "Seq Scan" in line and not re.search(rf"piecework_({SMALL})\b", line)]
    assert scanned == []


LED = {
    "identity": (Filter(identity="7"), "piecework_job_identity"),
    "identity and task": (Filter(identity="7", task="t"), "piecework_job_identity"),
    "identity and state": (Filter(identity="7", state=State.FAILED), "piecework_job_identity"),
    "tags": (Filter(tags=("a", "b")), "piecework_tag_pkey"),
    "tags and times": (Filter(tags=("a",), created_from=1.0, finished_before=2.0), "piecework_tag_pkey"),
    "tags of failures": (Filter(tags=("a",), state=State.FAILED), "piecework_job_ended"),
}


@pytest.mark.parametrize("title", ["find_page", "find_page_newest", "find_count", "cancel_select", "retry_select"])
@pytest.mark.parametrize("led", LED)
def test_labels_lead_to_the_jobs(admin: psycopg.Connection[Any], planned: str, title: str, led: str) -> None:
    """By identity and by tag nothing else is read, whatever the planner believes."""
    which, index = LED[led]
    newest = {"find_page": False, "find_page_newest": True}.get(title)
    fragments = {
        "columns": RECORD_COLUMNS,
        "jobs": source(which, newest),
        "where": where(which)[0],
        "order": order(which),
    }
    text = Statements(planned, server_time=True).filled(title, **fragments).decode()
    plan = explained(admin, text)
    assert [line for line in plan if index in line], plan
    assert [line for line in plan if "Seq Scan" in line] == []


def test_a_store_of_before_is_refused_until_it_is_migrated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as then:
        then.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        then.setattr(schema, "VERSION", 1)
        PostgresStore(url).migrate()
    store = PostgresStore(url)
    with pytest.raises(SchemaOutdated, match="piecework migrate"):
        store.counts()
    assert store.migrate() == [name for _, name, _ in schema.MIGRATIONS[1:]]
    id = add(store, identity="7", tags=("x",))
    assert [job.id for job in store.find(Filter(tags=("x",), identity="7"))] == [id]
    store.close()
