"""Handles to operations."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from piecework.errors import JobNotFound
from piecework.job import OperationRecord, Record, State
from piecework.jobs import Job
from piecework.start import Globals

S = TypeVar("S")


class Operation(Job[S]):
    """A handle to one stored operation. Every property reads the store anew."""

    def __repr__(self) -> str:
        return f"<operation {self.id}>"

    def kept(self) -> OperationRecord:
        """What the store keeps of the operation beside its job, now. Raises `JobNotFound`."""
        found = self._app.store.operations([self.id])
        if not found:
            raise JobNotFound(f"no operation {self.id}: it never existed, or was pruned")
        return found[0]

    def _result(self, record: Record) -> Any:
        assert record.state is State.COMPLETED
        spec = self._app.registry.get(record.task)
        globals = Globals(record.task) if spec is None else spec.signature
        return cast(Globals, globals).value(self.kept().globals)


def walks(record: Record) -> bool:
    """Whether a job is an operation: its cursor is a place on a plan, and never a single word."""
    return record.cursor is not None and "/" in record.cursor
