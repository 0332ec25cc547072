"""Whether one failed attempt is worth another, and after how long: the whole decision, without any I/O."""

import math
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import NamedTuple

# What these two answer was not carried out (RFC 9110 15.5.20, RFC 8470 5.2): any method may be sent again.
NOT_PROCESSED = frozenset({421, 425})


class Stop(StrEnum):
    """Why no further attempt is made."""

    ATTEMPTS = "attempts"
    BUDGET = "budget"
    DEADLINE = "deadline"
    RETRY_AFTER = "retry_after"
    NOT_REPEATABLE = "not_repeatable"
    NOT_REPLAYABLE = "not_replayable"
    VERDICT = "verdict"


class Outcome(NamedTuple):
    """How an attempt failed.

    Attributes:
        status: Status of the answer, or None where none arrived.
        error: Class name of the transport error, or "" where an answer arrived.
        nothing_sent: No byte of the request left.
        permanent: A transport error that cannot go away by itself.
        retry_after: Seconds that the answer asks for, or None.
        verdict: What the judge says: retry, do not, or None to leave it to the rules.
        judge: Who says so, in words: the server by a header, or the predicate.
        in_progress: A 409 that means that an earlier attempt with the same key is still being carried out.
    """

    status: int | None
    error: str = ""
    nothing_sent: bool = False
    permanent: bool = False
    retry_after: float | None = None
    verdict: bool | None = None
    judge: str = "the server"
    in_progress: bool = False

    def __str__(self) -> str:
        return self.error if self.status is None else str(self.status)


class Rules(NamedTuple):
    """What is retried.

    Attributes:
        attempts: Wire requests at most.
        statuses: Statuses retried as often as ``attempts`` allows.
        once: Statuses retried once.
        methods: Methods retried at all, or None for any.
        max_retry_after: Longest ``Retry-After`` in seconds that is waited for.
    """

    attempts: int
    statuses: Collection[int]
    once: Collection[int]
    methods: Collection[str] | None
    max_retry_after: float


class Decision(NamedTuple):
    """Another attempt after ``wait`` seconds, or none.

    Attributes:
        wait: Seconds until the next attempt, or None where there is none.
        stop: Why there is none, or None where the outcome is not of a kind that is retried.
        why: The reason in words.
        needed: Seconds that would have had to be waited, where that is why there is none.
    """

    wait: float | None
    stop: Stop | None
    why: str
    needed: float | None = None


def decide(
    rules: Rules,
    outcome: Outcome,
    *,
    method: str,
    attempt: int,
    repeatable: bool,
    replayable: bool,
    delay: float,
    remaining: float = math.inf,
    retried: int = 0,
) -> Decision:
    """Decide on the attempt after *outcome*.

    Args:
        rules: What is retried.
        outcome: How the attempt failed.
        method: Upper case.
        attempt: Its number, from 1.
        repeatable: Whether sending the request twice does no harm: an idempotent method, or a key.
        replayable: Whether the body can be sent again.
        delay: Seconds of backoff, jitter included; on top of a ``Retry-After``, which is never undercut.
        remaining: Seconds until the call's deadline.
        retried: How often this call was already sent again because of this status.
    """
    wanted, why = _wanted(rules, outcome, method)
    unknown = not (outcome.nothing_sent or repeatable or outcome.status in NOT_PROCESSED)
    if unknown and (wanted or (outcome.status is None and not outcome.permanent)):
        return Decision(None, Stop.NOT_REPEATABLE, f"{method} may have been carried out and has no idempotency key")
    if not wanted:
        return Decision(None, Stop.VERDICT if outcome.verdict is False else None, why)
    stop, limit = _limit(rules, outcome, attempt=attempt, replayable=replayable, retried=retried)
    if stop is not None:
        return Decision(None, stop, limit)
    wait = delay
    if outcome.retry_after is not None:
        wait += outcome.retry_after
        if outcome.retry_after > rules.max_retry_after:
            return Decision(
                None,
                Stop.RETRY_AFTER,
                f"the server asks for {outcome.retry_after:.3g} s; at most {rules.max_retry_after:.3g} s are waited",
                needed=outcome.retry_after,
            )
    if wait >= remaining:
        return Decision(
            None,
            Stop.DEADLINE,
            f"a wait of {wait:.3g} s does not fit into the {remaining:.3g} s that the call has left",
            needed=wait,
        )
    return Decision(wait, None, why)


def verdict_of(headers: Mapping[str, str], names: Collection[str]) -> bool | None:
    """Return what the server itself says about a retry: the first of the headers *names* that is true or false."""
    for name in names:
        text = headers.get(name)
        if text is not None:
            said = text.strip().lower()
            if said in {"true", "1"}:
                return True
            if said in {"false", "0"}:
                return False
    return None


def in_progress(*, resent: bool, retry_after: float | None, head: bytes) -> bool:
    """Return whether a 409 in answer to a request with a key means that the first of its kind still runs.

    Draft-ietf-httpapi-idempotency-key-header-07 section 2.6 has the server answer 409 then, and a plain conflict is
    409 too. It is taken for the former if this call was sent before, if it says when to come back, or by its words.
    """
    if resent or retry_after is not None:
        return True
    words = head[:4096].lower()
    return any(
        word in words for word in (b"idempoten", b"in progress", b"in_progress", b"being processed", b"outstanding")
    )


def _wanted(rules: Rules, outcome: Outcome, method: str) -> tuple[bool, str]:
    status = outcome.status
    if rules.methods is not None and method not in rules.methods:
        return False, f"{method} is not among the methods that are retried"
    if outcome.verdict is not None:
        return outcome.verdict, f"{outcome.judge} says {'to' if outcome.verdict else 'not to'} retry {outcome}"
    if status is None:
        passing = "does not go away by itself" if outcome.permanent else "is a passing failure of the network"
        return not outcome.permanent, f"{outcome.error} {passing}"
    if outcome.in_progress:
        return True, f"{status}: the request with this key is still being carried out"
    if status in rules.statuses or status in rules.once:
        return True, f"{status} is a temporary failure"
    return False, f"{status} is not among the statuses that are retried"


def _limit(rules: Rules, outcome: Outcome, *, attempt: int, replayable: bool, retried: int) -> tuple[Stop | None, str]:
    if attempt >= rules.attempts:
        return Stop.ATTEMPTS, f"{attempt} of {rules.attempts} attempts are used up"
    if outcome.status in rules.once and retried >= 1:
        return Stop.ATTEMPTS, f"{outcome.status} is retried once only"
    if not replayable:
        return Stop.NOT_REPLAYABLE, "the body can be read only once"
    return None, ""
