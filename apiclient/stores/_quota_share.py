"""What one process knows of a quota that a server counts for several."""

import asyncio
import math
from collections import deque

from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.quota_store import Learned

# Without the server a unit is held so much longer than a period.
SLACK = 0.05
MICRO = 1_000_000
# What may be leased ahead, in parts of a period.
_AHEAD = 0.1


class Share:
    """What this process knows of a quota.

    Attributes:
        generation: Of the server's memory.
        gate: Loop time of the end of a pause.
        over: Units to be reported: how many, since when they count (None: never used), and where they are held.
        log: What was used.
        rates: That it was asked for with last.
        workers: Processes that share it, as the server said; 0 before it did.
        alone_at: Loop time at which the server was missed last.
        alone: Whether that is so short a time ago that others may not be back yet.
        recovering: Whether the server lost its memory, and not everybody has told it yet.
        contact: Loop time of the server's last answer.
        scarce: Whether others wait for what is given back.
        spare: Units that may be leased ahead.
        heard: When its lessons last changed, as far as they were asked for.
        lessons: What the server should know, by period: what was told, and what was heard to be stated.
    """

    def __init__(self) -> None:
        self.generation = ""
        self.gate = -math.inf
        self.over: list[tuple[int, float | None, list[str]]] = []
        self.log = Log()
        self.rates: tuple[Rate, ...] = ()
        self.recovering = self.alone = False
        self.workers = 0
        self.alone_at = -math.inf
        self.heard = ""
        self.lessons: dict[float, Learned] = {}
        self.contact = -math.inf
        self.scarce = False
        self.spare = 0
        self._pace = 0.0
        self._asked_at = -math.inf
        self._got = 0
        self.timer: asyncio.TimerHandle | None = None
        self._leased: deque[_Grant] = deque(maxlen=4096)

    @property
    def busy(self) -> bool:
        # What was used may count still, should the server forget it. All else comes free there by itself.
        return self.log.counts(asyncio.get_running_loop().time())

    def resize(self, rates: tuple[Rate, ...]) -> None:
        self.rates = rates
        self.log.period = max(rate.per for rate in rates)

    def ahead(self, now: float, want: int) -> int:
        """Return how many units will be wanted soon, as far as there are plenty: one question then serves many."""
        since = now - self._asked_at
        self._pace = 0.5 * (self._pace + self._got / max(since, 0.001))
        self._asked_at, self._got = now, want
        return min(self.spare, int(_AHEAD * min(1.0, self.log.period) * self._pace))

    def granted(self, now: float, units: int, buckets: list[str], *, told: bool) -> None:
        self.log.add(now, units, told=told)
        self._got = units
        self._leased.append(_Grant(units, buckets))

    def landed(self, units: int, at: float | None) -> None:
        leased = self._leased
        while units > 0 and leased:
            first = leased[0]
            part = min(units, first.units)
            first.units -= part
            units -= part
            if first.buckets:
                self._report(part, at, first.buckets)
            if not first.units:
                leased.popleft()
        if units > 0 and at is not None and self.rates:
            # It left before there was a limit to lease by.
            self.log.add(at, units, told=False)

    def _report(self, units: int, at: float | None, buckets: list[str]) -> None:
        if self.over:
            last = self.over[-1]
            if last[2] is buckets and (last[1] is None) == (at is None):
                later = None if at is None or last[1] is None else max(at, last[1])
                self.over[-1] = (last[0] + units, later, buckets)
                return
        if len(self.over) < 4096:
            self.over.append((units, at, buckets))


class _Grant:
    """Units that were leased and not heard of since, and where the server holds them."""

    __slots__ = ("buckets", "units")

    def __init__(self, units: int, buckets: list[str]) -> None:
        self.units = units
        self.buckets = buckets


class Log:
    """Units by the time at which they were granted, as far back as may matter."""

    def __init__(self) -> None:
        self.period = 1.0
        self.reach = 1.0
        self._entries: deque[tuple[float, int]] = deque()
        self._untold: deque[tuple[float, int]] = deque()

    def add(self, now: float, units: int, *, told: bool) -> None:
        self._put(self._entries, now, units)
        if not told:
            self._put(self._untold, now, units)

    def _put(self, entries: deque[tuple[float, int]], now: float, units: int) -> None:
        # Together with others of about that time, as if all of them had been granted last.
        if len(entries) > 1 and now - entries[-2][0] < self.period / 64:
            units += entries.pop()[1]
        entries.append((now, units))
        while entries[0][0] < now - 2 * self.period * self.reach:
            entries.popleft()

    def counts(self, now: float) -> bool:
        """Return whether anything in it may matter still."""
        return bool(self._entries) and self._entries[-1][0] > now - 2 * self.period * self.reach

    def units(self, now: float, period: float | None = None) -> int:
        since = now - (self.period if period is None else period) * (1 + SLACK)
        return sum(units for at, units in self._entries if since < at <= now)

    def next(self, now: float, period: float, most: int) -> float:
        """Return the seconds until fewer than *most* units are in the last *period*."""
        span = period * (1 + SLACK)
        left = self.units(now, period)
        for at, units in self._entries:
            if left < most:
                return 0.0
            if at > now - span:
                left -= units
                if left < most:
                    return max(0.0, at + span - now)
        return 0.0

    def shown(self, now: float, *, whole: bool) -> list[list[int]]:
        """Return units and ages of what the server does not know, or of everything."""
        return [[units, int((now - at) * MICRO)] for at, units in (self._entries if whole else self._untold)]

    def told(self) -> None:
        self._untold.clear()
