"""Makes the driver's client for a place: one server, the master that Sentinels name, or a Cluster; not one that loses jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis import cluster, retry, sentinel
from redis.backoff import NoBackoff

from piecework.errors import StoreError
from piecework.store.redis.url import CLUSTER, SENTINEL, SINGLE, Place

CONNECT_SECONDS = 5.0
OLDEST = 7  # the first server whose scripts say what they do
MOVES = 5  # times that a Cluster's map is asked for again within one call

# The driver's annotations differ from one of its versions to the next; it is used as if it had none.
Driver = Any  # redis.Redis or RedisCluster; what both can do is all that is used
_Redis: Any = redis.Redis
_Retry: Any = retry.Retry
_Sentinel: Any = sentinel.Sentinel
_Cluster: Any = cluster.RedisCluster
_Node: Any = cluster.ClusterNode

Met = Callable[[str, str], None]  # is told which server, where there are several at a time, and which life of it


def connect(place: Place, met: Met) -> Driver:
    """A client of the driver. Where the URL names one server that turns out to be a Cluster's, it is of that Cluster.

    `met` is called whenever a connection was opened. Raises the driver's errors, and `StoreError` for a server that is
    too old, or would throw jobs away.
    """
    if place.kind == CLUSTER:
        driver = _cluster(place, met)
    else:
        driver = _sentinel(place, met) if place.kind == SENTINEL else _single(place, met)
    if place.kind == SINGLE and driver.info("cluster").get("cluster_enabled"):
        driver.close()
        if place.socket:
            raise StoreError(
                f"the store {place.shown} is a node of a Cluster; name its nodes: redis+cluster://host,host"
            )
        driver = _cluster(place, met)
    for master, info in infos(driver).items():
        if wrong := unfit(info):
            driver.close()
            raise StoreError(f"the store {place.shown} cannot be used: {wrong} ({master})")
    return driver


def infos(driver: Driver) -> dict[str, dict[str, Any]]:
    """What each server that is written to says of itself, by its address."""
    if is_cluster(driver):
        told: dict[str, dict[str, Any]] = driver.info(target_nodes="primaries")
        return told
    info = driver.info()
    return {f"port {info.get('tcp_port')}": info}


def unfit(info: dict[str, Any]) -> str | None:
    """Why jobs must not be kept on this server, and what to do; None where they may."""
    version = str(info.get("redis_version", "0"))
    if int(version.split(".")[0]) < OLDEST:
        return f"it is Redis {version}; piecework needs Redis {OLDEST} or newer, or Valkey"
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys-"):
        return (
            f"its maxmemory-policy is {policy}, so when its memory is full it throws jobs away; say: "
            "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
        )
    return None


def _common(place: Place) -> dict[str, Any]:
    common: dict[str, Any] = {
        "username": place.user,
        "password": place.password,
        "socket_timeout": place.timeout,
        "socket_connect_timeout": min(CONNECT_SECONDS, place.timeout),
        "socket_keepalive": True,
        "protocol": 2,  # what the newer one adds, messages in between among it, is not used
    }
    if place.tls is not None:
        common |= {"ssl": True, **place.tls}
        if "ssl_check_hostname" in common:
            common["ssl_check_hostname"] = common["ssl_check_hostname"].lower() in ("yes", "true", "1")
    return common


def _retry(times: int) -> Any:
    """A connection that was lost between two calls is not noticed by them; all else is for who called."""
    return _Retry(NoBackoff(), times, (redis.ConnectionError,))


def _telling(met: Met) -> Callable[[Any], None]:
    """What the driver calls for a new connection, in place of its own greeting."""

    def connected(con: Any) -> None:
        con.on_connect()
        met("", _run_of(con))

    return connected


def _run_of(con: Any) -> str:
    """Which life of which server is at the other end."""
    con.send_command("INFO", "server")
    found = re.search(rb"run_id:(\w+)", con.read_response())
    return found[1].decode() if found else ""


def _single(place: Place, met: Met) -> Driver:
    (host, port), told = place.hosts[0], _telling(met)
    where = {"unix_socket_path": place.socket} if place.socket else {"host": host, "port": port}
    return _Redis(**where, db=place.database, retry=_retry(1), redis_connect_func=told, **_common(place))


def _sentinel(place: Place, met: Met) -> Driver:
    common = _common(place)
    theirs = {**common, "username": place.sentinel_user, "password": place.sentinel_password, "retry": _retry(0)}
    return _Sentinel(place.hosts, sentinel_kwargs=theirs, **common).master_for(
        place.service, db=place.database, retry=_retry(1), redis_connect_func=_telling(met)
    )


def _cluster(place: Place, met: Met) -> Driver:
    nodes = [_Node(host, port) for host, port in place.hosts]
    return _Cluster(
        startup_nodes=nodes,
        retry=_retry(MOVES),
        redis_connect_func=lambda con: met(f"{con.host}:{con.port}", _run_of(con)),
        **_common(place),
    )


def is_cluster(driver: Driver) -> bool:
    """Whether keys live on several servers."""
    return isinstance(driver, cluster.RedisCluster)


def let_go(driver: Driver) -> None:
    """Closes the connections on which nobody talks.

    One under a thread that reads from it would soon be somebody else's handle.
    """
    nodes = [node.redis_connection for node in driver.get_nodes()] if is_cluster(driver) else [driver]
    for one in nodes:
        if one is not None:
            one.connection_pool.disconnect(inuse_connections=False)


def listening(driver: Driver, channels: Sequence[str]) -> Any:
    """A connection of its own that is subscribed to these channels, on any node of a Cluster: each hears them all.

    It is not opened again behind anybody's back: what was said meanwhile would be missed.
    """
    one = driver.get_redis_connection(driver.get_random_node()) if is_cluster(driver) else driver
    con = one.connection_pool.make_connection()
    con.retry = _retry(0)
    con.connect()
    con.send_command("SUBSCRIBE", *channels)
    for _ in channels:  # from here on nothing is missed
        con.read_response()
    return con
