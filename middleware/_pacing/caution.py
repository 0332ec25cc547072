"""What refusals tell about how a server counts, and how carefully to go because of it."""

import math
from collections.abc import Collection, Sequence

from apiclient.middleware._pacing.meter import Meter
from apiclient.middleware._pacing.ramp import Pace, Ramp, RoundTrip
from apiclient.middleware._pacing.slot import Slot

_LONGEST_PATIENCE = 400
_WIDE = 64


class Refusal:
    """A burst of rejections, judged together once everything that left with it is answered.

    Attributes:
        first: When the first of them left.
        last: When the last of them left.
        retry_after: Seconds that the server asked for, or None.
    """

    __slots__ = ("first", "last", "retry_after")

    def __init__(self, sent: float, retry_after: float | None) -> None:
        self.first = self.last = sent
        self.retry_after = retry_after

    def note(self, sent: float) -> None:
        """Add one that left at *sent*."""
        self.first = min(self.first, sent)
        self.last = max(self.last, sent)


class Caution:
    """Rounds, an even pace and wider margins, as the server's refusals call for them.

    A server that refuses the head of a burst has a longer window than was thought: margins grow, and one
    request goes ahead alone. One that refuses the tail takes fewer at once: an even pace after a smaller burst.
    Both ease again while nothing is refused, less and less readily where that proved wrong before.

    Args:
        ramp: Rounds to begin with, or None.

    Attributes:
        pace: The even pace, or None.
        calm: Whether there is nothing to be careful about.
        row: Refusals since the last acceptance.
    """

    __slots__ = (
        "_clean", "_earlies", "_early_at", "_floor", "_level", "_opened", "_patience", "_quiet", "_ramp", "_trust",
        "_worst", "calm", "pace", "row",
    )  # fmt: skip

    def __init__(self, ramp: Ramp | None = None) -> None:
        self.pace: Pace | None = None
        self.row = 0
        self.calm = ramp is None
        self._ramp = ramp
        self._floor = 0.0
        self._level = 0
        self._trust = 0
        self._clean = 0
        self._quiet = 0
        self._patience = 12
        self._worst = 0.0
        self._earlies = 0
        self._early_at = -math.inf
        self._opened = math.inf

    def __repr__(self) -> str:
        return f"Caution({self._ramp}, {self.pace})"

    @property
    def wide(self) -> bool:
        """Whether rounds are so large by now that each single answer matters little."""
        return self._ramp is None or self._ramp.proven >= _WIDE

    @property
    def free(self) -> float:
        """How many may be under way at once that need not be counted: few beside what has been proven."""
        ramp = self._ramp
        if ramp is None:
            return 0 if self.pace is not None else math.inf
        return ramp.proven // 16 if ramp.proven >= _WIDE else 0

    def room(self, now: float, trip: RoundTrip, flights: int) -> float:
        """Return *now* if one more may leave, else when to look again."""
        if self.pace is not None and (when := self.pace.room(now)) > now:
            return when
        return now if self._ramp is None else self._ramp.room(now, trip.patience, flights)

    def take(self, slot: Slot, now: float) -> None:
        """Note that *slot* was granted."""
        if self.pace is not None:
            self.pace.take(now, slot.cost)
        if self._ramp is not None and self._ramp.take(now):
            slot.ramp = self._ramp

    def landed(self, slot: Slot, meters: Sequence[Meter], trip: RoundTrip) -> None:
        """Note that *slot* is over."""
        ramp, slot.ramp = slot.ramp, None
        if ramp is None:
            return
        ramp.back(sent=slot.sent != math.inf)
        if ramp is self._ramp and ramp.over:
            self._trust += 1
            self._ramp = None
            self.calm = self.pace is None
            if self._trust < 2:
                self.begin(meters, trip, self._trust)

    def begin(self, meters: Sequence[Meter], trip: RoundTrip, trust: int = 0, alone: float | None = None) -> None:
        """Open the next window in rounds, so that a server of another kind refuses few.

        Args:
            meters: At least one.
            trip: The round trips so far.
            trust: How many windows have been opened so without a refusal: 0 or 1.
            alone: Most seconds to wait for the answer to the first request before the others go.
        """
        period = min(meter.period for meter in meters)
        limit = min(meter.limit for meter in meters)
        self._trust = trust
        if alone is None:
            stated = all(meter.learned and not meter.fixed for meter in meters)
            alone = (0.01 if stated or not trust else 0.05) * period
            if alone < trip.least < math.inf:
                # Waiting for answers would cost more than the refusals that it may save.
                self._trust, self._ramp = 2, None
                self.calm = self.pace is None
                return
        budget = 0.0 if 0.01 * period < trip.least < math.inf else 0.01 * period
        self._ramp = Ramp(budget=budget, alone=alone, until=limit)
        self.calm = False

    def refused(self) -> None:
        """Note a refusal."""
        self.row += 1
        self._clean = self._quiet = 0

    def accepted(self, sent: float, meters: Sequence[Meter]) -> bool:
        """Note that a request which left at *sent* was accepted; return whether five whole quotas were, in a row."""
        if self.row:
            if self.row + self._earlies > 2 and self._opened < math.inf:
                # The window's true length shows where one passes that followed refusals closely.
                beyond = sent - self._opened - meters[0].period
                if meters[0].margin < beyond <= 0.3 * meters[0].period:
                    meters[0].margin = self._worst = beyond
            self.row = 0
            self._opened = math.inf
        self._clean += 1
        if not meters or self._clean < 5 * meters[0].limit:
            return False
        self._clean = 0
        self._quiet += 1
        self._relax(meters)
        return True

    def judge(self, refusal: Refusal, recent: Collection[float], meters: Sequence[Meter], trip: RoundTrip) -> None:
        """Conclude from *refusal* what kind of server it is.

        Args:
            refusal: The burst.
            recent: When the requests left that were accepted lately.
            meters: At least one; what the limits are thought to be.
            trip: The round trips so far.
        """
        meter = max(meters, key=lambda each: each.used / each.limit)
        before = [sent for sent in recent if refusal.first - 1.25 * meter.period < sent < refusal.first]
        beside = [sent for sent in recent if refusal.first <= sent <= refusal.last]
        meter.fixed = meter.fixed and not beside
        if self.pace is None and len(before) >= meter.limit:
            self._earlies = self._earlies + 1 if refusal.first - self._early_at < 2.5 * meter.period else 1
            self._early_at = refusal.first
            # Where a longer wait does not help, or a try costs a whole period, the server does not count windows.
            if self._earlies < (3 if refusal.retry_after is None else 2):
                self._early(meter, before[-meter.limit])
                self.begin(meters, trip, alone=0.25 * meter.period)
                return
            self._level = 2
        burst = len(beside) + sum(1 for sent in before if sent > refusal.first - meter.period)
        self._slow_down(meter, burst, trip, cheap=refusal.retry_after is None)

    def _early(self, meter: Meter, opened: float) -> None:
        meter.margin = min(2 * meter.margin, 0.25 * meter.period)
        meter.slack = min(2 * meter.slack, meter.period)
        self._worst = meter.margin
        self._opened = min(self._opened, opened)

    def _slow_down(self, meter: Meter, burst: int, trip: RoundTrip, *, cheap: bool) -> None:
        self._level += 1
        even = meter.period / meter.limit
        jitter = min(2 * trip.excess, 0.05 * even)
        if self._level == 1 and burst > 1:
            self.pace = Pace(burst - 1 if burst > 2 else burst, even * 1.002)
        elif self._level <= 2:
            self._level = 2
            self.pace = Pace(1, even * 1.01 + jitter)
        elif self._level == 3 and not cheap and meter.limit > 1:
            # What a weighted counter takes in the long run.
            self.pace = Pace(1, even * 1.002 * meter.limit / (meter.limit - 1) + jitter)
        else:
            interval = even if self.pace is None else self.pace.interval
            self.pace = Pace(1, min(interval * (1.03 if cheap else 1.1), 4 * even))
        self.calm = False
        if self._level <= 3:
            self._floor = self.pace.interval

    def _relax(self, meters: Sequence[Meter]) -> None:
        for meter in meters:
            bottom = meter.floor if self._quiet > self._patience else max(meter.floor, self._worst)
            meter.margin = max(bottom, meter.margin * 0.85)
            meter.slack = max(0.02 * meter.period, meter.slack * 0.85)
        if self.pace is None:
            return
        self.pace.interval = max(self._floor, self.pace.interval * 0.97)
        if self._quiet > self._patience:
            # Each time that this proves wrong, it is tried less often.
            self._quiet, self._patience = 0, min(2 * self._patience, _LONGEST_PATIENCE)
            self._level, self.pace = 0, None
            self.calm = self._ramp is None
