"""Histories of the real engine on one thread, with faults at every call of the store."""

from __future__ import annotations

from piecework.testing.simulation.history import Protocol, Verdict, play
from piecework.testing.simulation.toys import Toys

__all__ = ["Protocol", "Toys", "Verdict", "play"]
