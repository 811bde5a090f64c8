"""What modules are called where they are imported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def module_name(named: Any) -> str:
    """The module of a function or class; that of the script which was started is named after the script's file."""
    return str(named.__module__) if named.__module__ != "__main__" else main_name()


def main_name() -> str:
    """The name under which another process would import the script that was started."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"
