"""The schema of the SQLite shelf: numbered SQL files, applied forward only, each in one transaction."""

from __future__ import annotations

from piecework.errors import SchemaOutdated
from piecework.store.sql.files import migrations, statements
from piecework.store.sqlite.database import Database

MIGRATIONS = migrations("piecework.store.sqlite")
VERSION = MIGRATIONS[-1][0]

_TABLE = """
CREATE TABLE IF NOT EXISTS piecework_schema (
    version    INTEGER NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_at REAL    NOT NULL
) STRICT, WITHOUT ROWID
"""


def version(db: Database) -> int | None:
    """The version of the schema in the file; None where piecework has no tables yet."""
    with db.read() as con:
        if not con.execute("SELECT 1 FROM sqlite_master WHERE name = 'piecework_schema'").fetchone():
            return None
        (found,) = con.execute("SELECT max(version) FROM piecework_schema").fetchone()
        return int(found) if found is not None else None


def exists(db: Database) -> bool:
    """Whether piecework has tables here.

    A file that is not there is not made; a folder that is not there is an error.
    """
    if not db.memory:
        db.check_place()
        if not db.exists():
            return False
    return version(db) is not None


def ensure(db: Database, now: float) -> None:
    """Sets up a file without tables; refuses one whose tables are older or newer than this version."""
    found = version(db)
    if found is None:
        migrate(db, now)
    elif found < VERSION:
        raise SchemaOutdated(
            f"the store {db.path} has schema {found}, and this version of piecework needs {VERSION}; run: piecework migrate"
        )
    elif found > VERSION:
        raise SchemaOutdated(
            f"the store {db.path} has schema {found}, newer than this version of piecework knows ({VERSION}); "
            "update piecework here too"
        )


def migrate(db: Database, now: float) -> list[str]:
    """Applies what is missing, and returns the names of it.

    Two processes may race: each takes the writer's lock first.
    """
    applied = []
    with db.write() as con:
        con.execute(_TABLE)
        (found,) = con.execute("SELECT coalesce(max(version), 0) FROM piecework_schema").fetchone()
        if found > VERSION:
            raise SchemaOutdated(
                f"the store {db.path} has schema {found}; this version of piecework knows up to {VERSION}"
            )
        for number, name, sql in MIGRATIONS:
            if number > found:
                for statement in statements(sql):  # `executescript` would commit what makes the migration one thing
                    con.execute(statement)
                con.execute("INSERT INTO piecework_schema VALUES (?, ?, ?)", (number, name, now))
                applied.append(name)
    return applied


def script(after: int) -> str:
    """What brings a file of a version to this one, for whoever wants to read it or run it by hand: one transaction."""
    missing = [migration for migration in MIGRATIONS if migration[0] > after]
    if not missing:
        return f"-- nothing to do: this is version {VERSION}\n"
    parts = ["BEGIN IMMEDIATE;", f"{_TABLE.strip()};"]
    for number, name, sql in missing:
        done = f"INSERT INTO piecework_schema VALUES ({number}, '{name}', (julianday('now') - 2440587.5) * 86400.0);"
        parts += [f"-- {name}", sql.strip(), done]
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"
