"""What `piecework check` says of a store on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

from piecework.errors import StoreError
from piecework.job import Finding
from piecework.store.postgres import schema
from piecework.store.postgres.database import Database
from piecework.store.postgres.transaction import SQL, Con, in_schema
from piecework.store.sql.examine import unfit

OLDEST = 120000  # the first server whose plans the statements rely on
LONG = 600  # seconds for which a transaction keeps vacuum from clearing what was settled since


def examine(db: Database) -> list[Finding]:
    """One finding for each thing that can be right or wrong."""
    try:
        return [*db.read(lambda con: list(_server(con))), *_schema(db)]
    except StoreError as error:
        return [Finding("error", "server", str(error))]


def _server(con: Con) -> Iterator[Finding]:
    number = con.info.server_version
    text = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number < OLDEST:
        yield Finding("error", "server", f"{text} is too old; piecework needs 12 or newer")
    else:
        yield Finding("ok", "server", text)
    if _setting(con, "transaction_read_only") == "on":
        yield Finding("error", "writing", "the server is read-only: a standby, or set so; name the primary in the URL")
    if (said := schema.unfit(con)) is not None:
        yield Finding("error", "encoding", said)
    yield from _durability(con)
    yield _connections(con)
    yield from _long_transactions(con)


def _setting(con: Con, name: str) -> str:
    row = con.execute(b"SELECT current_setting(%s)", (name,)).fetchone()
    return "" if row is None else str(row[0])


def _durability(con: Con) -> Iterator[Finding]:
    off = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if _setting(con, name) == "off"]
    if not off:
        yield Finding("ok", "durability", "what was acknowledged survives a crash of the server")
    for name in off:
        yield Finding(
            "warning",
            "durability",
            f"{name} is off: after a crash of the server, jobs that were acknowledged may be gone, or run again",
        )


def _connections(con: Con) -> Finding:
    row = con.execute(b"SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'").fetchone()
    used, most = 0 if row is None else row[0], int(_setting(con, "max_connections"))
    level = "ok" if used < 0.8 * most else "warning"
    return Finding(level, "connections", f"{used} of {most} in use")


def _long_transactions(con: Con) -> Iterator[Finding]:
    rows = con.execute(
        b"SELECT pid, extract(epoch FROM clock_timestamp() - xact_start)::integer FROM pg_stat_activity "
        b"WHERE backend_xmin IS NOT NULL AND xact_start < now() - make_interval(secs => %s) ORDER BY xact_start LIMIT 3",
        (LONG,),
    ).fetchall()
    for pid, seconds in rows:
        yield Finding(
            "warning",
            "vacuum",
            f"the transaction of process {pid} has lasted {seconds} s: until it ends, nothing that was settled since can be "
            "cleared away, and fetching grows slower",
        )


def _schema(db: Database) -> list[Finding]:
    found = schema.version(db)
    if found is None:
        return [Finding("ok", "schema", f"none yet; {db.place.schema} is set up at first use")]
    if (wrong := unfit(found, schema.VERSION)) is not None:
        return [wrong]
    return [Finding("ok", "schema", f"version {found} in {db.place.schema}"), *_left(db)]


def _left(db: Database) -> list[Finding]:
    statement = in_schema(SQL["examine_left"], db.place.schema).encode()
    row = db.read(lambda con: con.execute(statement).fetchone())
    if row is None or not row[0]:
        return []
    text = f"{row[0]} operations have no job any more: somebody deleted jobs in the tables by hand; delete what belongs to them too"
    return [Finding("warning", "operations", text)]
