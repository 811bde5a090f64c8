"""A server that is there and does not let us in is told from one that is away: the first is for somebody to mend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.served import free_port
from tests.servers import Postgres
from tests.support import until

from piecework.clock import SystemClock
from piecework.engine.keeper import Keeper
from piecework.errors import StoreError, StoreRefused, StoreUnavailable
from piecework.store.postgres.store import PostgresStore
from piecework.store.postgres.telling import is_refused

REFUSED = [
    ("locked:wrong@{place}/postgres", "password authentication failed"),
    ("locked@{place}/postgres", "no password supplied"),
    ("rejected@{place}/postgres", "rejects connection"),
    ("nobodys@{place}/postgres", "is not permitted to log in"),
    ("nobody@{place}/postgres", 'role "nobody" does not exist'),
    ("postgres@{place}/nothing", 'database "nothing" does not exist'),
    ("postgres@{place}/postgres?sslmode=require", "does not support SSL"),
]


@pytest.fixture
def place(postgres: Postgres) -> Iterator[str]:
    """Of a server that asks `locked` for a password, rejects `rejected`, and lets everybody else in."""
    rules = postgres.root / "data" / "pg_hba.conf"
    before = rules.read_text()
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("CREATE ROLE locked LOGIN PASSWORD 'x'; CREATE ROLE rejected LOGIN; CREATE ROLE nobodys NOLOGIN")
        rules.write_text(f"host all locked all scram-sha-256\nhost all rejected all reject\n{before}")
        admin.execute("SELECT pg_reload_conf()")
        until(lambda: not lets_in(postgres.url.replace("postgres@", "rejected@")))
        yield postgres.url.partition("@")[2].partition("/")[0]
        rules.write_text(before)
        admin.execute("SELECT pg_reload_conf()")
        until(lambda: lets_in(postgres.url.replace("postgres@", "rejected@")))
        admin.execute("DROP ROLE locked; DROP ROLE rejected; DROP ROLE nobodys")


def lets_in(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def told(url: str) -> Any:
    """The error that a call is told."""
    store = PostgresStore(f"postgresql://{url}")
    with pytest.raises(StoreUnavailable) as error:
        store.now()
    store.close()
    return error


def test_who_is_not_let_in_is_told_so(place: str) -> None:
    for url, said in REFUSED:
        error = told(url.format(place=place))
        assert error.type is StoreRefused
        assert said in str(error.value)
        assert "wrong" not in str(error.value)


def test_what_is_away_is_no_refusal(place: str) -> None:
    for hosts in (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()},{place}", f"{place},127.0.0.1:{free_port()}"):
        assert told(f"rejected@{hosts}/postgres").type is StoreUnavailable


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ("FATAL:  the database system is starting up", False),
        ("FATAL:  the database system is shutting down", False),
        ("FATAL:  sorry, too many clients already", False),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", False),
        ('FATAL:  too many connections for role "app"', False),
        ("server closed the connection unexpectedly", False),
        ("SSL error: certificate verify failed", True),
        ('server certificate for "db" does not match host name "other"', True),
        ("FATAL:  no such database: app", True),
        ("FATAL:  SASL authentication failed", True),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "app", database "app", no encryption', True),
        ("FATAL:  Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen", False),
    ],
)
def test_what_time_may_mend_is_no_refusal(said: str, refused: bool) -> None:
    """A server that speaks another language is asked again."""
    one = f'connection to server at "10.0.0.1", port 5432 failed: {said}'
    assert is_refused(psycopg.OperationalError(f"connection failed: {one}")) is refused
    other = 'connection to server at "10.0.0.2", port 5432 failed: Connection refused'
    assert not is_refused(psycopg.OperationalError(f"connection failed: {one}\n{other}"))


def test_only_who_was_never_let_in_gives_up(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PostgresStore(postgres.url.replace("postgres@", "nobody@"))
    keeper = Keeper(refused, SystemClock(), name="k")
    with pytest.raises(StoreError, match='role "nobody" does not exist') as error:
        keeper.enlist()
    assert not isinstance(error.value, StoreUnavailable)
    monkeypatch.setattr(refused, "enlist", lambda record: None)
    keeper.enlist()
    monkeypatch.undo()
    with pytest.raises(StoreRefused):
        keeper.enlist()
