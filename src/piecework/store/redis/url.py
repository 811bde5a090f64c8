"""What a URL says: which servers, what stands between, and under which names the keys are.

``redis://[user:password@]host[:port][/database]``, ``rediss://`` with TLS, ``valkey://`` and ``valkeys://`` likewise;
``redis+sentinel://host,host/service`` asks Sentinels for the master, ``redis+cluster://host,host`` names nodes of a
Cluster, ``redis+unix:///path/of/socket?database=2`` is one server on this machine.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple
from urllib.parse import unquote

from piecework.errors import BadSettings
from piecework.store.urls import read_url

SCHEME = re.compile(r"(?:redis|valkey)(s?)(?:\+(sentinel|cluster|unix))?")
PREFIX = "piecework"
CONNECTIONS = 3
PORT, SENTINEL_PORT = 6379, 26379
TIMEOUT = 10.0  # seconds for an answer
MOST_SHARDS = 256

SINGLE, SENTINEL, CLUSTER = "single", "sentinel", "cluster"
_WORDS = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}
_TLS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_CERTIFICATES = ("required", "optional", "none")


class Place(NamedTuple):
    """Where the store is, and how it is talked to."""

    kind: str  # SINGLE, SENTINEL or CLUSTER, as the URL says it
    hosts: tuple[tuple[str, int], ...]
    shown: str  # for people; without credentials
    tls: dict[str, str] | None
    user: str | None
    password: str | None
    sentinel_user: str | None
    sentinel_password: str | None
    service: str  # what the Sentinels call the master
    database: int
    prefix: str  # of every key
    shards: int | None  # None: as many as fit the kind of server
    hints: bool  # whether idle workers listen; else they poll
    connections: int  # to each server, beside one that listens
    timeout: float  # seconds for an answer
    socket: str = ""  # the file, in place of a host


def parse(url: str) -> Place:
    """Reads a URL. Raises `BadSettings`, with what it can say."""
    parts, options = read_url(url)
    found = SCHEME.fullmatch(parts.scheme)
    if found is None:
        raise BadSettings(f"the store's URL begins with {parts.scheme}://; it can be redis://, rediss:// or valkey://")
    is_socket = found[2] == "unix"
    kind = SINGLE if is_socket else found[2] or SINGLE
    credentials, _, where = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    socket = _socket(where, unquote(parts.path), is_tls=bool(found[1])) if is_socket else ""
    path = "" if is_socket else unquote(parts.path.strip("/"))
    prefix = _prefix(options.pop("prefix", PREFIX))
    place = Place(
        kind=kind,
        hosts=_hosts(where, kind),
        shown=f"{parts.scheme}://{where}{parts.path}" + (f"?prefix={prefix}" if prefix != PREFIX else ""),
        tls=_tls(options) if found[1] else None,
        user=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_user=options.pop("sentinel_user", None),
        sentinel_password=options.pop("sentinel_password", None),
        service=_service(path, kind),
        database=_database(options.pop("database", "0") if is_socket or kind == SENTINEL else path or "0", kind),
        prefix=prefix,
        shards=_number("shards", options.pop("shards"), 1, MOST_SHARDS) if "shards" in options else None,
        hints=_word("hints", options.pop("hints", "yes")),
        connections=_number("connections", options.pop("connections", str(CONNECTIONS)), 1, 100),
        timeout=_seconds("timeout", options.pop("timeout", str(TIMEOUT))),
        socket=socket,
    )
    if options:
        raise BadSettings(
            f"the store's URL says {', '.join(sorted(options))}, which it cannot; it can say prefix, shards, hints, "
            f"connections, timeout, for +unix and Sentinel database, sentinel_user and sentinel_password, and with TLS {', '.join(_TLS)}"
        )
    return place


def _hosts(where: str, kind: str) -> tuple[tuple[str, int], ...]:
    port = SENTINEL_PORT if kind == SENTINEL else PORT
    hosts = tuple(_host(one, port) for one in where.split(",") if one) or (("localhost", port),)
    if len(hosts) > 1 and kind == SINGLE:
        raise BadSettings(
            "the store's URL names several hosts; say what they are: redis+sentinel://… or redis+cluster://…"
        )
    return hosts


def _host(said: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%]+\]|[^:\[\]]+)(?::(\d{1,5}))?", said)
    if found is None or not 0 < int(found[2] or port) < 65536:
        raise BadSettings(f"the store's URL names {said}, which is not a host with a port")
    return unquote(found[1]).strip("[]"), int(found[2] or port)


def _socket(where: str, path: str, *, is_tls: bool) -> str:
    if is_tls:
        raise BadSettings(
            "the store's URL asks for TLS on a Unix socket, which stays on this machine; say redis+unix://"
        )
    if where or not path.strip("/"):
        raise BadSettings(
            "the store's URL names no Unix socket: write its whole path, as in redis+unix:///run/redis.sock"
        )
    return path


def _service(path: str, kind: str) -> str:
    if kind == SENTINEL and not path:
        raise BadSettings("the store's URL lacks the name of the master: redis+sentinel://host:26379/mymaster")
    return path if kind == SENTINEL else ""


def _database(said: str, kind: str) -> int:
    if not said.isdecimal() or (kind == CLUSTER and int(said)):
        raise BadSettings(
            f"the store's URL names the database {said}; it can be a number from 0, and on a Cluster only 0"
            + (f"; for a Unix socket write redis+unix:///{said}" if "/" in said or said.endswith(".sock") else "")
        )
    return int(said)


def _prefix(said: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.:/-]{1,64}", said):
        raise BadSettings(
            f"the store's URL says prefix={said}; it can have up to 64 letters, digits and the signs _ . : / -"
        )
    return said


def _tls(options: dict[str, str]) -> dict[str, str]:
    said = {name: options.pop(name) for name in _TLS if name in options}
    if said.get("ssl_cert_reqs", "required") not in _CERTIFICATES:
        raise BadSettings(
            f"the store's URL says ssl_cert_reqs={said['ssl_cert_reqs']}; it can be {', '.join(_CERTIFICATES)}"
        )
    for name in _FILES:
        if name in said and not os.path.isfile(said[name]):
            raise BadSettings(f"the store's URL says {name}={said[name]}, and there is no such file")
    return said


def _word(name: str, said: str) -> bool:
    if said.lower() not in _WORDS:
        raise BadSettings(f"the store's URL says {name}={said}; it can be yes or no")
    return _WORDS[said.lower()]


def _number(name: str, said: str, least: int, most: int) -> int:
    if not said.isdecimal() or not least <= int(said) <= most:
        raise BadSettings(f"the store's URL says {name}={said}; it can be a number from {least} to {most}")
    return int(said)


def _seconds(name: str, said: str) -> float:
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 600:
        raise BadSettings(f"the store's URL says {name}={said}; it can be from 0.1 to 600 seconds")
    return seconds


def check_driver() -> None:
    """Says what to install where the driver is missing."""
    try:
        import redis  # noqa: F401
    except ImportError as error:
        raise BadSettings(f"a store on Redis needs its driver ({error}): pip install 'piecework[redis]'") from None
