"""A distributed job whose parts are done by piecework's own workers: python examples/parts_piecework.py"""

from __future__ import annotations

import tempfile
import time
from datetime import date, timedelta

from piecework import Piecework

folder = tempfile.TemporaryDirectory()
app = Piecework(f"sqlite:///{folder.name}/jobs.db")


@app.task(attempts=1)
def import_day(token: str, part: str, day: date) -> None:
    job = app.distributed_job(token)
    if job.stopped:
        return
    try:
        rows = 60 // (day.day - 2)  # the second day cannot be imported
    except ZeroDivisionError as error:
        job.fail(part, error)
        raise
    job.done(part, rows)


@app.task
def report(token: str) -> str:
    job = app.distributed_job(token)
    return f"{job.state}: {sum(rows for _, rows in job.results())} rows in {job.total} parts"


def main() -> None:
    job = app.distributed_job("import", then=report.piece("import"), otherwise=report.piece("import"))
    days = [date(2021, 1, 1) + timedelta(n) for n in range(5)]
    job.push_each(days, lambda day, part: import_day.later(job.token, part, day))
    with app.worker(concurrency=2, burst=True):
        while job.otherwise_id is None:  # the job has failed once all its parts have ended
            time.sleep(0.02)
        print(app.jobs.get(job.otherwise_id).result(timeout=30))
    for part in job.parts("failed"):
        print(f"part {part.part}: {part.error.message if part.error else ''}")
    job.resume()
    for name in job.open_parts():  # done by hand, after all
        job.done(name, 0)
    with app.worker(burst=True):
        print(app.jobs.get(job.then_id or "").result(timeout=30))


if __name__ == "__main__":
    with folder:
        main()
        app.close()
