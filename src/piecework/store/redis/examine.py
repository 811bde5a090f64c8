"""What `piecework check` says of a store on Redis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from piecework.errors import StoreError
from piecework.job import Finding
from piecework.store.redis.client import Client
from piecework.store.redis.connecting import infos

FULL = 0.9  # the part of maxmemory from which on somebody should know


def examine(client: Client) -> list[Finding]:
    """One finding for each thing that can be right or wrong with the servers."""
    try:
        with client.talking() as driver:
            servers = infos(driver)
        return [finding for master, info in servers.items() for finding in _server(client, master, info)]
    except StoreError as error:
        return [Finding("error", "server", str(error))]


def _server(client: Client, master: str, info: dict[str, Any]) -> Iterator[Finding]:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version", info.get("redis_version"))
    yield Finding("ok", "server", f"{name} {version} ({master}), {info.get('connected_clients')} connections")
    if info.get("role") == "slave":
        yield Finding("error", "writing", f"{master} is a replica; name the master, or its Sentinels, in the URL")
    yield _memory(info)
    yield from _durability(client, info)
    yield _replicas(info)


def _memory(info: dict[str, Any]) -> Finding:
    used, most = info.get("used_memory", 0), info.get("maxmemory", 0)
    text = f"{_mib(used)} in use" + (f" of {_mib(most)}" if most else ", and no limit (maxmemory) but the machine's")
    if most and used > FULL * most:
        return Finding(
            "warning", "memory", f"{text}: soon no job can be added; raise maxmemory, or prune what has ended"
        )
    return Finding("ok", "memory", text)


def _durability(client: Client, info: dict[str, Any]) -> Iterator[Finding]:
    if not info.get("aof_enabled"):
        yield Finding(
            "warning",
            "durability",
            "appendonly is off: after a restart or a crash of the server, jobs since its last snapshot are gone, or run "
            "again; say: CONFIG SET appendonly yes, and the same in its configuration file",
        )
        return
    if info.get("aof_last_write_status", "ok") != "ok":
        yield Finding(
            "error", "durability", "the server cannot write its log (aof_last_write_status); look into its disk"
        )
    how = _setting(client, "appendfsync")
    if how == "always":
        yield Finding("ok", "durability", "what was acknowledged survives a crash of the server and of its machine")
    elif how == "no":
        yield Finding(
            "warning",
            "durability",
            "appendfsync is no: after a crash of its machine, what was acknowledged in the last half minute may be gone",
        )
    else:
        yield Finding(
            "ok",
            "durability",
            f"appendfsync is {how or 'not told'}: after a crash of its machine, what was acknowledged in the last two "
            "seconds may be gone, or run again",
        )


def _setting(client: Client, name: str) -> str:
    """A setting; empty where the server does not tell, as hosted ones do."""
    try:
        told = client.command("CONFIG GET", name)
    except StoreError:
        return ""
    return str(told.get(name, "")) if isinstance(told, dict) else ""


def _replicas(info: dict[str, Any]) -> Finding:
    n = info.get("connected_slaves", 0)
    if not n:
        return Finding("ok", "replicas", "none")
    return Finding(
        "ok",
        "replicas",
        f"{n}; when one takes over, what was acknowledged and had not reached it yet is gone, or runs again",
    )


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"
