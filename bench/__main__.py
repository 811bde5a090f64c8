"""``python -m bench``: measures, prints a table for each store, and says whether each goal is met. A missed goal is no failure."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.servers import ServerMissing

from bench import machine, peers, report, rounds
from bench.postgres import peers as postgres_peers
from bench.postgres import rounds as postgres_rounds
from bench.postgres import table as postgres_table
from bench.reading import NotExact
from piecework import PieceworkError


def main() -> int:
    options = _options()
    folder, warning = machine.disk_folder(options.dir)
    if warning:
        rounds.say(f"Warning: {warning}")
    tempfile.tempdir = str(folder)  # of the servers, too
    plan = _plan(options, folder)
    told = {}
    try:
        for name, measure in {"sqlite": _sqlite, "postgresql": _postgres}.items():
            if options.store in (name, "all"):
                told[name] = measure(plan)
    except NotExact as error:
        rounds.say(f"Not exact: {error}")
        return 1
    except (PieceworkError, ServerMissing, sqlite3.Error, OSError) as error:
        rounds.say(f"The run was broken off: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        options.json.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _plan(options: argparse.Namespace, folder: Path) -> rounds.Plan:
    return rounds.Plan(
        folder=folder,
        synchronous=options.synchronous.upper(),
        rounds=options.rounds or (1 if options.quick else 3),
        jobs=options.jobs or (20_000 if options.quick else 100_000),
        singles=2000,
        samples=200,
        idle_seconds=10.0,
        peers=options.peers,
        stock=1_000_000 if options.full else 200_000,
        turns=5 if options.quick else 10,
        operations=1000,
        many_operations=2000 if options.quick else 10_000,
        pieces=1_000_000 if options.full else 20_000 if options.quick else 100_000,
    )


def _sqlite(plan: rounds.Plan) -> dict[str, Any]:
    plan = replace(plan, peers=plan.peers and _are_there("Huey or DBOS", peers.installed()))
    measured = rounds.run(plan)
    place = machine.describe(plan.folder, plan.synchronous)
    table = report.sections(plan)
    report.print_table(table, place, measured, [report.LARGER_BITES])
    return report.as_json(table, plan, place, measured)


def _postgres(plan: rounds.Plan) -> dict[str, Any]:
    plan = replace(plan, peers=plan.peers and _are_there("PgQueuer or Procrastinate", postgres_peers.installed()))
    measured, version = postgres_rounds.run(plan)
    place = machine.describe_server(plan.folder, version)
    table = postgres_table.sections(plan)
    report.print_table(table, place, measured, postgres_table.NOTES)
    return report.as_json(table, plan, place, measured)


def _are_there(names: str, there: bool) -> bool:
    if not there:
        rounds.say(f"{names} is not installed: peers are left out; to have them: pip install 'piecework[bench]'")
    return there


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--store", choices=("sqlite", "postgresql", "all"), default="all", help="which store is measured (all)"
    )
    parser.add_argument("--quick", action="store_true", help="20,000 jobs and one round: a first look")
    parser.add_argument(
        "--full", action="store_true", help="a million finished, a million future jobs, a million pieces: takes longer"
    )
    parser.add_argument("--rounds", type=_positive, help="how often everything is measured (3)")
    parser.add_argument("--jobs", type=_positive, help="jobs in a bulk (100,000)")
    parser.add_argument(
        "--synchronous",
        choices=("full", "normal"),
        default="full",
        help="what SQLite promises, for both sides: full (piecework's default) survives a loss of power",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="measure Huey and DBOS on SQLite, PgQueuer and Procrastinate on PostgreSQL too, if they are installed",
    )
    parser.add_argument("--dir", type=_folder, help="where the databases are made; default: the temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number to a file")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return folder


if __name__ == "__main__":
    sys.exit(main())
