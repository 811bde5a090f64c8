"""The ground of the shelf on Redis: URLs, connections, scripts and what servers say, before any verb."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as driver
from redis.crc import key_slot
from tests.proxy import Cut, Proxy
from tests.redis_servers import Redis, RedisCluster, Watched, valkey_program
from tests.served import free_port
from tests.support import until

from piecework.errors import BadSettings, StoreError, StoreRefused, StoreUnavailable
from piecework.job import Finding
from piecework.store import open_store, redacted
from piecework.store.redis import scripts
from piecework.store.redis.client import Call, Client
from piecework.store.redis.connecting import listening
from piecework.store.redis.examine import examine
from piecework.store.redis.url import CLUSTER, SENTINEL, SINGLE, parse

KEY = "ground:{x}:1"


@pytest.fixture(autouse=True)
def small_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts that are easily understood, behind no prelude."""
    texts = {
        "raise": "#!lua\nreturn redis.call('INCR', KEYS[1])",
        "look": "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1]) or ''",
        "fill": "#!lua\nreturn redis.call('APPEND', KEYS[1], ARGV[1])",
        "free": "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1])",
        "echo": "#!lua flags=no-writes\nreturn {KEYS[1], ARGV[1]}",
    }
    monkeypatch.setattr(scripts, "texts", lambda: texts)
    scripts.script.cache_clear()
    yield
    scripts.script.cache_clear()


@pytest.fixture
def own() -> Iterator[Redis]:
    """A server that this test may break."""
    server = Redis().start()
    yield server
    server.stop()


def reach(url: str) -> Client:
    return Client(parse(url))


def subjects(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: finding.level for finding in findings}


# ── URLs ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_url_says_where_and_how() -> None:
    place = parse(
        "rediss://jo:ge%40heim@h:7000/3?prefix=shop&shards=4&hints=no&connections=7&timeout=2.5&ssl_cert_reqs=none"
    )
    assert (place.kind, place.hosts, place.database) == (SINGLE, (("h", 7000),), 3)
    assert (place.user, place.password, place.tls) == ("jo", "ge@heim", {"ssl_cert_reqs": "none"})
    assert (place.prefix, place.shards, place.hints, place.connections, place.timeout) == ("shop", 4, False, 7, 2.5)


def test_a_url_says_little() -> None:
    place = parse("valkey://")
    assert (place.kind, place.hosts, place.database, place.prefix) == (SINGLE, (("localhost", 6379),), 0, "piecework")
    assert (place.user, place.password, place.tls, place.shards, place.hints) == (None, None, None, None, True)


def test_sentinels_and_nodes_of_a_cluster_are_listed() -> None:
    place = parse("redis+sentinel://:a@s1,[::1]:7000/jobs?database=2&sentinel_user=u&sentinel_password=b")
    assert (place.kind, place.hosts) == (SENTINEL, (("s1", 26379), ("::1", 7000)))
    assert (place.service, place.database, place.password) == ("jobs", 2, "a")
    assert (place.sentinel_user, place.sentinel_password) == ("u", "b")
    place = parse("valkeys+cluster://n1:7000,n2")
    assert (place.kind, place.hosts, place.tls) == (CLUSTER, (("n1", 7000), ("n2", 6379)), {})


def test_a_url_may_name_a_unix_socket() -> None:
    place = parse("redis+unix://jo:secret@/run/my%20redis.sock?database=2&prefix=shop")
    assert (place.kind, place.socket, place.database) == (SINGLE, "/run/my redis.sock", 2)
    assert (place.user, place.password, place.prefix) == ("jo", "secret", "shop")
    assert place.shown == "redis+unix:///run/my%20redis.sock?prefix=shop"


