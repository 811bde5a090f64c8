"""An app with one operation of very many steps; a module of its own, because declaring them takes a moment."""

from __future__ import annotations

from bench.jobs import line
from piecework import Piecework

STEPS = 10_000

app = Piecework()
march = app.operation("march", main=line(STEPS))
