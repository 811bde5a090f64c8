"""Makes the driver's client for a place: one server, the master that Sentinels name, or a Cluster."""

from __future__ import annotations

from typing import Any

import redis
from redis import cluster, retry, sentinel
from redis.backoff import NoBackoff

from piecework.store.redis.url import CLUSTER, SENTINEL, SINGLE, Place

CONNECT_SECONDS = 5.0
MOVES = 5  # times that a Cluster's map is asked for again within one call

# The driver's annotations differ from one of its versions to the next; it is used as if it had none.
Driver = Any  # redis.Redis or RedisCluster; what both can do is all that is used
_Redis: Any = redis.Redis
_Retry: Any = retry.Retry
_Sentinel: Any = sentinel.Sentinel
_Cluster: Any = cluster.RedisCluster
_Node: Any = cluster.ClusterNode


def connect(place: Place) -> Driver:
    """A client of the driver. It is to one server where the URL does not say more, but that server has a Cluster's mark."""
    if place.kind == CLUSTER:
        return _cluster(place)
    driver = _sentinel(place) if place.kind == SENTINEL else _single(place, *place.hosts[0])
    if place.kind == SINGLE and driver.info("cluster").get("cluster_enabled"):
        driver.close()
        return _cluster(place)
    return driver


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


def _single(place: Place, host: str, port: int) -> Driver:
    return _Redis(host=host, port=port, db=place.database, retry=_retry(1), **_common(place))


def _sentinel(place: Place) -> Driver:
    common = _common(place)
    theirs = {**common, "username": place.sentinel_user, "password": place.sentinel_password, "retry": _retry(0)}
    return _Sentinel(place.hosts, sentinel_kwargs=theirs, **common).master_for(
        place.service, db=place.database, retry=_retry(1)
    )


def _cluster(place: Place) -> Driver:
    nodes = [_Node(host, port) for host, port in place.hosts]
    return _Cluster(startup_nodes=nodes, retry=_retry(MOVES), **_common(place))


def is_cluster(driver: Driver) -> bool:
    """Whether keys live on several servers."""
    return isinstance(driver, cluster.RedisCluster)
