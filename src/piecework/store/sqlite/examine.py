"""What `piecework check` says of an SQLite store."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from piecework.errors import StoreError
from piecework.job import Finding
from piecework.store.sql.examine import unfit
from piecework.store.sqlite import schema
from piecework.store.sqlite.database import Database
from piecework.store.sqlite.transaction import SQL

OLDEST = (3, 38, 0)  # the first library with the JSON operators that the statements use
WAL_RESET_FIXED = (3, 51, 3)
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ncpfs"}


_MEMORY = Finding(
    "warning",
    "memory",
    "the store is in memory: it is empty at the start of each process, ends with it, and is shared with no other; use a "
    "file for whatever is to be worked off by `piecework work`",
)


def examine(db: Database) -> list[Finding]:
    """One finding for each thing that can be right or wrong."""
    if db.memory:
        return [_library(), _MEMORY]
    try:
        db.check_place()
    except StoreError as error:
        return [_library(), Finding("error", "file", str(error))]
    return [_library(), _file_system(db), _permissions(db), *_schema(db)]


def _library() -> Finding:
    found = sqlite3.sqlite_version_info
    text = sqlite3.sqlite_version
    if found < OLDEST:
        return Finding("error", "library", f"SQLite {text} is too old; piecework needs 3.38 or newer")
    if found < WAL_RESET_FIXED:
        return Finding(
            "warning",
            "library",
            f"SQLite {text} has the WAL-reset race (fixed in 3.51.3), which can damage a file when two processes commit and "
            "checkpoint at the same instant. piecework lets one process checkpoint at a time, holding the writer's lock; "
            "other programs that write to this file should set wal_autocheckpoint=0. A Python with a newer SQLite removes the race",
        )
    return Finding("ok", "library", f"SQLite {text}")


def _file_system(db: Database) -> Finding:
    kind = _mount_type(Path(db.path).resolve())
    if kind in REMOTE:
        return Finding(
            "error",
            "file",
            f"{db.path} is on a network file system ({kind}), where SQLite's locks cannot be trusted; use a local disk",
        )
    return Finding("ok", "file", f"{db.path}, synchronous={db.synchronous}" + (f", {kind}" if kind else ""))


def _mount_type(path: Path) -> str:
    """The type of the file system that holds a path, where the system tells."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return ""
    best = max((m for m in mounts if path.is_relative_to(m[0])), key=lambda m: len(m[0]), default=["", ""])
    return best[1]


def _permissions(db: Database) -> Finding:
    if not db.exists():
        return Finding("ok", "permissions", "the file does not exist yet; it will be its owner's alone")
    mode = os.stat(db.path).st_mode & 0o777
    if mode & 0o007:
        return Finding(
            "warning", "permissions", f"{db.path} is open to every user of this machine ({mode:o}); chmod 600 it"
        )
    return Finding("ok", "permissions", f"{mode:o}")


def _schema(db: Database) -> list[Finding]:
    found = schema.version(db) if db.exists() else None
    if found is None:
        return [Finding("ok", "schema", "none yet; it is set up at first use")]
    if (wrong := unfit(found, schema.VERSION)) is not None:
        return [wrong]
    with db.read() as con:
        sound = con.execute("PRAGMA quick_check(1)").fetchone()[0]
        (left,) = con.execute(SQL["examine_left"]).fetchone()
    level = "ok" if sound == "ok" else "error"
    return [Finding("ok", "schema", f"version {found}"), Finding(level, "integrity", str(sound)), *_left(left)]


def _left(left: int) -> list[Finding]:
    if not left:
        return []
    text = f"{left} operations have no job any more: somebody deleted jobs in the tables by hand; delete what belongs to them too"
    return [Finding("warning", "operations", text)]
