"""A store that is plain dicts: what every store must do, written so that it can be checked by reading it.

`tables` holds what is stored. `fanin` says what the end of a job means for batches, and `walk` what an operation keeps
of its way. The verbs stand on them: `enqueue`, `work`, `liveness`, `operators`, `deleting` and `reads`.
It is slow, lives in one process, and forgets everything with it.
"""

from piecework.testing.model.store import ModelStore

__all__ = ["ModelStore"]
