"""When failures persist, and when they are over: the states of one alarm."""

import math
from enum import StrEnum
from typing import NamedTuple

from apiclient.middleware._rolling import Rolling

_SHORT_SLICES = 6


class Phase(StrEnum):
    """Where an alarm stands."""

    OK = "ok"
    DEGRADED = "degraded"
    ALERTING = "alerting"
    RESOLVED = "resolved"


_OK = Phase.OK  # Looked up on the class it costs a descriptor call in Python 3.11, and it is asked on every call.


class Cause(StrEnum):
    """What raised it."""

    RATIO = "ratio"
    CONSECUTIVE = "consecutive"
    BREAKER = "breaker"
    OUTBOX = "outbox"
    DEAD_LETTER = "dead_letter"


class Change(NamedTuple):
    """Something worth telling.

    Attributes:
        kind: ``degraded``, ``alerting``, ``reminder`` or ``resolved``.
        cause: What raised the alarm.
        failed: Calls that failed in the long window; since the alarm was raised where there are more.
        calls: Calls in the long window.
        since: Time of the first failure of this trouble.
    """

    kind: str
    cause: Cause
    failed: int
    calls: int
    since: float


class Thresholds(NamedTuple):
    """When an alarm is raised; see ``Alert``."""

    ratio: float = 0.5
    long: float = 300.0
    short: float = 30.0
    minimum: int = 20
    consecutive: int | None = 10
    breaker_open: float | None = 60.0
    outbox_age: float | None = 3600.0
    dead_letters: bool = True
    cooldown: float = 900.0
    recovery: int = 3


class Alarm:
    """Raised when failures persist, raised again after a cooldown, and resolved once.

    A ratio raises it only when it is passed over a long window, so that a blip does not, and over a short one, so that
    trouble that is over does not. It is resolved by as many successes in a row as ``recovery`` says, with a ratio
    over the short window below half the threshold.

    Attributes:
        phase: Where it stands.
        cause: What raised it last.
        changed: When the phase changed last.
        last: The last failure in words, and its trace id or None; the owner sets it.
    """

    __slots__ = (
        "_calls", "_dead", "_failed", "_first", "_oldest", "_open_since", "_run", "_since_raised", "_successes",
        "_thresholds", "_told", "cause", "changed", "last", "phase",
    )  # fmt: skip

    def __init__(self, thresholds: Thresholds) -> None:
        slices = _SHORT_SLICES * math.ceil(thresholds.long / thresholds.short)
        self._thresholds = thresholds
        self._calls = Rolling(thresholds.long, slices)
        self._failed = Rolling(thresholds.long, slices)
        self._run = 0
        self._successes = 0
        self._first = 0.0
        self._since_raised = 0
        self._open_since: float | None = None
        self._oldest = 0.0
        self._dead = 0
        self._told = -math.inf
        self.phase = Phase.OK
        self.cause = Cause.RATIO
        self.changed = -math.inf
        self.last: tuple[str, str | None] = ("", None)

    def __repr__(self) -> str:
        return f"<Alarm {self.phase.value}>"

    @property
    def busy(self) -> bool:
        """Whether forgetting it would lose the end of an alert."""
        return self.phase is Phase.ALERTING

    def success(self, now: float) -> Change | None:
        """Count a call that did not fail at *now*, and return what is worth telling."""
        self._calls.add(now)
        self._run = 0
        self._successes += 1
        self._open_since = None
        return None if self.phase is _OK else self._judge(now)

    def failure(self, now: float, *, refused: bool = False) -> Change | None:
        """Count a call that failed at *now*, and return what is worth telling.

        Args:
            now: Seconds.
            refused: It failed because a circuit is open, and not at the server.
        """
        if self._run == 0 and self.phase in {Phase.OK, Phase.RESOLVED}:
            self._first = now
        self._calls.add(now)
        self._failed.add(now)
        self._run += 1
        self._successes = 0
        self._since_raised += 1
        if not refused:
            self._open_since = None
        elif self._open_since is None:
            self._open_since = now
        return self._judge(now)

    def outbox(self, now: float, *, oldest: float, dead: int) -> Change | None:
        """Take note of the outbox: the age in seconds of its oldest item, and how many died."""
        self._oldest = oldest
        self._dead = dead
        return self._judge(now)

    def _judge(self, now: float) -> Change | None:
        cause = self._cause(now)
        if cause is not None and self.phase is not Phase.ALERTING:
            self.cause = cause
            self._since_raised = self._run
            if cause is Cause.OUTBOX or cause is Cause.DEAD_LETTER:
                self._first = now - self._oldest if cause is Cause.OUTBOX else now
            return self._move(Phase.ALERTING, now)
        if self.phase is Phase.ALERTING:
            if cause is None and self._over(now):
                return self._move(Phase.RESOLVED, now)
            if cause is not None and now - self._told >= self._thresholds.cooldown:
                self._told = now
                return self._change("reminder", now)
            return None
        if self._strained(now):
            return None if self.phase is Phase.DEGRADED else self._move(Phase.DEGRADED, now)
        if self.phase is Phase.DEGRADED or now - self.changed >= self._thresholds.short:
            self._move(Phase.OK, now)
        return None

    def _cause(self, now: float) -> Cause | None:
        limits = self._thresholds
        if limits.dead_letters and self._dead > 0:
            return Cause.DEAD_LETTER
        if limits.outbox_age is not None and self._oldest >= limits.outbox_age:
            return Cause.OUTBOX
        held = 0.0 if self._open_since is None else now - self._open_since
        if limits.breaker_open is not None and held >= limits.breaker_open:
            return Cause.BREAKER
        if limits.consecutive is not None and self._run >= limits.consecutive:
            return Cause.CONSECUTIVE
        calls = self._calls.sum(now)
        if calls >= limits.minimum and self._failed.sum(now) >= limits.ratio * calls and self._short(now, limits.ratio):
            return Cause.RATIO
        return None

    def _short(self, now: float, ratio: float) -> bool:
        failed = self._failed.tail(now, _SHORT_SLICES)
        return failed > 0 and failed >= ratio * self._calls.tail(now, _SHORT_SLICES)

    def _over(self, now: float) -> bool:
        if self.cause in {Cause.OUTBOX, Cause.DEAD_LETTER} and self._run == 0:
            return True
        return self._successes >= self._thresholds.recovery and not self._short(now, self._thresholds.ratio / 2)

    def _strained(self, now: float) -> bool:
        limits = self._thresholds
        if self._open_since is not None or (limits.consecutive is not None and self._run * 2 >= limits.consecutive):
            return True
        return self._calls.sum(now) >= limits.minimum and self._short(now, limits.ratio)

    def _move(self, phase: Phase, now: float) -> Change | None:
        self.phase = phase
        self.changed = now
        if phase is Phase.OK:
            return None
        self._told = now
        return self._change(phase.value, now)

    def _change(self, kind: str, now: float) -> Change:
        failed = max(round(self._failed.sum(now)), self._since_raised)
        return Change(kind, self.cause, failed, round(self._calls.sum(now)), self._first)
