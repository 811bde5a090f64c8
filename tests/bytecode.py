"""Bytecode for the many processes that the tests start.

Where the environment forbids it beside the sources (PYTHONDONTWRITEBYTECODE, usual in images of containers), each of them
would compile all that it imports, which takes it longer than all else that it does. So it is kept in a folder of the
tests' own, and nothing is written beside the sources then, either.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

FORBIDDEN, PREFIX = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"


def keep(folder: Path) -> None:
    """Keeps bytecode in this folder where it may not be kept beside the sources: of this process, and of what it starts."""
    if not os.environ.pop(FORBIDDEN, ""):
        return
    os.environ[PREFIX] = sys.pycache_prefix = str(folder)
    sys.dont_write_bytecode = False
