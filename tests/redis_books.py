"""Whether a store on Redis is in order: every list, counter and posting is derived from the rows again, and compared.

What the keys hold is said at the top of ``src/piecework/store/redis/lua/lib_0_keys.lua``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import msgspec

from piecework.store.redis import rows
from piecework.store.redis.connecting import connect
from piecework.store.redis.shard import KEYS
from piecework.store.redis.url import parse

LISTS = {"r": "a"}  # a running job stays in the list of the available
ENDS = {"c": "completed", "f": "failed", "x": "cancelled"}
BATCH = ("state", "total", "open", "completed", "failed", "cancelled", "sealed", "then", "on_failure", "created_at",
         "finished_at", "always", "then_queue", "then_priority", "above", "last")  # fmt: skip

_unpack = msgspec.msgpack.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


def books(url: str) -> list[str]:
    """Everything that is not in order in a store, one sentence each."""
    with closing(_connected(url)) as server:
        shards = [Shard(server, parse(url).prefix, tag) for tag in _tags(server, url)]
        return [line for shard in shards for line in shard.wrong()] + list(_in_several(shards))


def _in_several(shards: Iterable[Shard]) -> Iterator[str]:
    """What must be in one shard, and is in two."""
    for name in ("at", "unique", "batch"):
        for field, n in Counter(field for shard in shards for field in shard.read(name)).items():
            if n > 1:
                yield f"{name} has {field.decode()!r} in {n} shards"


def alter(url: str, ids: Iterable[str], **fields: Any) -> None:
    """Changes fields of jobs behind everybody's back; of those by which a job is found, only `run_at` of one that is later."""
    with closing(_connected(url)) as server:
        for tag in _tags(server, url):
            shard = Shard(server, parse(url).prefix, tag)
            for id in ids:
                if (place := shard.read("at").get(id.encode())) is not None:
                    shard.alter(place.decode(), fields)


def make_newer(url: str, by: int) -> None:
    """Raises the version of every shard."""
    with closing(_connected(url)) as server:
        for tag in list(_tags(server, url)):
            server.hincrby(f"{parse(url).prefix}:{{{tag}}}:meta", "version", by)


def _connected(url: str) -> Any:
    """To one server, to the master that Sentinels name, or to a Cluster, whose keys are then found on all masters."""
    return connect(parse(url), lambda server, life: None)


def _tags(server: Any, url: str) -> Iterator[str]:
    """What is between the braces in the names of each shard's keys."""
    for key in server.scan_iter(f"{parse(url).prefix}:{{*}}:meta"):
        yield key.decode().split("{")[1].split("}")[0]


