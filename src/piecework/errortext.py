"""Exceptions to text. Recording a failure never fails, whatever the exception's own methods do."""

from __future__ import annotations

import traceback

from piecework.job import ErrorInfo

MAX_MESSAGE = 2_000
MAX_TRACEBACK = 16_000
_HEADER = "Traceback (most recent call last):\n"


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
    """Where it was raised, with its causes, its notes, and the parts of a group; without the line that is its message."""
    try:
        frames = _of_the_job(traceback.extract_tb(error.__traceback__))
        if not frames:
            return ""
    except BaseException as broken:
        return f"(the traceback could not be formatted: {type(broken).__name__})"
    try:
        return "".join(_told(error))
    except BaseException:  # a class, a cause or a note that bites: where it was raised is known all the same
        return "".join([_HEADER, *frames.format()])


def _of_the_job(stack: traceback.StackSummary) -> traceback.StackSummary:
    """Without the frames of piecework itself, which tell a user nothing about the job."""
    return traceback.StackSummary.from_list([frame for frame in stack if "/piecework/engine/" not in frame.filename])


def _told(error: BaseException) -> list[str]:
    whole = traceback.TracebackException.from_exception(error)
    _leave_out_the_engine(whole)
    lines = list(whole.format())
    if not issubclass(type(error), BaseExceptionGroup | SyntaxError):
        own = list(whole.format_exception_only())  # the message, which is kept by itself, and the notes
        lines = [*lines[: -len(own)], *own[1:]]
    return [clean(line, MAX_MESSAGE) for line in lines]  # the message of a cause may be of any length


def _leave_out_the_engine(whole: traceback.TracebackException) -> None:
    """From the error, and from those that it came from or is made of."""
    left, seen = [whole], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.stack = _of_the_job(one.stack)
        left += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]


def shown(value: object, most: int = 80) -> str:
    """The beginning of a value as text, for a message about it: of one that cannot say what it is, only its kind."""
    try:
        return repr(value)[:most]
    except Exception:  # it is nested too deeply, or its own method raises
        return f"a {type(value).__name__}"


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
    text = str.__str__(text)
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n… {len(text) - limit:,} characters left out …\n{text[-half:]}"
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
