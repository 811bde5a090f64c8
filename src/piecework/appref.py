"""Finding an app by its reference ``module:attribute``, as the command line names it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from piecework.config import project_settings
from piecework.errors import UsageError
from piecework.names import main_name

if TYPE_CHECKING:
    from piecework.app import Piecework


MAIN = "__main__", "__mp_main__"  # the second is what multiprocessing calls the first
_IMPORTING = "PIECEWORK_IMPORTING_FOR_POOL"


class AppPlace(msgspec.Struct):
    """Where another process finds the same app."""

    reference: str
    folder: str | None = None
    log_level: str = "warning"


def pool_command(place: AppPlace) -> tuple[str, ...]:
    """How a process of a worker's pool is started."""
    told = msgspec.json.encode(place).decode()
    # -P: a worker's imports are not to be taken over by what lies in the current folder.
    return sys.executable, "-P", "-m", "piecework.cli.pooled", told


def place_of(app: Piecework) -> AppPlace | None:
    """The module and name under which an app can be imported; None where it is not a module's own."""
    # The script that was started comes last: importing it anew runs it, and most only borrow the app from elsewhere.
    for name, module in sorted(sys.modules.copy().items(), key=lambda item: item[0] in MAIN):
        file = getattr(module, "__file__", None)
        found = next((key for key, value in list(getattr(module, "__dict__", {}).items()) if value is app), None)
        if found is None or file is None:
            continue
        real = main_name() if name in MAIN else name
        up = real.count(".") + (os.path.basename(file) == "__init__.py")
        return AppPlace(f"{real}:{found}", str(Path(file).absolute().parents[up]))
    return None


def app_reference(given: str | None) -> str | None:
    """The reference that was given, else ``$PIECEWORK_APP``, else ``[tool.piecework] app``; None without any."""
    found = given or os.environ.get("PIECEWORK_APP") or project_settings().get("app")
    return str(found) if found else None


def importing_for_pool() -> bool:
    """Whether this process is importing the app for a worker's pool, where starting a worker would have no end."""
    return os.environ.get(_IMPORTING) == str(os.getpid())


@contextmanager
def import_for_pool() -> Iterator[None]:
    """Marks the time of the import; by process id, so that no child inherits it."""
    os.environ[_IMPORTING] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_IMPORTING]


def load_app(reference: str, folder: str | None = None) -> Piecework:
    """Imports an app. Raises `UsageError` where the reference names none; errors of the module itself pass through.

    The folder (the current one, unless given) is put at the end of the import path, where nothing in it can take the
    place of an installed module.
    """
    from piecework.app import Piecework

    place = os.path.abspath(folder or os.getcwd())
    if place not in sys.path:
        sys.path.append(place)
    name, colon, attribute = reference.partition(":")
    if not colon:
        name, _, attribute = reference.rpartition(".")
    if not name or not attribute:
        raise UsageError(f"{reference!r} names no app; write module:attribute, such as myproject.jobs:app")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise UsageError(
            f"no module {error.name!r} in {place} or on the import path (for the app {reference!r})"
        ) from None
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{reference!r} is not a Piecework app: the module {name} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, Piecework):
        raise UsageError(f"{reference!r} is {type(found).__name__}, not a Piecework app")
    return found
