"""What tests of piecework, and of stores for it, are made of: a clock that stands still, a store of plain dicts.

The conformance suite is in `piecework.testing.conformance`; it needs pytest, which this module does not.
"""

from __future__ import annotations

from piecework.testing.clock import FrozenClock
from piecework.testing.drain import drain
from piecework.testing.model import ModelStore

__all__ = ["FrozenClock", "ModelStore", "drain"]
