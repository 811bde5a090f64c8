"""The schema of the PostgreSQL shelf: numbered SQL files, applied forward only, each call in one transaction."""

from __future__ import annotations

from piecework.errors import SchemaOutdated, StoreError
from piecework.store.postgres.database import Database, Gate, gate_number
from piecework.store.postgres.transaction import Con, in_schema, quoted
from piecework.store.sql.files import migrations, statements

MIGRATIONS = migrations("piecework.store.postgres")
VERSION = MIGRATIONS[-1][0]
ENCODINGS = ("UTF8", "SQL_ASCII")  # of a database; the second one keeps the bytes of UTF-8 as they come

_TABLE = """
CREATE TABLE IF NOT EXISTS piecework_schema (
    version    integer          NOT NULL PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    applied_at double precision NOT NULL
)
"""
_VERSION = "SELECT max(version) FROM piecework_schema"
_APPLIED = "INSERT INTO piecework_schema VALUES (%s, %s, extract(epoch FROM now()))"


_PLACE = """
DO $do$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = {literal}) THEN
        CREATE SCHEMA {name};
    END IF;
END $do$;
"""


def script(schema: str, after: int) -> str:
    """What an administrator runs by hand, from the schema of a version on: one transaction, in front of the same gate."""
    missing = [migration for migration in MIGRATIONS if migration[0] > after]
    if not missing:
        return f"-- nothing to do: this is version {VERSION}\n"
    literal = "'" + schema.replace("'", "''") + "'"
    parts = ["BEGIN;", f"SELECT {Gate.ALONE.value}({gate_number(schema)}, 1);"]
    if after == 0:
        parts.append(_PLACE.strip().format(literal=literal, name=quoted(schema)))
        parts.append(in_schema(f"{_TABLE.strip()};", schema))
    for number, name, sql in missing:
        done = f"INSERT INTO piecework_schema VALUES ({number}, '{name}', extract(epoch FROM now()));"
        parts += [f"-- {name}", in_schema(sql.strip(), schema), in_schema(done, schema)]
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def script_for(db: Database) -> str:
    """The script that brings this very store to this version."""
    found = version(db) or 0
    _refuse_newer(db, found)
    return script(db.place.schema, found)


def version(db: Database) -> int | None:
    """The version of the schema; None where piecework has no tables yet."""
    return db.read(lambda con: _version(con, db.place.schema))


def _version(con: Con, schema: str) -> int | None:
    there = con.execute(
        b"SELECT 1 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        b"WHERE n.nspname = %s AND c.relname = 'piecework_schema'",
        (schema,),
    ).fetchone()
    if there is None:
        return None
    row = con.execute(in_schema(_VERSION, schema).encode()).fetchone()
    return None if row is None else row[0]


def ensure(db: Database) -> None:
    """Sets up a schema without tables; refuses one whose tables are older or newer than this version."""
    found = version(db)
    if found is None:
        migrate(db)
    elif found < VERSION:
        raise SchemaOutdated(
            f"the store {db.place.shown} has schema {found}, and this version of piecework needs {VERSION}; "
            "run: piecework migrate"
        )
    else:
        _refuse_newer(db, found)


def _refuse_newer(db: Database, found: int) -> None:
    if found > VERSION:
        raise SchemaOutdated(
            f"the store {db.place.shown} has schema {found}, newer than this version of piecework knows ({VERSION}); "
            "update piecework here too"
        )


def migrate(db: Database) -> list[str]:
    """Applies what is missing, and returns the names of it. Two processes may race: each takes the gate first.

    Where nothing is missing it only looks, so that a role which may not create anything can call it.
    """
    found = version(db)
    if found is not None:
        _refuse_newer(db, found)
    if found == VERSION:
        return []
    if (said := db.read(unfit)) is not None:
        raise StoreError(f"the store {db.place.shown} is in {said}")
    return db.change(lambda con: _apply(con, db))


def unfit(con: Con) -> str | None:
    """What is wrong with the database's encoding, and what to do; None where it holds every character."""
    row = con.execute(b"SELECT current_database(), current_setting('server_encoding')").fetchone()
    assert row is not None
    name, encoding = row
    if encoding in ENCODINGS:
        return None
    return (
        f"the database {name}, whose encoding {encoding} does not hold every character that a job may have; name one that "
        f"was made with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )


def _apply(con: Con, db: Database) -> list[str]:
    schema = db.place.schema
    found = _version(con, schema) or 0
    _refuse_newer(db, found)
    if found == VERSION:  # somebody else was first
        return []
    if not _may(con, schema):
        con.execute(f"CREATE SCHEMA {quoted(schema)}".encode())
    con.execute(in_schema(_TABLE, schema).encode())
    applied = []
    for number, name, sql in MIGRATIONS:
        if number > found:
            for statement in statements(sql):
                con.execute(in_schema(statement, schema).encode())
            con.execute(in_schema(_APPLIED, schema.replace("%", "%%")).encode(), (number, name))
            applied.append(name)
    return applied


def _may(con: Con, schema: str) -> bool:
    """Whether the schema is there.

    Raises `StoreError` where this role may not make in it, or of it, what is missing.
    """
    row = con.execute(
        b"SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'), "
        b"(SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = %(schema)s), "
        b"(SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        b"WHERE n.nspname = %(schema)s AND c.relname = 'piecework_schema')",
        {"schema": schema},
    ).fetchone()
    assert row is not None
    role, database, may_create_schema, may_create_tables, owns_tables = row
    where = f"the schema {schema} of the database {database}"
    if may_create_tables is None and not may_create_schema:
        said = f"there is no schema {schema} in the database {database}, and the role {role} may not create one"
    elif may_create_tables is False:
        said = f"the role {role} may not create tables in {where}"
    elif owns_tables is False:
        said = f"the tables in {where} are not the role {role}'s to change"
    else:
        return may_create_tables is not None
    raise StoreError(
        f"{said}; let an administrator run piecework migrate, or what piecework migrate --sql prints, or name another "
        "schema in the store's URL (?schema=…)"
    )
