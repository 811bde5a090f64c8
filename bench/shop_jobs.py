"""The shop's app, as its worker processes import it: a purchase takes so many seconds, and needs no processor for that."""

from __future__ import annotations

import time
from pathlib import Path

from piecework import Piecework

app = Piecework()


@app.task(queue="shop", attempts=1)
def purchase(n: int, seconds: float) -> int:
    time.sleep(seconds)
    return n


@app.task(queue="doors", attempts=1)
def wait_for(path: str) -> None:
    """Takes a place until there is such a file."""
    while not Path(path).exists():
        time.sleep(0.02)