def test_a_server_is_reached_by_its_unix_socket() -> None:
    with tempfile.TemporaryDirectory() as short:  # the path of a socket may have a hundred bytes
        server = Redis(unixsocket=f"{short}/s", requirepass="secret").start()
        try:
            client = reach(f"redis+unix://:secret@{short}/s?database=3")
            assert client.call(Call("raise", [KEY])) == 1
            ear = listening(client.driver(), ["hints"])
            client.command("PUBLISH", "hints", "now")
            assert ear.read_response()[-1] == b"now"
            ear.disconnect()
            client.close()
            with driver.Redis(port=server.port, password="secret", db=3) as con:
                assert con.get(KEY) == b"1"
        finally:
            server.stop()


def test_a_url_is_shown_without_credentials() -> None:
    said = "redis+sentinel://u:secret@h:1,i:2/jobs?sentinel_password=secret&prefix=shop"
    assert parse(said).shown == "redis+sentinel://h:1,i:2/jobs?prefix=shop"
    assert redacted(said) == "redis+sentinel://u:…@h:1,i:2/jobs?sentinel_password=…&prefix=shop"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h:0", "h:0, which is not a host with a port"),
        ("redis://h:70000", "h:70000, which is not a host with a port"),
        ("redis://a,b", "redis+sentinel://… or redis+cluster://…"),
        ("redis+sentinel://h", "the name of the master"),
        ("redis+cluster://h/1", "on a Cluster only 0"),
        ("redis://h/jobs", "the database jobs; it can be a number"),
        ("redis://h?prefix=a{b}", "prefix=a{b}; it can have"),
        ("redis://h?prefix=", "prefix=; it can have"),
        ("redis://h?shards=0", "shards=0; it can be a number from 1 to 256"),
        ("redis://h?hints=maybe", "hints=maybe; it can be yes or no"),
        ("redis://h?connections=many", "connections=many; it can be a number"),
        ("redis://h?timeout=-1", "timeout=-1; it can be from 0.1"),
        ("redis://h?appendonly=yes", "appendonly, which it cannot; it can say prefix"),
        ("redis://h?ssl_ca_certs=x", "ssl_ca_certs, which it cannot"),
        ("rediss://h?ssl_cert_reqs=some", "ssl_cert_reqs=some; it can be required"),
        ("rediss://h?ssl_ca_certs=/none.pem", "ssl_ca_certs=/none.pem, and there is no such file"),
        ("redis://h?prefix=shop#2", "has a #, behind which nothing is read"),
        ("redis+unix://h", "its whole path, as in redis+unix:///run/redis.sock"),
        ("redis+unix://", "its whole path"),
        ("rediss+unix:///run/redis.sock", "stays on this machine; say redis+unix://"),
        ("redis+unix:///run/redis.sock?database=x", "the database x; it can be a number"),
        ("redis:///run/redis.sock", "for a Unix socket write redis+unix:///run/redis.sock"),
        ("unix:///run/redis.sock", "redis+unix:///path"),
        ("redis+pipe://h", "begins with redis+pipe://"),
    ],
)
def test_a_url_that_cannot_be_right_is_refused(url: str, said: str) -> None:
    with pytest.raises(BadSettings) as refused:
        open_store(url)
    assert said in str(refused.value)


def test_without_its_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(BadSettings, match=r"pip install 'piecework\[redis\]'"):
        open_store("redis://h")


# ── servers ──────────────────────────────────────────────────────────────────────────────────────


def test_without_a_server_a_test_fails_with_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "from tests import redis_servers\n"
        "redis_servers._valkey = lambda: None\n"
        "try: redis_servers.Redis()\n"
        "except redis_servers.ServerMissing as missing: print(missing)"
    )
    surroundings = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=surroundings, capture_output=True, text=True)
    assert "apt-get install redis-server" in done.stdout
    assert len(done.stdout.splitlines()) == 1, done.stderr


def test_a_valkey_is_as_good_as_a_redis() -> None:
    server = Redis(valkey_program()).start()
    try:
        client = reach(f"valkey://127.0.0.1:{server.port}")
        assert client.script("raise")([KEY]) == 1
        assert examine(client)[0].message.startswith("Valkey ")
        client.close()
    finally:
        server.stop()


