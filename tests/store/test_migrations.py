"""Schemas on PostgreSQL: set up by one of many at once, by hand with psql, and by roles that may do little; on SQLite the script."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from tests.servers import Postgres

from piecework.cli import main
from piecework.errors import SchemaOutdated, StoreError
from piecework.job import Answer
from piecework.store.postgres import schema
from piecework.store.postgres.store import PostgresStore
from piecework.store.sqlite import schema as sqlite_schema
from piecework.store.sqlite.store import SqliteStore
from piecework.testing.conformance import assert_sound
from piecework.testing.conformance.kit import a_session, add, completed, fetch_one, settle

PROCESSES = 8
NAMES = ["plain", 'a "quoted" one', "it's Größe%s :n", "piecework_job"]
NEXT = (
    schema.VERSION + 1,
    f"{schema.VERSION + 1:04}_more",
    "-- more\nALTER TABLE piecework_pause\n    ADD COLUMN more integer;  -- x\n",
)
_numbers = itertools.count(1)


@pytest.fixture
def admin(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url, autocommit=True) as con:
        yield con


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A store that nobody has set up."""
    return f"{postgres.url}?schema=new_{next(_numbers)}"


@pytest.fixture
def psql(postgres: Postgres) -> Callable[..., subprocess.CompletedProcess[str]]:
    """PostgreSQL's own shell, which is told a script as an administrator tells it one."""
    own = postgres.bin / "psql"
    program = str(own) if own.exists() else shutil.which("psql")
    assert program is not None, "PostgreSQL is here and its shell psql is not: apt-get install postgresql-client"

    def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
        asked = [program, "-X", "-q", "-d", postgres.url, *options]
        return subprocess.run(asked, input=script, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the next version of piecework had one migration more."""
    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, NEXT])
    monkeypatch.setattr(schema, "VERSION", NEXT[0])


def set_up(url: str) -> PostgresStore:
    store = PostgresStore(url)
    store.migrate()
    store.close()
    return store


def works(url: str) -> None:
    """A job goes its way, and people look at it."""
    store = PostgresStore(url)
    store.enlist(a_session("w"))
    add(store)
    assert settle(store, completed(fetch_one(store))) is Answer.OK
    store.pause("q")
    store.renew("w")
    assert_sound(store)
    store.close()


def tables(admin: psycopg.Connection[Any], place: str) -> list[tuple[Any, ...]]:
    """Everything that makes up a schema."""
    found = admin.execute(
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default, is_identity "
        "FROM information_schema.columns WHERE table_schema = %s ORDER BY 1, 2",
        (place,),
    ).fetchall()
    found += admin.execute(
        "SELECT c.relname, c.relkind::text, c.reloptions::text, replace(coalesce(pg_get_indexdef(i.indexrelid), ''), "
        "quote_ident(n.nspname) || '.', '') FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_index AS i ON i.indexrelid = c.oid WHERE n.nspname = %s ORDER BY 1",
        (place,),
    ).fetchall()
    found += admin.execute(
        "SELECT conrelid::regclass::text LIKE '%%job', contype::text, replace(pg_get_constraintdef(oid), quote_ident(%s), '') "
        "FROM pg_constraint WHERE connamespace = %s::regnamespace ORDER BY 1, 2, 3",
        (place, f'"{place.replace(chr(34), chr(34) * 2)}"'),
    ).fetchall()
    return found


# ── many at once ─────────────────────────────────────────────────────────────────────────────────


def in_processes(work: list[Callable[[], int]]) -> list[int]:
    """Runs each in a process of its own, all at once; what each came to."""
    gate, opened = os.pipe()
    children = []
    for each in work:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(opened)
            os.read(gate, 1)  # the end of the pipe opens it, for all
            try:
                os.write(writer, bytes([each()]))
            finally:
                os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    os.close(gate)
    os.close(opened)
    answers = []
    for pid, reader in children:
        os.waitpid(pid, 0)
        answers += os.read(reader, 1) or [-1]
        os.close(reader)
    return answers


def test_eight_processes_that_set_up_one_store_do_it_once(url: str) -> None:
    """Some are told to, others come to work and find nothing."""

    def migrate() -> int:
        return len(PostgresStore(url).migrate())

    def begin() -> int:
        return 0 * len(add(PostgresStore(url)))

    answers = in_processes([migrate] * (PROCESSES - 2) + [begin] * 2)
    assert set(answers) <= {0, len(schema.MIGRATIONS)}
    assert sum(answers) <= len(schema.MIGRATIONS)  # none, where one that came to work was first
    assert PostgresStore(url).counts() == {("default", "available"): 2}


@pytest.mark.usefixtures("one_more")
def test_eight_processes_that_bring_it_to_the_next_version_do_it_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
        before.setattr(schema, "VERSION", NEXT[0] - 1)
        works(url)
    with pytest.raises(SchemaOutdated, match="run: piecework migrate"):
        add(PostgresStore(url))
    assert sorted(in_processes([lambda: len(PostgresStore(url).migrate())] * PROCESSES)) == [0] * 7 + [1]
    works(url)


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", NAMES)
def test_what_is_printed_sets_up_the_same_with_psql(
    postgres: Postgres,
    admin: psycopg.Connection[Any],
    psql: Callable[..., subprocess.CompletedProcess[str]],
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    mine, by_hand = f"{place} 1", f"{place} 2"
    set_up(f"{postgres.url}?schema={quote(mine)}")
    url = f"{postgres.url}?schema={quote(by_hand)}"
    assert main(["migrate", "--sql", "--store", url]) == 0
    printed = capsys.readouterr().out
    assert not PostgresStore(url).is_set_up()
    ran = psql(printed)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert tables(admin, by_hand) == tables(admin, mine) != []
    assert PostgresStore(url).migrate() == []
    works(url)
    assert main(["migrate", "--sql", "--store", url]) == 0
    assert capsys.readouterr().out == f"-- nothing to do: this is version {schema.VERSION}\n"


def test_a_script_that_is_run_twice_changes_nothing_the_second_time(
    url: str, psql: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    script = PostgresStore(url).script(0)
    assert psql(script).returncode == 0
    add(PostgresStore(url))
    again = psql(script, "-v", "ON_ERROR_STOP=1")
    assert again.returncode == 3
    assert "already exists" in again.stderr
    works(url)


@pytest.mark.usefixtures("one_more")
def test_the_script_for_an_old_store_holds_only_what_it_lacks(
    url: str, psql: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
        before.setattr(schema, "VERSION", NEXT[0] - 1)
        works(url)
    script = PostgresStore(url).script()
    assert script == PostgresStore(url).script(NEXT[0] - 1)
    assert "ADD COLUMN more" in script
    assert "CREATE" not in script
    assert psql(script).stderr == ""
    assert PostgresStore(url).migrate() == []
    works(url)


def test_where_the_sql_begins_can_be_told_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    assert main(["migrate", "--sql", "--since", "0", "--store", nowhere]) == 0
    assert 'CREATE TABLE "piecework".piecework_job (' in capsys.readouterr().out
    assert main(["migrate", "--sql", "--store", nowhere]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["migrate", "--since", "0", "--store", nowhere]) == 2


def test_a_file_is_set_up_by_its_script_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", "--sql", "--store", f"sqlite:///{tmp_path}/by_hand.db"]) == 0
    assert list(tmp_path.iterdir()) == []
    con = sqlite3.connect(tmp_path / "by_hand.db")
    con.executescript(capsys.readouterr().out)
    store, by_hand = SqliteStore(f"sqlite:///{tmp_path}/jobs.db"), SqliteStore(f"sqlite:///{tmp_path}/by_hand.db")
    store.migrate()
    assert by_hand.migrate() == []
    assert by_hand.script() == f"-- nothing to do: this is version {sqlite_schema.VERSION}\n"
    asked = "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"
    with store.db.read() as theirs:
        found = [(kind, name, words(text)) for kind, name, text in theirs.execute(asked)]
    assert [(kind, name, words(text)) for kind, name, text in con.execute(asked)] == found
    con.close()


def words(text: str | None) -> str:
    """SQL without its comments and spaces."""
    return "".join("".join(line.partition("--")[0].split()) for line in (text or "").splitlines())


# ── roles that may do little ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def role(url: str, admin: psycopg.Connection[Any]) -> str:
    """A role that may do nothing."""
    name = f"role_{next(_numbers)}"
    admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
    return name


def as_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@")


def grant(admin: psycopg.Connection[Any], text: str, url: str, role: str) -> None:
    place = sql.Identifier(url.partition("?schema=")[2])
    admin.execute(sql.SQL(text).format(place=place, role=sql.Identifier(role)))


def test_a_role_that_owns_nothing_but_its_tables_is_enough_to_work(
    url: str, role: str, admin: psycopg.Connection[Any]
) -> None:
    set_up(url)
    grant(admin, "GRANT USAGE ON SCHEMA {place} TO {role}", url, role)
    for (table,) in admin.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = %s", (url.partition("?schema=")[2],)
    ).fetchall():
        grant(admin, f"ALTER TABLE {{place}}.{table} OWNER TO {{role}}", url, role)
    assert PostgresStore(as_role(url, role)).migrate() == []
    works(as_role(url, role))


@pytest.mark.usefixtures("one_more")
@pytest.mark.parametrize(
    ("granted", "said"),
    [
        ("GRANT USAGE ON SCHEMA {place} TO {role}", "may not create tables in the schema new_"),
        ("GRANT USAGE, CREATE ON SCHEMA {place} TO {role}", "to change; let an administrator"),
    ],
)
def test_a_role_that_may_not_migrate_is_told_what_it_lacks_and_who_can_help(
    url: str, role: str, admin: psycopg.Connection[Any], granted: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
        before.setattr(schema, "VERSION", NEXT[0] - 1)
        set_up(url)
    grant(admin, granted, url, role)
    grant(admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {place} TO {role}", url, role)
    with pytest.raises(StoreError, match=said) as refused:
        PostgresStore(as_role(url, role)).migrate()
    assert "piecework migrate --sql" in str(refused.value)
    assert role in str(refused.value)


def test_a_role_that_may_only_look_into_an_empty_schema_is_told_so(
    url: str, role: str, admin: psycopg.Connection[Any]
) -> None:
    grant(admin, "CREATE SCHEMA {place}", url, role)
    grant(admin, "GRANT USAGE ON SCHEMA {place} TO {role}", url, role)
    with pytest.raises(StoreError, match="may not create tables"):
        add(PostgresStore(as_role(url, role)))
