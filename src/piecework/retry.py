"""Retry policies: stored as data, decided by a pure function; the random draw for jitter is handed in."""

from __future__ import annotations

import math

import msgspec

from piecework.errors import BadOption


class RetryPolicy(msgspec.Struct, frozen=True):
    """How long a failed attempt waits before the next one.

    `first` seconds after the first failure, `factor` times more after each further one, never above `ceiling`.
    `jitter` is the share of the delay that is drawn at random (0.25: between 75 % and 100 % of it), so that jobs
    that failed together do not come back together.
    """

    first: float = 5.0
    factor: float = 2.0
    ceiling: float = 3600.0
    jitter: float = 0.25

    def delay(self, attempt: int, draw: float) -> float:
        """Seconds to wait after the `attempt`th failed attempt (1, 2, …); `draw` is a random number in [0, 1)."""
        if self.first == 0:
            return 0.0
        try:
            bounded = min(self.first * self.factor ** (attempt - 1), self.ceiling)
        except OverflowError:
            bounded = self.ceiling
        return bounded * (1.0 - self.jitter * draw)


def exponential(
    first: float = 5.0, *, factor: float = 2.0, ceiling: float = 3600.0, jitter: float = 0.25
) -> RetryPolicy:
    """Wait `first` seconds, then `factor` times longer each time, up to `ceiling` seconds.

    `jitter` is the share of each wait that chance may take off, so that what failed together does not come back
    together.
    Raises `BadOption`.

    Example: ``@app.task(attempts=7, retry=exponential(60))`` waits about 1, 2, 4, 8, 16 and 32 minutes.
    """
    return check_policy(RetryPolicy(first, factor, ceiling, jitter))


def fixed(seconds: float, *, jitter: float = 0.0) -> RetryPolicy:
    """Wait the same number of seconds after every failure; `jitter` is the share of it that chance may take off.

    Raises `BadOption`.

    Example: ``@app.task(attempts=3, retry=fixed(60))``
    """
    return check_policy(RetryPolicy(seconds, 1.0, seconds, jitter))


def check_policy(policy: RetryPolicy) -> RetryPolicy:
    """The policy, if it can be one; else `BadOption`."""
    for name in ("first", "ceiling"):
        value = getattr(policy, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise BadOption(f"retry: {name} must be a number of seconds, 0 or more, not {value!r}")
    if (
        isinstance(policy.factor, bool)
        or not isinstance(policy.factor, int | float)
        or not 1 <= policy.factor < math.inf
    ):
        raise BadOption(f"retry: factor must be a number, 1 or more, not {policy.factor!r}")
    if isinstance(policy.jitter, bool) or not isinstance(policy.jitter, int | float) or not 0 <= policy.jitter <= 1:
        raise BadOption(f"retry: jitter must be a share between 0 and 1, not {policy.jitter!r}")
    return policy


DEFAULT_RETRY = RetryPolicy()
DEFAULT_ATTEMPTS = 10
