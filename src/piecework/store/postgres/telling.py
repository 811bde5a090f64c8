"""What the server and the driver say when they cannot, in the store's own words."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psycopg

from piecework.errors import KeyHeld, SchemaOutdated, StoreError, StoreUnavailable, UsageError
from piecework.store.postgres.held import HELD, by_key

COLLIDED = ("40001", "40P01", "23505")  # the last: two took a key at once
_LOST = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_NO_TABLES = ("42P01", "42703", "3F000")
_NOT_TEXT = ("22P05", "22021")
NOT_PREPARED = ("26000", "42P05")  # by this client, because another one had the connection in between
_TRY_AGAIN = {
    HELD: "is locked by others for too long",
    "57014": "was told to cancel, or reached its statement_timeout",
    "25006": "is read-only",
    "53100": "has no room left on its disk",
    "53200": "is out of memory",
    "53300": "takes no more connections",
    "58030": "cannot read or write its files",
}

# What a server, a pooler or the library says of a role, a password, a database or an encryption that will not do. While
# a connection is made there is no code for it, so a server of another language is not understood: it is tried again.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|role .* does not exist|database .* does not exist|no such (user|database)|"
    r"is not permitted to log in|no pg_hba\.conf entry|pg_hba\.conf rejects|permission denied for database|"
    r"does not support SSL|certificate verify failed|does not match host name|root certificate file .* does not exist"
)
_ATTEMPT = re.compile(r"(?=connection to server )")  # of several servers, or ways to encrypt, each has its own


def is_refused(error: psycopg.OperationalError) -> bool:
    """Whether no connection was made because each server that was asked was there and did not let us in."""
    if getattr(error.pgconn, "needs_password", False):
        return True
    attempts = [said for said in _ATTEMPT.split(str(error)) if said.startswith("connection to server ")]
    return all(_REFUSED.search(said) for said in attempts or [str(error)])


def tell(shown: str, code: str | None, said: str, error: Exception) -> NoReturn:
    """The store's error for what a server or a driver said, here or on a caller's connection."""
    code, lost = code or "", is_lost(code, said, error)
    if code in NOT_PREPARED:
        raise StoreError(
            f"the store {shown} failed: {said}. Somebody hands connections round between transactions, a pooler most "
            "likely; say ?pooler=yes in the store's URL"
        ) from error
    if code == HELD and by_key(error):
        raise KeyHeld(
            f"the store {shown}: a transaction of somebody's that is still open has taken the unique key, so nobody knows yet "
            f"whether there is such a job; it was waited for ({said}), and nothing was changed"
        ) from error
    if code in _TRY_AGAIN or code in COLLIDED or lost:
        what = _TRY_AGAIN.get(code, "lost the connection" if code not in COLLIDED else "is too busy")
        raise StoreUnavailable(f"the store {shown} {what} ({said})") from error
    if code in _NO_TABLES:
        raise SchemaOutdated(
            f"the store {shown} lacks what this version of piecework needs ({said}); run: piecework migrate"
        ) from error
    if code in _NOT_TEXT or (not code and "NUL" in said):
        raise UsageError(
            f"the store {shown} keeps no NUL character in its texts ({said}); leave it out of names, keys and reasons"
        ) from error
    if code == "42501":
        raise StoreError(
            f"the store {shown} does not let this role do that ({said}); grant it USAGE on the schema and SELECT, INSERT, "
            "UPDATE, DELETE on its tables"
        ) from error
    raise StoreError(f"the store {shown} failed: {said}") from error


def first_line(error: psycopg.Error) -> str:
    """The first line of what the server or the library said; it names no password."""
    said = error.diag.message_primary or str(error) or type(error).__name__
    return said.strip().split("\n")[0]


class _Silence(logging.Filter):
    """Keeps the driver from telling of each connection that was lost, where the error says so anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.here, "silent", False)


_silence = _Silence()
logging.getLogger("psycopg").addFilter(_silence)


@contextmanager
def told_by_us() -> Iterator[None]:
    """What the driver has to say inside goes into the error that is raised, and not into the log as well."""
    _silence.here.silent = True
    try:
        yield
    finally:
        _silence.here.silent = False


def is_lost(code: str | None, said: str, error: Exception) -> bool:
    if not code:
        return getattr(error, "connection_invalidated", False) or isinstance(
            error, psycopg.OperationalError | psycopg.InterfaceError
        )
    if code == "0A000":  # a statement that was prepared before the tables changed
        return "cached plan" in said
    return code in _LOST or code in NOT_PREPARED or code.startswith("08")