@pytest.mark.parametrize("password", ["", ":false@", "nobody:secret@"])
def test_a_password_that_is_missing_or_wrong_is_told_and_not_shown(password: str) -> None:
    server = Redis(requirepass="secret").start()
    try:
        assert reach(f"redis://:secret@127.0.0.1:{server.port}").script("raise")([KEY]) == 1
        with pytest.raises(StoreError, match="put them into the URL") as refused:
            reach(f"redis://{password}127.0.0.1:{server.port}").script("raise")([KEY])
        assert not isinstance(refused.value, StoreUnavailable)
        assert "secret@" not in str(refused.value)
        assert "false" not in str(refused.value)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        ("off", "put them into the URL"),
        ("-cluster|slots", "does not let this user do that"),
        ("-command", "let this user"),
    ],
)
def test_a_cluster_that_refuses_a_user_is_not_taken_for_one_that_is_away(
    cluster: RedisCluster, rights: str, said: str
) -> None:
    """A Cluster's client says of each that no node can be reached, or is none of a Cluster: a worker would try for ever."""
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", "poor", "reset", "on", ">word", "~*", "&*", "+@all", rights)
    client = reach(cluster.url.replace("://", "://poor:word@"))
    try:
        with pytest.raises(StoreError, match=said) as refused:
            client.script("raise")([KEY])
        assert not isinstance(refused.value, StoreUnavailable)
    finally:
        client.close()
        for node in cluster.nodes:
            node.ask("ACL", "DELUSER", "poor")


def test_tls_is_spoken_and_its_certificate_looked_at(tmp_path: Path) -> None:
    """Needs the program openssl, which Redis itself is built on."""
    certificate, key = str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem")
    asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    asked += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(asked, check=True, capture_output=True)
    tls = {"tls_cert_file": certificate, "tls_key_file": key, "tls_ca_cert_file": certificate, "tls_auth_clients": "no"}
    server = Redis(**tls, tls_port=str(free_port())).start()
    url = f"rediss://127.0.0.1:{server.settings['tls-port']}"
    try:
        for options in (f"?ssl_ca_certs={certificate}", "?ssl_cert_reqs=none"):
            client = reach(url + options)
            assert client.script("look")([KEY]) == b""
            client.close()
        with pytest.raises(StoreRefused, match="certificate verify failed"):
            reach(url).script("look")([KEY])
    finally:
        server.stop()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_a_server_that_would_throw_jobs_away_is_refused_with_the_fix(own: Redis, policy: str) -> None:
    own.ask("CONFIG", "SET", "maxmemory-policy", policy)
    client = reach(own.url)
    with pytest.raises(StoreError, match=f"maxmemory-policy is {policy}.*CONFIG SET maxmemory-policy noeviction"):
        client.script("raise")([KEY])
    assert own.ask("DBSIZE") == 0
    assert subjects(examine(client)) == {"server": "error"}
    own.ask("CONFIG", "SET", "maxmemory-policy", "volatile-lru")  # evicts what has a time to live: nothing of ours
    assert client.script("raise")([KEY]) == 1


