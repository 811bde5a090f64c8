"""Finding an app by its reference ``module:attribute``, as the command line names it."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from piecework.config import project_settings
from piecework.errors import UsageError

if TYPE_CHECKING:
    from piecework.app import Piecework


def app_reference(given: str | None) -> str | None:
    """The reference that was given, else ``$PIECEWORK_APP``, else ``[tool.piecework] app``; None where nobody names one."""
    found = given or os.environ.get("PIECEWORK_APP") or project_settings().get("app")
    return str(found) if found else None


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
