"""``python -m piecework``."""

from piecework.cli import run

run()
