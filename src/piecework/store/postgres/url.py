"""What a URL says: where the server is, which schema, and what stands between."""

from __future__ import annotations

import math
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode, urlunsplit

from piecework.errors import BadSettings
from piecework.store import redacted
from piecework.store.urls import read_url

SCHEMA = "piecework"
CONNECTIONS = 3
SILENCE = 60.0  # seconds without a word from the server after which a call gives up
LONGEST_NAME = 63 - len("piecework_")  # bytes that PostgreSQL keeps of a name; the channel of hints has a prefix

# What a broken network costs at most, in seconds: a server that does not answer is noticed, and the call sent again.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "piecework",
}
_ALWAYS = {"client_encoding": "utf8"}  # whatever PGCLIENTENCODING, the role or the URL says: a job may say anything
_WORDS = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False, "auto": None}


class Place(NamedTuple):
    """Where the store is, and how it is talked to."""

    conninfo: str  # for the driver; with credentials
    shown: str  # for people; without
    schema: str
    pooler: bool | None  # one hands connections to others between two transactions; None: to be found out
    connections: int
    silence: float | None  # seconds that the server may say nothing while a call waits; None: for ever


def parse(url: str) -> Place:
    """Reads a URL. Its own options are `schema`, `pooler`, `connections` and `silence`; the driver gets the others."""
    parts, options = read_url(url)
    schema = options.pop("schema", SCHEMA)
    pooler = _word(options.pop("pooler", "auto"))
    connections = _number(options.pop("connections", str(CONNECTIONS)))
    silence = _seconds(options.pop("silence", str(SILENCE)))
    _check_schema(schema)
    conninfo = urlunsplit(
        ("postgresql", parts.netloc, parts.path, urlencode({**_PATIENCE, **options, **_ALWAYS}, quote_via=quote), "")
    )
    _check_conninfo(conninfo)
    where = parts.netloc.rpartition("@")[2] + unquote(parts.path)
    shown = f"postgresql://{where}" + (f"?schema={schema}" if schema != SCHEMA else "")
    return Place(conninfo, shown, schema, pooler, connections, silence)


def _word(said: str) -> bool | None:
    if said.lower() not in _WORDS:
        raise BadSettings(
            f"the store's URL says pooler={said}; it can be yes or no, and is found out where it is left out"
        )
    return _WORDS[said.lower()]


def _number(said: str) -> int:
    if not said.isdecimal() or not 2 <= int(said) <= 100:
        raise BadSettings(f"the store's URL says connections={said}; it can be a number from 2 to 100")
    return int(said)


def _seconds(said: str) -> float | None:
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:  # nor nan
        raise BadSettings(
            f"the store's URL says silence={said}; it can be a number of seconds, and 0 for waiting without an end"
        )
    return seconds or None


def _check_schema(schema: str) -> None:
    if not schema or "\0" in schema or len(schema.encode()) > LONGEST_NAME or schema.startswith("pg_"):
        raise BadSettings(
            f"the store's URL says schema={schema}; PostgreSQL takes names of 1 to {LONGEST_NAME} bytes that do not begin "
            "with pg_"
        )


def check_driver() -> None:
    """Says what to install where the driver is missing."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise BadSettings(
            f"a store on PostgreSQL needs its driver ({error}): pip install 'piecework[postgres]'"
        ) from None


def _check_conninfo(conninfo: str) -> None:
    """The driver's own opinion of what is left of the URL."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(conninfo)
    except ProgrammingError as error:
        raise BadSettings(
            f"the store's URL is not one that PostgreSQL's library takes: {redacted(str(error).strip())}"
        ) from None