def test_an_old_server_is_refused(own: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("piecework.store.redis.connecting.OLDEST", 99)
    with pytest.raises(StoreError, match="piecework needs Redis 99 or newer, or Valkey"):
        reach(own.url).script("raise")([KEY])


def test_what_a_server_keeps_is_told(own: Redis) -> None:
    client = reach(own.url)

    def durability() -> tuple[str, str]:
        (finding,) = [finding for finding in examine(client) if finding.subject == "durability"]
        return finding.level, finding.message

    assert durability()[0] == "ok"
    assert "last two seconds" in durability()[1]
    own.ask("CONFIG", "SET", "appendfsync", "always")
    assert durability() == ("ok", "what was acknowledged survives a crash of the server and of its machine")
    own.ask("CONFIG", "SET", "appendfsync", "no")
    assert durability()[0] == "warning"
    own.ask("CONFIG", "SET", "appendonly", "no")
    assert durability()[0] == "warning"
    assert "appendonly is off" in durability()[1]


def test_memory_that_is_nearly_used_up_is_told(own: Redis) -> None:
    client = reach(own.url)
    assert subjects(examine(client))["memory"] == "ok"
    own.ask("CONFIG", "SET", "maxmemory", str(own.ask("INFO", "memory")["used_memory"] + 1000))
    assert subjects(examine(client))["memory"] == "warning"


def test_a_cluster_is_found_out_and_its_shards_are_asked_in_one_trip(cluster: RedisCluster) -> None:
    for url in (cluster.url, cluster.masters[1].url):
        client = reach(url)
        assert client.is_cluster
        calls = [Call("echo", [f"ground:{{{n}}}:1"], [str(n)]) for n in range(20)]
        assert client.together(calls) == [[f"ground:{{{n}}}:1".encode(), str(n).encode()] for n in range(20)]
        assert list(subjects(examine(client))) == ["server", "memory", "durability", "replicas"]
        client.close()


def test_a_server_alone_is_no_cluster_and_no_sentinel(redis: Redis) -> None:
    with pytest.raises(StoreError, match=r"leave \+cluster out of the URL"):
        reach(f"redis+cluster://127.0.0.1:{redis.port}").script("raise")([KEY])
    with pytest.raises(StoreError, match=r"is no Sentinel; leave \+sentinel out of the URL"):
        reach(f"redis+sentinel://127.0.0.1:{redis.port}/jobs").script("raise")([KEY])


def test_a_sentinel_is_no_store_and_may_know_neither_the_user_nor_the_master(watched: Watched) -> None:
    assert watched.sentinel is not None
    with pytest.raises(StoreError, match=r"runs no scripts; where it is a Sentinel, say redis\+sentinel://"):
        reach(watched.sentinel.url).script("raise")([KEY])
    with pytest.raises(StoreError, match="sentinel_user=…&sentinel_password=…") as refused:
        reach(f"{watched.url}?sentinel_password=wrong").script("raise")([KEY])
    assert not isinstance(refused.value, StoreUnavailable)  # a worker would try for ever
    with pytest.raises(StoreUnavailable, match="no Sentinel names a master 'none'; that may be wrong"):
        reach(watched.sentinel.url.replace("://", "+sentinel://") + "/none").script("raise")([KEY])
    with pytest.raises(StoreUnavailable, match=r"no Sentinel names a master 'jobs' \([^<]+\)"):
        reach(f"redis+sentinel://127.0.0.1:{free_port()}/jobs").script("raise")([KEY])


def test_a_slot_that_is_being_moved_is_waited_for(cluster: RedisCluster) -> None:
    """The driver has tried again for a while, and gives up in words of its own."""
    key, missing = "moving:{x}:1", "moving:{x}:2"
    slot = key_slot(key.encode())
    here = slot * len(cluster.masters) // 16384
    source, target = cluster.masters[here], cluster.masters[here - 1]
    client = reach(cluster.url)
    client.script("raise")([key])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
    try:
        with pytest.raises(StoreUnavailable, match="moving this data right now"):
            client.script("raise")([key, missing])
    finally:
        source.ask("CLUSTER", "SETSLOT", slot, "STABLE")
    assert client.script("raise")([key, missing]) == 2
    client.close()


def test_a_replica_is_refused(watched: Watched) -> None:
    client = reach(watched.replica.url)
    with pytest.raises(StoreUnavailable, match="is a replica.*name the master, or its Sentinels"):
        client.script("raise")([KEY])
    assert subjects(examine(client))["writing"] == "error"


# ── calls ────────────────────────────────────────────────────────────────────────────────────────


def test_scripts_that_were_flushed_are_sent_again(own: Redis) -> None:
    client = reach(own.url)
    assert client.script("raise")([KEY]) == 1
    own.ask("SCRIPT", "FLUSH")
    assert client.script("raise")([KEY]) == 2
    own.ask("SCRIPT", "FLUSH")
    assert client.together([Call("raise", [KEY]), Call("look", [KEY])]) == [3, b"3"]


def test_a_connection_that_was_lost_between_two_calls_is_not_noticed(own: Redis) -> None:
    client = reach(own.url)
    assert client.script("raise")([KEY]) == 1
    own.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert client.script("raise")([KEY]) == 2
    own.end()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        client.script("raise")([KEY])
    own.launch()
    assert client.script("raise")([KEY]) == 3


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(redis: Redis) -> None:
    with Proxy(redis.port) as proxy:
        client = reach(f"redis://127.0.0.1:{proxy.port}?timeout=0.2")
        client.script("look")([KEY])
        proxy.stall()
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0.2 s"):
            client.script("look")([KEY])
        proxy.serve()
        assert client.script("look")([KEY]) == b""
        client.close()


@pytest.mark.parametrize("cut", Cut)
def test_a_call_that_is_cut_off_is_sent_again(redis: Redis, cut: Cut) -> None:
    """Twice, where the answer was lost: every verb is made for that."""
    key = f"ground:{{{cut.value}}}"
    with Proxy(redis.port) as proxy:
        client = reach(f"redis://127.0.0.1:{proxy.port}")
        client.script("raise")([key])
        with proxy.cutting(1, cut):
            assert client.script("raise")([key]) == (2 if cut is Cut.BEFORE else 3)
            assert proxy.struck
        client.close()


def test_out_of_memory_nothing_is_stored_and_what_frees_goes_on(own: Redis) -> None:
    client = reach(own.url)
    client.script("fill")([KEY], "x" * 1000)
    own.ask("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(StoreUnavailable, match="out of memory: nothing was stored.*maxmemory"):
        client.script("fill")([KEY], "y" * 1000)
    with pytest.raises(StoreUnavailable, match="out of memory"):
        client.together([Call("fill", [KEY], ["y"]), Call("look", [KEY])])
    assert client.script("look")([KEY]) == b"x" * 1000
    assert client.script("free")([KEY], "") == b"OK"
    own.ask("CONFIG", "SET", "maxmemory", "0")
    assert client.script("fill")([KEY], "z") == 1


def test_somebody_elses_data_under_our_keys_is_told(own: Redis) -> None:
    own.ask("RPUSH", KEY, "x")
    with pytest.raises(StoreError, match=r"other people's data.*\?prefix="):
        reach(own.url).script("raise")([KEY])


def test_the_number_of_connections_does_not_grow_with_the_threads(own: Redis) -> None:
    client = reach(f"{own.url}?connections=2")
    before = own.ask("INFO", "stats")["total_connections_received"]
    threads = [threading.Thread(target=lambda: [client.script("raise")([KEY]) for _ in range(50)]) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.script("look")([KEY]) == b"600"
    asked = 1  # by this test, to know it
    assert own.ask("INFO", "stats")["total_connections_received"] - before - asked <= 2


def test_a_child_of_a_fork_has_connections_of_its_own(own: Redis) -> None:
    client = reach(f"{own.url}?connections=1")
    raises = client.script("raise")
    raises([KEY])
    with client.talking():  # the only turn; the child has a copy of it that nobody will ever give back
        child = os.fork()
        if child == 0:
            try:
                os._exit(raises([KEY]))
            finally:
                os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert raises([KEY]) == 3


def test_a_master_that_died_is_followed_by_its_replica(watched: Watched) -> None:
    client = reach(watched.url)
    n = client.script("raise")([KEY])
    with driver.Redis(port=watched.master.port, protocol=2) as con:
        con.incr(KEY)
        assert con.wait(1, 5000) == 1
    watched.master.end()

    def raised() -> int | None:
        try:
            return int(client.script("raise")([KEY]))
        except StoreUnavailable:
            return None

    assert until(raised, "the replica has taken over", within=20) == n + 2
    client.close()