class Shard:
    """One shard's keys, as they are."""

    def __init__(self, server: Any, prefix: str, tag: str) -> None:
        self._server = server
        self._keys = {name: f"{prefix}:{{{tag}}}:{name}" for name in KEYS}

    def read(self, name: str) -> Any:
        kind = self._server.type(self._keys[name])
        if kind == b"hash":
            return self._server.hgetall(self._keys[name])
        if kind == b"zset":
            return dict(self._server.zrange(self._keys[name], 0, -1, withscores=True))
        return {}

    def alter(self, place: str, fields: dict[str, Any]) -> None:
        row = _unpack(self._server.hget(self._keys["job"], place))
        row += [False] * (len(rows.CHANGING) - len(row))
        for name, value in fields.items():
            row[rows.CHANGING.index(name)] = value
        self._server.hset(self._keys["job"], place, _pack(row))
        if "run_at" in fields:
            self._server.zadd(self._keys["later"], {place: fields["run_at"]}, xx=True)

    # ── what should be ───────────────────────────────────────────────────────────────────────────

    def wrong(self) -> list[str]:
        self.jobs = {place.decode(): _row(row) for place, row in self.read("job").items()}
        for place, fixed in self.read("fixed").items():
            id, task, root, piece, _, _, *tags = _unpack(fixed)
            told = {"id": id, "task": task, "root": root, "piece_key": piece, "tags": tags[0] if tags else ()}
            self.jobs[place.decode()] |= told
        self.batches = {id.decode(): _batch(row) for id, row in self.read("batch").items()}
        self.operations = {place.decode(): _unpack(row) for place, row in self.read("operation").items()}
        found: list[str] = []
        for name in ("index", "line", "running"):
            found += _compared(name, self.read(name).keys(), set(getattr(self, f"_{name}")()))
        for name in ("later", "expiry"):
            found += _compared(name, self.read(name).items(), set(getattr(self, f"_{name}")()))
        for name in ("at", "unique", "count", "lines"):
            found += _compared(name, self.read(name).items(), set(getattr(self, f"_{name}")()))
        return [*found, *self._counters(), *self._orphans(), *self._without_session()]

    def _index(self) -> Iterator[bytes]:
        for place, job in self.jobs.items():
            yield f"s{LISTS.get(job['state'], job['state'])}{job['queue']}\0{place}".encode()
            yield f"t{job['task']}\0{place}".encode()
            if job["root"]:
                yield f"r{job['root']}\0{place}".encode()
            if job["key"]:
                yield f"k{job['key']}\0{place}".encode()
            if job["operation"]:
                yield f"o{place}".encode()
                yield from (f"g{term}\0{place}".encode() for term in self._terms(place))
            if job["batch"]:
                yield from self._piece(place, job)
            yield from self._labels(place, job)
        for id, batch in self.batches.items():
            yield from self._batch(id, batch)

    def _piece(self, place: str, job: dict[str, Any]) -> Iterator[bytes]:
        at = f"{job['batch']}\0{job['ordinal'] or 0:08x}{place}"
        yield f"b{at}".encode()
        kind = "f" if job["state"] == "f" or job["crashed"] else job["state"]
        if kind in ("f", "x", "p"):
            yield f"e{kind}{at}".encode()
        if kind == "w":
            yield f"c{job['batch']}\0{place}".encode()

    def _labels(self, place: str, job: dict[str, Any]) -> Iterator[bytes]:
        for tag in job["tags"]:
            yield f"#{tag}\0{place}".encode()
        if job["whose"] is not False:
            yield f"i{job['whose'].removesuffix(job['task'])}{place}".encode()
            yield f"{'y' if job['state'] in 'war' else 'z'}{job['whose']}\0{place}".encode()
            if job["status_at"]:
                yield f"v{job['whose']}\0".encode() + _moment(job["status_at"]) + place.encode()

    def _batch(self, id: str, batch: dict[str, Any]) -> Iterator[bytes]:
        if batch["then"]:
            yield f"B{batch['then']}\0{id}".encode()
        if batch["state"] == "open":
            yield f"O{id}".encode()
            if batch["above"]:
                yield f"A{batch['above']}\0{id}".encode()
        elif batch["state"] != "done" and batch["open"]:
            yield f"D{id}".encode()
        if batch["finished_at"] and not batch["then"]:
            yield b"L%s%s" % (_moment(batch["finished_at"]), id.encode())

    def _terms(self, place: str) -> set[str]:
        packed = self.read("globals").get(place.encode())
        return {term for _, _, *terms in (_unpack(packed) if packed else ()) for term in (terms[0] if terms else ())}

    def _in(self, state: str) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((place, job) for place, job in self.jobs.items() if job["state"] == state)

    def _line(self) -> Iterator[bytes]:
        for place, job in self._in("a"):
            if not job["ahead"]:
                rank = f"{job['priority'] + 2**31:08x}".encode() + _moment(job["run_at"])
                yield job["queue"].encode() + b"\0" + rank + place.encode()

    def _lines(self) -> Iterator[tuple[bytes, bytes]]:
        for queue, n in Counter(job["queue"] for _, job in self._in("a") if not job["ahead"]).items():
            yield queue.encode(), b"%d" % n

    def _later(self) -> Iterator[tuple[bytes, float]]:
        return ((place.encode(), float(job["run_at"])) for place, job in self._in("a") if job["ahead"])

    def _expiry(self) -> Iterator[tuple[bytes, float]]:
        return ((place.encode(), float(job["expires_at"])) for place, job in self._in("a") if job["expires_at"])

    def _running(self) -> Iterator[bytes]:
        return (f"{job['worker']}\0{job['claim'] or ''}\0{place}".encode() for place, job in self._in("r"))

    def _at(self) -> Iterator[tuple[bytes, bytes]]:
        return ((job["id"].encode(), place.encode()) for place, job in self.jobs.items())

    def _unique(self) -> Iterator[tuple[bytes, bytes]]:
        for place, job in self.jobs.items():
            if job["key"] and job["state"] not in ENDS:
                yield f"u{job['key']}".encode(), place.encode()
        for place, operation in self.operations.items():
            if len(operation) > 1 and operation[1]:
                yield f"o{operation[1]}".encode(), place.encode()

    def _count(self) -> Iterator[tuple[bytes, bytes]]:
        for place, n in Counter(job["state"] + job["queue"] for job in self.jobs.values()).items():
            yield place.encode(), b"%d" % n

    # ── what belongs together ────────────────────────────────────────────────────────────────────

    def _counters(self) -> Iterator[str]:
        """Every batch counts its pieces."""
        for id, batch in self.batches.items():
            true: Counter[str] = Counter()
            for job in self.jobs.values():
                if job["batch"] == id:
                    true["failed" if job["crashed"] else ENDS.get(job["state"], "open")] += 1
            kept = {name: batch[name] for name in ("open", "completed", "failed", "cancelled") if batch[name]}
            if kept != dict(true) or batch["total"] != true.total():
                yield f"batch {id}: the counters say {kept} of {batch['total']}, the pieces {dict(true)}"

    def _orphans(self) -> Iterator[str]:
        """Nothing is kept of jobs that are not there, and no long text is missing."""
        places = {place.encode() for place in self.jobs}
        kept = {f"r{place}".encode() for place, job in self.jobs.items() if job["result"] is True}
        kept |= {f"e{place}".encode() for place, job in self.jobs.items() if job["error"] is True}
        kept |= {f"s{place}".encode() for place, job in self.jobs.items() if job["status"] is True}
        yield from _compared("text", self.read("text").keys(), kept)
        for name in ("fixed", "globals"):
            yield from _compared(name, self.read(name).keys() - places, set())
        operations = {place.encode() for place, job in self.jobs.items() if job["operation"]}
        yield from _compared("operation", self.read("operation").keys(), operations)
        yield from _compared("trail", {line for line in self.read("trail") if line[1:15] not in places}, set())
        stored = {field: place for field, packed in self.read("offer").items() if (place := _unpack(packed)[0])}
        offered = {field for field, place in stored.items() if place not in self.jobs}
        yield from _compared("offer", offered, set())
        waiting = {place.encode() for place, job in self._in("w") if job["operation"]}
        yield from _compared("wake", self.read("wake").keys() - waiting, set())
        yield from _compared("plan", self.read("plan").items(), set(self._plans()))

    def _plans(self) -> Iterator[tuple[bytes, bytes]]:
        kept = self.read("plan")
        for digest, n in Counter(operation[0].encode() for operation in self.operations.values()).items():
            yield b"p" + digest, kept.get(b"p" + digest)
            yield b"n" + digest, b"%d" % n

    def _without_session(self) -> Iterator[str]:
        sessions = self.read("session")
        for _, job in self._in("r"):
            if job["worker"].rpartition(".")[0].encode() not in sessions:
                yield f"{job['id']} is running on {job['worker']}, which has no session"


def _row(packed: bytes) -> dict[str, Any]:
    found = _unpack(packed)
    return dict(zip(rows.CHANGING, (*found, *[False] * (len(rows.CHANGING) - len(found))), strict=True))


def _batch(packed: bytes) -> dict[str, Any]:
    found = _unpack(packed)
    return dict(zip(BATCH, (*found, *[False] * (len(BATCH) - len(found))), strict=True))


def _moment(seconds: float) -> bytes:
    return b"%014x" % int(seconds * 1_000_000 + 0.5)


def _compared(name: str, kept: Iterable[Any], true: set[Any]) -> list[str]:
    kept = set(kept)
    missing, stray = true - kept, kept - true
    found = [f"{name} lacks {sorted(missing, key=repr)[:5]}"] if missing else []
    return found + ([f"{name} has {sorted(stray, key=repr)[:5]} for nothing"] if stray else [])
