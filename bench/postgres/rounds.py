"""The order of a round on PostgreSQL: the limit, piecework, and the limit again, on one server."""

from __future__ import annotations

from bench import measure as common
from bench import walks
from bench.postgres import limit, measure, peers
from bench.postgres.server import Server, running
from bench.reading import Reading
from bench.rounds import Plan, Round, say

LISTENERS = 8
CONCURRENCY = (10, 100)


def run(plan: Plan) -> tuple[list[Round], str]:
    """All rounds, and the server's version. Raises `NotExact` at the first one that is not."""
    with running() as server:
        say(f"PostgreSQL {server.version()}; starting and stopping workers, to know what that costs")
        with server.store() as store:
            costs = {processes: common.starting(store, processes=processes) for processes in (1, 2)}
        rounds = [_round(plan, server, number, costs) for number in range(1, plan.rounds + 1)]
        return rounds, server.version()


def _round(plan: Plan, server: Server, number: int, costs: dict[int, float]) -> Round:
    found: Round = {}
    say(f"round {number} of {plan.rounds}, PostgreSQL")
    _note(found, measure.singly(server, plan.singles))
    _limit(plan, server, found, "limit")
    _drain(plan, server, found, "drain", 1, costs)
    _walks(plan, server, found, costs[1])
    _limit(plan, server, found, "limit_delete", delete=True)
    _drain(plan, server, found, "drain_two", 2, costs)
    with server.store() as store:
        _note(found, {"split": measure.split(server, store, plan.jobs, idle_cpu=costs[1])})
    _limit(plan, server, found, "limit_thousand", bite=1000)
    _drain(plan, server, found, "drain_generic", 1, costs, measure.GENERIC)
    _waiting(plan, server, found)
    if plan.peers:
        for name, n in (("pgqueuer", plan.jobs), ("procrastinate", plan.peer_jobs)):
            with server.database() as url:
                _note(found, {name: peers.drain(name, url, n)})
    return found


def _limit(plan: Plan, server: Server, found: Round, name: str, *, delete: bool = False, bite: int = 100) -> None:
    with server.database() as url:
        filled = limit.copy_many(url, plan.jobs)
        if name == "limit":
            _note(found, {"copy": filled})
        _note(found, {name: limit.drain(url, plan.jobs, server.cpu, delete=delete, bite=bite)})


def _drain(
    plan: Plan, server: Server, found: Round, name: str, processes: int, costs: dict[int, float], options: str = ""
) -> None:
    with server.store(options) as store:
        filled = measure.filled(server, store, plan.jobs)
        if name == "drain":
            _note(found, {"later_many": filled})
        _note(found, {name: measure.drain(server, store, plan.jobs, processes=processes, idle_cpu=costs[processes])})


def _walks(plan: Plan, server: Server, found: Round, idle_cpu: float) -> None:
    for name, n in (("steps", plan.operations), ("steps_many", plan.many_operations)):
        with server.store() as store:
            _note(found, {name: walks.steps(store, n, idle_cpu=idle_cpu, server_cpu=server.cpu)})
    with server.store() as store:
        _note(found, walks.long(store))


def _waiting(plan: Plan, server: Server, found: Round) -> None:
    with server.store() as store:
        _note(found, common.latency(store, plan.samples))
    with server.store("?pooler=yes") as store:
        _note(found, {"latency_polled": common.latency(store, plan.samples)["latency"]})
    _note(found, measure.listening(server, plan.singles, LISTENERS))
    for concurrency in CONCURRENCY:
        with server.store() as store:
            _note(found, {f"connections_{concurrency}": measure.connections(store, concurrency)})


def _note(found: Round, readings: dict[str, Reading]) -> None:
    for name, reading in readings.items():
        found[name] = reading
        say(f"  {name:<16} {reading.value:>12,.1f}")
