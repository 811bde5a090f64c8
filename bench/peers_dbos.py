"""The same operations for DBOS on SQLite: a workflow of steps that do nothing. Run as a program of its own.

``python -m bench.peers_dbos FILE OPERATIONS STEPS`` prints steps a second, from the first start to the last end.
"""

from __future__ import annotations

import sys
import time

from dbos import DBOS, DBOSConfig  # type: ignore[import-not-found,unused-ignore]


def main(path: str, operations: int, steps: int) -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": f"sqlite:///{path}",
        "run_admin_server": False,  # type: ignore[typeddict-unknown-key,unused-ignore]
        "log_level": "ERROR",
    }
    DBOS(config=config)
    moments: list[float] = []

    @DBOS.step()
    def noop(number: int) -> None:
        moments.append(time.time())

    @DBOS.workflow()
    def walk(number: int) -> None:
        for _ in range(steps):
            noop(number)

    DBOS.launch()
    try:
        handles = [DBOS.start_workflow(walk, number) for number in range(operations)]
        for handle in handles:
            handle.get_result()
    finally:
        DBOS.destroy()
    if len(moments) != operations * steps:
        raise SystemExit(f"{len(moments)} steps were run instead of {operations * steps}")
    print((len(moments) - 1) / (max(moments) - min(moments)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
