"""Exceptions to text. Recording a failure never fails, whatever the exception's own methods do."""

from __future__ import annotations

import traceback

from piecework.job import ErrorInfo

MAX_MESSAGE = 2_000
MAX_TRACEBACK = 16_000


def describe(error: BaseException) -> ErrorInfo:
    """Class, message and traceback of an exception, bounded in size and free of what a store cannot keep."""
    return ErrorInfo(_class_name(error), clean(_message(error), MAX_MESSAGE), clean(_trace(error), MAX_TRACEBACK))


def _class_name(error: BaseException) -> str:
    try:
        kind = type(error)
        name, module = str(kind.__qualname__), str(kind.__module__)
    except BaseException:
        return "an exception whose class has no name"
    return clean(name if module == "builtins" else f"{module}.{name}", 200)


def _message(error: BaseException) -> str:
    try:
        # A plain str, whatever class __str__ returned: a subclass may bite later.
        return str.__str__(str(error))
    except BaseException as broken:  # a __str__ that raises, even SystemExit, must not take the worker along
        return f"(the exception's own __str__ raised {type(broken).__name__})"


def _trace(error: BaseException) -> str:
    try:
        # Frames of piecework itself tell a user nothing about the job.
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/piecework/engine/" not in f.filename]
        lines = traceback.format_list(frames)
        if error.__cause__ is not None or (error.__context__ is not None and not error.__suppress_context__):
            lines = traceback.format_exception(error)[:-1]
        return "Traceback (most recent call last):\n" + "".join(lines) if frames else ""
    except BaseException as broken:
        return f"(the traceback could not be formatted: {type(broken).__name__})"


def storable(text: str) -> bool:
    """Whether a store can keep a text as it is: no NUL, no lone surrogates."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def clean(text: str, limit: int) -> str:
    """Text without NUL and lone surrogates, cut in the middle: the beginning and the end tell most."""
    if not isinstance(text, str):
        text = "(not text)"
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - limit:,} characters left out …\n{text[-half:]}"
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
