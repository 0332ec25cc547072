"""The states of one circuit: closed, open, half-open, or held by hand."""

import math
from enum import Enum, StrEnum

from apiclient.middleware._rolling import Rolling


class State(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


class Verdict(Enum):
    """What one attempt says about the origin."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


# Members looked up on the class cost a descriptor call each in Python 3.11, and these are asked on every request.
_FORCED = {"open": State.FORCED_OPEN, "closed": State.FORCED_CLOSED}
_CLOSED, _FORCED_CLOSED = State.CLOSED, State.FORCED_CLOSED
# With a hint of another process this part of the minimum is enough, in so many slices of the window.
_HINTED, _LATELY = 0.25, 2


class Breaker:
    """Opens when too many attempts in a window failed, and closes again when probes succeed.

    Each attempt asks ``enter`` and, if it gets a ticket, says how it ended with ``leave``, whatever happened. A ticket
    of an earlier state no longer counts, except that a late ``Retry-After`` prolongs an open circuit.

    Args:
        failure_ratio: Share of failures from which it opens, above 0 and up to 1.
        window: Seconds over which attempts are counted.
        minimum: Fewest attempts in the window before a ratio means anything.
        cooldown: Seconds open before the first probe.
        growth: Factor on the cooldown for each time in a row that it opens again.
        max_cooldown: Greatest cooldown in seconds.
        probes: Probes under way at once while half-open, and successes among them that close it.
        slow_ratio: Share of slow attempts from which it opens, or None.
        max_retry_after: Longest ``Retry-After`` in seconds that prolongs an open circuit.

    Attributes:
        state: Where it stands.
        changed: When that changed last, in seconds.
        reason: Why, in words.
        generation: The ticket of attempts made in this state.
        on_hint: Whether it opened last on less evidence of its own, because of a hint.
    """

    __slots__ = (
        "_attempts", "_cooldown", "_failure_ratio", "_failures", "_growth", "_max_cooldown",
        "_max_retry_after", "_minimum", "_probes", "_probing", "_slow", "_slow_ratio", "_streak", "_succeeded",
        "_until", "_window", "changed", "generation", "on_hint", "reason", "state",
    )  # fmt: skip

    def __init__(
        self,
        *,
        failure_ratio: float = 0.5,
        window: float = 30.0,
        minimum: int = 20,
        cooldown: float = 5.0,
        growth: float = 2.0,
        max_cooldown: float = 30.0,
        probes: int = 2,
        slow_ratio: float | None = None,
        max_retry_after: float = 3600.0,
    ) -> None:
        self._failure_ratio = failure_ratio
        self._window = window
        self._minimum = minimum
        self._cooldown = cooldown
        self._growth = growth
        self._max_cooldown = max_cooldown
        self._probes = probes
        self._slow_ratio = slow_ratio
        self._max_retry_after = max_retry_after
        self._attempts = Rolling(window)
        self._failures = Rolling(window)
        self._slow = Rolling(window)
        self.generation = 0
        self._probing = 0
        self._succeeded = 0
        self._streak = 0
        self._until = 0.0
        self.state = State.CLOSED
        self.changed = -math.inf
        self.reason = ""
        self.on_hint = False

    def __repr__(self) -> str:
        return f"<Breaker {self.state.value}>"

    @property
    def busy(self) -> bool:
        """Whether forgetting it would lose something: it is not simply closed."""
        return self.state is not State.CLOSED

    @property
    def probing(self) -> int:
        """Probes under way."""
        return self._probing

    def enter(self, now: float) -> int | None:
        """Return a ticket for one attempt at *now*, or None where none may be made."""
        state = self.state
        if state is _CLOSED or state is _FORCED_CLOSED:
            return self.generation
        if state is State.OPEN and now >= self._until:
            self.reason = "the cooldown is over"
            self._move(State.HALF_OPEN, now)
        if self.state is State.HALF_OPEN and self._probing + self._succeeded < self._probes:
            self._probing += 1
            return self.generation
        return None

    def succeeded(self, ticket: int, now: float) -> None:
        """Say that the attempt with *ticket*, made while closed, succeeded: ``leave`` for what happens most."""
        if ticket == self.generation:
            self._attempts.add(now)

    def leave(
        self,
        ticket: int,
        verdict: Verdict,
        now: float,
        *,
        slow: bool = False,
        retry_after: float | None = None,
        hinted: bool = False,
    ) -> None:
        """Say how the attempt that got *ticket* ended.

        Args:
            ticket: From ``enter``.
            verdict: What the attempt says about the origin.
            now: Seconds.
            slow: Whether it took too long.
            retry_after: Seconds for which the origin asks to be left alone.
            hinted: Whether another process has found the origin down: then a quarter of the minimum is enough
                (two at least), if none of the attempts in the last fifth of the window succeeded.
        """
        if ticket != self.generation:
            if self.state is State.OPEN and verdict is Verdict.FAILURE and retry_after is not None:
                self._until = max(self._until, now + min(retry_after, self._max_retry_after))
        elif self.state is State.HALF_OPEN:
            self._probed(verdict, now, slow=slow, retry_after=retry_after)
        elif verdict is not Verdict.IGNORED:
            self._attempts.add(now)
            if slow:
                self._slow.add(now)
            if verdict is Verdict.FAILURE:
                self._failures.add(now)
            if (slow or verdict is Verdict.FAILURE) and self.state is State.CLOSED:
                tripped = self._tripped(now)
                if tripped or (hinted and self._confirmed(now)):
                    self._open(now, retry_after, on_hint=not tripped)

    def retry_after(self, now: float) -> float | None:
        """Return the seconds until an attempt may be made: None while held open by hand, 0 where one may."""
        if self.state is State.FORCED_OPEN:
            return None
        if self.state is State.OPEN:
            return max(0.0, self._until - now)
        if self.state is State.HALF_OPEN and self._probing + self._succeeded >= self._probes:
            return min(1.0, self._cooldown)  # Nobody knows when the probes return.
        return 0.0

    def counts(self, now: float) -> tuple[int, int, int]:
        """Return the attempts, the failures and the slow attempts in the window."""
        return round(self._attempts.sum(now)), round(self._failures.sum(now)), round(self._slow.sum(now))

    def force(self, state: str | None, now: float) -> None:
        """Hold it ``"open"`` or ``"closed"`` by hand, or with None let it go, closed."""
        self.reason = "by hand"
        if state is None:
            self._streak = 0
            self._move(State.CLOSED, now)
        elif state in _FORCED:
            self._move(_FORCED[state], now)
        else:
            raise ValueError(f"state must be 'open', 'closed' or None, got {state!r}")

    def _probed(self, verdict: Verdict, now: float, *, slow: bool, retry_after: float | None) -> None:
        self._probing -= 1
        if verdict is Verdict.FAILURE or (verdict is Verdict.SUCCESS and slow and self._slow_ratio is not None):
            self._open(now, retry_after)
        elif verdict is Verdict.SUCCESS:
            self._succeeded += 1
            if self._succeeded >= self._probes:
                self.reason = "the probes succeeded"
                self._move(State.CLOSED, now)

    def _tripped(self, now: float) -> bool:
        attempts = self._attempts.sum(now)
        if attempts < self._minimum:
            return False
        if self._failures.sum(now) >= self._failure_ratio * attempts:
            return True
        return self._slow_ratio is not None and self._slow.sum(now) >= self._slow_ratio * attempts

    def _confirmed(self, now: float) -> bool:
        attempts = self._attempts.tail(now, _LATELY)
        return attempts >= max(2.0, _HINTED * self._minimum) and self._failures.tail(now, _LATELY) >= attempts

    def _open(self, now: float, retry_after: float | None, *, on_hint: bool = False) -> None:
        # Closed for a whole window since the last time: what fails now is a new trouble, not the same.
        if self.state is State.CLOSED and now - self.changed > self._window:
            self._streak = 0
        # The exponent is bounded: growth ** streak would overflow after a thousand failed probes.
        cooldown = min(self._cooldown * self._growth ** min(self._streak, 64), self._max_cooldown)
        asked = 0.0 if retry_after is None else min(retry_after, self._max_retry_after)
        self._until = now + max(cooldown, asked)
        self._streak += 1
        self.on_hint = on_hint
        if self.state is State.HALF_OPEN:
            self.reason = "a probe failed"
        elif on_hint:
            lately = round(self._failures.tail(now, _LATELY))
            self.reason = f"all of the last {lately} attempts failed, as another process has hinted"
        else:
            attempts, failures, slow = self.counts(now)
            self.reason = f"of {attempts} attempts {failures} failed and {slow} were slow"
        self._move(State.OPEN, now)

    def _move(self, state: State, now: float) -> None:
        self.state = state
        self.changed = now
        self.generation += 1
        self._probing = 0
        self._succeeded = 0
        if state is State.CLOSED or state is State.FORCED_CLOSED:
            self._attempts.clear()
            self._failures.clear()
            self._slow.clear()
