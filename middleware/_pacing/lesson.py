"""From what servers say to rates that can be counted by."""

import math
from typing import NamedTuple

from apiclient.middleware._parsing.quota import Quota

# Windows that people configure, in seconds: a reset seen in the middle of one tells which it is.
_USUAL = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400)
# Sources whose servers are known to count windows from the first request in them.
_FIXED = frozenset({"text", "aspnetcore"})


class Lesson(NamedTuple):
    """A limit that a server stated or that was concluded from its answers.

    Attributes:
        limit: Requests per period.
        period: Seconds.
        fixed: Whether its windows are known to begin with the first request in them.
        exact: Whether the server stated the period, rather than a time within it.
        remaining: Units left when it was stated, or None.
        reset: Seconds from then until the quota is renewed, or None.
        shared: Name of the bucket that several endpoints draw from, or None.
        counted: Whether no server stated it, and only this process's own requests were counted.
    """

    limit: int
    period: float
    fixed: bool = False
    exact: bool = True
    remaining: int | None = None
    reset: float | None = None
    shared: tuple[str | None, str] | None = None
    counted: bool = False


def lesson(quota: Quota) -> Lesson | None:
    """Return what *quota* teaches, or None where it leaves the limit or the period open."""
    limit, period, reset = quota.limit, quota.period, quota.reset
    exact = period is not None
    if period is None and limit is not None and reset:
        # A reset further away than a day is no hint but a mistake, or a quota that a refusal will tell of.
        period = next((float(usual) for usual in _USUAL if usual >= reset - 0.5), None)
    if limit is None or period is None or limit < 1 or not 0 < period < math.inf:
        return None
    if reset is not None:
        reset = min(reset, period)
    shared = None if quota.partition is None else (quota.name, quota.partition)
    return Lesson(limit, period, quota.source in _FIXED, exact, quota.remaining, reset, shared)
