"""What a job is told, and what it tells."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run, and how.

    Attributes:
        source: Path of the input, ``-`` for standard input.
        output: Path of the results, ``-`` for standard output, which cannot be resumed.
        target: Names the API, for the header: a base URL or ``module:attribute``.
        concurrency: Calls under way at once.
        resume: Go on with the output that is there.
        retry_failed: Try failures again.
        force: Resume although input or configuration differ.
        keep_order: Write the results in the order of the input.
        shard: ``(i, n)``: only the i-th of n parts, from 1.
        max_failures: See ``Limits``.
        fail_rate: See ``Limits``.
        keys: Give each POST and PATCH without a key one of its own, the same in every resumption.
        canary: Send the first request alone.
        grace: Seconds that calls under way get to end in after an interruption.
    """

    source: str
    output: str
    target: str = ""
    concurrency: int = 100
    resume: bool = False
    retry_failed: bool = False
    force: bool = False
    keep_order: bool = False
    shard: tuple[int, int] | None = None
    max_failures: int | None = None
    fail_rate: float | None = None
    keys: bool = True
    canary: bool = True
    grace: float = 25.0


class Progress(NamedTuple):
    """How far a job is.

    Attributes:
        done: Requests with a result, those of earlier runs included.
        total: Requests in all, or None where that is unknown.
        ok: Successes.
        failed: Failures.
        again: Wire requests beyond the first of a call.
        now: Results per second lately.
        average: Results per second on average.
        p50: Median of the calls' durations in seconds.
        p95: What 95 % of them do not exceed.
        running: Calls under way.
        held: Requests that wait for a quota.
        breaker: Circuits that are not closed, in words, or empty.
        eta: Seconds to go, or None where unknown.
    """

    done: int
    total: int | None
    ok: int
    failed: int
    again: int
    now: float
    average: float
    p50: float
    p95: float
    running: int
    held: int
    breaker: str
    eta: float | None
