"""The file and its connections: one writer and a few readers for each process, never carried across a fork.

Every write transaction is IMMEDIATE, so that it never has to be upgraded (which SQLite refuses at once, whatever the
busy timeout). Checkpoints are made by one process at a time, under a file lock, and take the writer's lock: see
docs/adr/0002-sqlite-checkpoints.md.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from piecework.errors import SchemaOutdated, StoreError, StoreUnavailable
from piecework.failpoints import failpoint
from piecework.store.sqlite.watch import SHORTEST_LOOK, Watch

BUSY_SECONDS, BUSY_TURN = 10.0, 0.5  # how long a writer waits for the others, and how long at a stretch
LONG_SECONDS = 60.0  # … for one that has said that it takes long
CHECKPOINT_PAGES = 4000  # estimated pages in the log after which it is folded back: 16 MB
PAGES_A_COMMIT, ROWS_A_PAGE = 5, 8  # the estimate
LARGEST_LOG = 256 * 1024 * 1024  # bytes; a log that a long reader let grow beyond is cut when it can be
MAX_READERS = 4
FORK_PATIENCE = 5.0  # seconds a fork waits for reading threads before it goes ahead, with the risk for its child
# KiB of pages that a connection keeps; what is read is in the system's cache, too.
WRITER_CACHE, READER_CACHE = 32_000, 4_000

# Connections that a fork copied into this process. Closing them here could take the parent's locks and files away.
_inherited: list[object] = []

_TRY_AGAIN = {
    sqlite3.SQLITE_BUSY: "is locked by another process",
    sqlite3.SQLITE_LOCKED: "is locked by another connection",
    sqlite3.SQLITE_FULL: "has no room left on its disk",
    sqlite3.SQLITE_IOERR: "cannot be read or written",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_READONLY: "is read-only",
    sqlite3.SQLITE_PROTOCOL: "is locked by another process",
    sqlite3.SQLITE_INTERRUPT: "was interrupted",
}


# SQLite's own notes of who holds which lock, and its mutexes, are copied by a fork. What another thread is in at that
# moment would seem to be held for ever in the child, so a fork waits until no other thread is inside the library.
_open: weakref.WeakSet[Database] = weakref.WeakSet()
_held: list[Database] = []


def _before_fork() -> None:
    for db in list(_open):
        db.hold()
        _held.append(db)


def _after_fork() -> None:
    while _held:
        _held.pop().let_go()


def _in_child() -> None:
    while _held:
        _held.pop().leave_fork_behind()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)


class Database:
    """One SQLite file as this process sees it."""

    def __init__(self, path: str, *, synchronous: str) -> None:
        self.memory = path == ":memory:"
        self.path = path if self.memory else os.path.abspath(path)  # a job may change the current folder
        self._sign = self.path + "-long"  # is locked while somebody's transaction takes long
        self.synchronous = synchronous
        self._be_alone_in_process()
        _open.add(self)

    def _be_alone_in_process(self) -> None:
        """Begins with locks that nobody holds: at first, and in a forked child, whose other threads are gone.

        A close keeps them. Had each life locks of its own, a thread that waits for one would get that of a life that is
        over, and the next close would take the connection away from under its statement.
        """
        self._pid = os.getpid()
        self._lock = threading.RLock()  # held by who writes, or closes
        self._entrance = threading.Lock()  # into reading; shut while a fork is on its way
        self._reading: list[int] = []  # the threads that read now
        self._begin_life()

    def _begin_life(self) -> None:
        """Forgets all connections, and what was known by them."""
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._watch = Watch(self.path, self._connect)
        self._pages = 0  # written to the log since this process last folded it back
        self._changes = 0

    def hold(self) -> None:
        """Keeps every other thread of this process out of the library."""
        self._lock.acquire()
        self._watch.lock.acquire()
        self._entrance.acquire()
        me, end = threading.get_ident(), time.monotonic() + FORK_PATIENCE
        while any(thread != me for thread in self._reading) and time.monotonic() < end:
            time.sleep(SHORTEST_LOOK)

    def let_go(self) -> None:
        self._entrance.release()
        self._watch.lock.release()
        self._lock.release()

    def leave_fork_behind(self) -> None:
        """Begins anew in a forked child: neither connections nor locks may be shared with the parent."""
        if os.getpid() != self._pid:
            _inherited.append((self._writer, self._readers, self._watch.connection, self._lock))
            self._be_alone_in_process()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def _connect(self, cache: int = READER_CACHE) -> sqlite3.Connection:
        if not self.memory:
            self._prepare_file()
        con = sqlite3.connect(
            self.path, timeout=BUSY_TURN, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            con.execute("PRAGMA journal_mode = WAL")
            con.execute(f"PRAGMA synchronous = {self.synchronous}")
            con.execute("PRAGMA wal_autocheckpoint = 0")
            con.execute(f"PRAGMA cache_size = -{cache}")
            con.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            con.close()
            raise
        return con

    def connect_for_task(self, kind: type[sqlite3.Connection]) -> sqlite3.Connection:
        """A new connection for one run's own statements; whoever asks for it closes it."""
        con = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, factory=kind)
        con.execute(f"PRAGMA synchronous = {self.synchronous}")
        con.execute("PRAGMA wal_autocheckpoint = 0")
        return con

    def _prepare_file(self) -> None:
        """A queue holds people's data: the file is the owner's alone."""
        self.check_place()
        if not self.exists():
            try:
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            except (FileExistsError, PermissionError):
                return  # made by another just now; or for the library to tell
            except OSError as error:
                raise StoreError(f"the store {self.path} cannot be made: {error}") from error

    def check_place(self) -> None:
        """Raises `StoreError` where no file can be, or where a planted link stands in its place."""
        path = Path(self.path)
        if path.is_symlink():
            raise StoreError(f"{self.path} is a symbolic link; name the file itself in the store's URL")
        if not path.parent.is_dir():
            raise StoreError(f"the folder {path.parent} does not exist; create it, or change the store's URL")

    def exists(self) -> bool:
        """Whether there is a file, whatever is in it."""
        return os.path.exists(self.path)

    def writer(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect(WRITER_CACHE)
        return self._writer

    @contextmanager
    def write(self, *, long: bool = False) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed on leaving, rolled back on any error. A `long` one is waited for longer."""
        self.leave_fork_behind()
        with self._lock, self.speaking_plainly():
            con = self.writer()
            self._begin(con)
            try:
                with _file_lock(self._sign) if long and not self.memory else nullcontext():
                    yield con
                    failpoint("store.before_commit")
                    con.execute("COMMIT")
            except BaseException:
                if con.in_transaction:
                    con.execute("ROLLBACK")
                raise
            failpoint("store.after_commit")
            self._checkpoint(con)

    def _begin(self, con: sqlite3.Connection) -> None:
        """Waits for the writer's lock, in short turns: a signal's handler runs between them, not in them."""
        began = time.monotonic()
        while True:
            try:
                con.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                waited = time.monotonic() - began
                patient = waited < BUSY_SECONDS or (waited < LONG_SECONDS and self._is_long())
                if _code(error) != sqlite3.SQLITE_BUSY or not patient:
                    raise

    def _is_long(self) -> bool:
        """Whether the transaction that is waited for is at work, and has said that it takes long."""
        if self.memory or not os.path.exists(self._sign):
            return False
        with _file_lock(self._sign) as free:
            return not free

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading; a short one, because a long read keeps the log from being folded back."""
        self.leave_fork_behind()
        with self.speaking_plainly():
            if self.memory:
                with self._lock:
                    yield self.writer()
                return
            with self._inside():
                readers = self._readers  # of this life: a connection does not outlive it
                try:
                    con = readers.pop()
                except IndexError:
                    con = self._connect()
                try:
                    yield con
                finally:
                    if readers is self._readers and len(readers) < MAX_READERS and not con.in_transaction:
                        readers.append(con)
                    else:
                        con.close()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """Lets a fork wait for this thread."""
        me, reading = threading.get_ident(), self._reading
        if me in reading:  # the fork that waits for this thread must not be waited for by it
            yield
            return
        with self._entrance:
            reading.append(me)
        try:
            yield
        finally:
            reading.remove(me)

    def changed(self, timeout: float) -> bool:
        """Sleeps until another connection committed, or the time is over."""
        self.leave_fork_behind()
        if self.memory:
            time.sleep(min(timeout, SHORTEST_LOOK))
            return True
        with self.speaking_plainly():
            return self._watch.changed(timeout)

    def close(self) -> None:
        self.leave_fork_behind()
        with self._lock, self._watch.lock:
            if self._writer is not None:
                self._writer.close()
            self._watch.end()
            while self._readers:
                with suppress(IndexError):  # another thread has just taken the last one, and closes it when it is done
                    self._readers.pop().close()
            self._begin_life()

    # ── checkpoints ──────────────────────────────────────────────────────────────────────────────

    def _checkpoint(self, con: sqlite3.Connection) -> None:
        """Folds the log back into the file once this process has written its share, unless another is at it.

        The log's file keeps its size and is written over from its start: a commit that makes a file longer waits for
        the file system's own journal too, and takes about twice as long.
        """
        self._pages += PAGES_A_COMMIT + (con.total_changes - self._changes) // ROWS_A_PAGE
        self._changes = con.total_changes
        if self._pages < CHECKPOINT_PAGES or self.memory:
            return
        self._pages = 0
        with _file_lock(self.path + "-checkpoint") as mine:
            if mine:
                con.execute("PRAGMA busy_timeout = 50")
                try:
                    con.execute(f"PRAGMA wal_checkpoint({self._how()})").fetchone()
                except sqlite3.OperationalError as error:
                    # What was to be written is committed; the log is folded back another time.
                    if _code(error) not in _TRY_AGAIN:
                        raise
                finally:
                    con.execute(f"PRAGMA busy_timeout = {int(BUSY_TURN * 1000)}")

    def _how(self) -> str:
        try:
            return "TRUNCATE" if os.stat(self.path + "-wal").st_size > LARGEST_LOG else "RESTART"
        except OSError:
            return "RESTART"

    # ── errors ───────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def speaking_plainly(self) -> Iterator[None]:
        """Turns the library's errors into the store's."""
        try:
            yield
        except sqlite3.Error as error:
            self._explain(error)
        except Exception as error:
            if isinstance(below := getattr(error, "orig", None), sqlite3.Error):  # of a caller's SQLAlchemy
                self._explain(below)
            raise

    def _explain(self, error: sqlite3.Error) -> NoReturn:
        code = _code(error)
        if code in _TRY_AGAIN:
            raise StoreUnavailable(f"the store {self.path} {_TRY_AGAIN[code]} ({error})") from error
        if "no such table" in str(error) or "no such column" in str(error):
            raise SchemaOutdated(
                f"the store {self.path} lacks what this version of piecework needs ({error}); run: piecework migrate"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(
                f"the store {self.path} is damaged or not an SQLite file ({error}); stop the workers, keep the file, "
                "and restore a backup"
            ) from error
        raise StoreError(f"the store {self.path} failed: {error}") from error


def _code(error: sqlite3.Error) -> Any:
    """The primary result code: the extended ones carry it in their low byte."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextmanager
def _file_lock(path: str) -> Iterator[bool]:
    """True for the one process that holds the lock now; nobody waits for it."""
    try:
        import fcntl
    except ImportError:  # no advisory locks on this system: one process at a time is then the reader's duty
        yield True
        return
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
