"""One rate, counted so that no sliding window at the server ever holds more than its limit."""

import heapq
import math
from collections import deque

from apiclient.middleware._pacing.slot import SENT, Slot

_FINE = 4096
# A limit below this is used with care from the first request on.
_MANY = 100


class Meter:
    """At most *limit* units in any *period*, judged by when the server can have counted them.

    A slot is held from its grant until its bytes left, and from then until one period after the latest
    time at which it can have arrived: sending time plus its lateness, the part of its round trip beyond the
    shortest seen. Lateness beyond *slack* is taken for work of the server after it counted.

    Args:
        limit: Units per period, at least 1.
        period: Seconds.

    Attributes:
        margin: Seconds kept beyond the period, against clock drift and jitter.
        slack: Most seconds of lateness that are charged.
        ample: Units that may be held while single ones need not be followed.
        used: Units held now.
        learned: Whether a server said so, rather than the user.
        fixed: Whether the server is known to count windows from the first request in them.
        exact: Whether the period is known, rather than guessed.
        counted: Whether no server stated the limit: only the requests of this process were counted.
        shared: Whether other keys draw from it as well.
    """

    __slots__ = (
        "__weakref__", "_coarse", "_costs", "_expired", "_flying", "_grain", "_times", "ample", "counted", "exact",
        "fixed", "floor", "learned", "limit", "margin", "period", "shared", "slack", "used",
    )  # fmt: skip

    def __init__(
        self, limit: int, period: float, *, learned: bool = False, fixed: bool = False, exact: bool = True
    ) -> None:
        self.used = 0
        self.exact = exact
        self.counted = False
        self.shared = False
        self.fixed = fixed
        self.learned = learned
        self._costs: dict[float, int] = {}
        self._times: list[float] = []
        self._flying: deque[Slot] = deque()
        self._expired = -math.inf
        self.limit = limit
        self.period = period
        self.tune(limit, period)

    def __repr__(self) -> str:
        return f"Meter({self.limit}/{self.period:g}s, used={self.used}, margin={self.margin:.4g})"

    def tune(self, limit: int, period: float) -> None:
        """Go by another rate from now on; what is held stays held."""
        self.limit = limit
        self.period = period
        self.floor = min(max(0.0005, 0.002 * period), 1.0)
        self.margin = self.floor
        self.slack = 0.02 * period
        # Beyond a few thousand slots, times are rounded up to a thousandth of the period and counted together.
        self._grain = 0.0 if limit <= _FINE else period / 1024
        self._coarse = period / 256
        self.ample = limit // 2 if limit >= _MANY else 0

    def room(self, now: float, cost: int) -> float:
        """Return *now* if *cost* units are free, else when to look again: infinite before a slot is sent or over."""
        if self.used + cost <= self.limit:
            return now
        span = self.period + self.margin
        times, flying = self._times, self._flying
        while times and times[0] + span <= now:
            self.used -= self._costs.pop(heapq.heappop(times))
        while flying:
            slot = flying[0]
            if slot.state == SENT:
                if slot.sent + self.slack + span > now:
                    break
                self.used -= slot.cost
                self._expired = slot.sent
            flying.popleft()
        if self.used + cost <= self.limit:
            return now
        first = times[0] + span if times else math.inf
        return min(first, flying[0].sent + self.slack + span) if flying else first

    def sent(self, slot: Slot) -> None:
        """Note that the bytes of *slot* left; in the order of time."""
        flying = self._flying
        # A limit that is never reached is never looked at in ``room``: what is over goes here.
        while flying and flying[0].state != SENT:
            flying.popleft()
        flying.append(slot)

    def settle(self, slot: Slot, anchor: float) -> None:
        """Let *slot*, which is over, free its place one period after *anchor*."""
        if slot.sent <= self._expired:
            return
        times, costs = self._times, self._costs
        # Certainly past, whatever lateness was charged. Two go for one that comes: what is kept follows the load.
        gone = min(slot.sent, anchor) - self.slack - self.period - self.margin
        for _ in range(2):
            if times and times[0] <= gone:
                self.used -= costs.pop(heapq.heappop(times))
        if self._grain:
            anchor = math.ceil(anchor / self._grain) * self._grain
        if anchor in costs:
            costs[anchor] += slot.cost
        else:
            costs[anchor] = slot.cost
            heapq.heappush(times, anchor)

    def count(self, units: int, anchor: float) -> None:
        """Hold *units* until one period after *anchor*, and somewhat longer: there is ample room."""
        times, costs = self._times, self._costs
        if times and times[0] <= anchor - self.period - self.margin:
            self.used -= costs.pop(heapq.heappop(times))
        anchor = math.ceil(anchor / self._coarse) * self._coarse
        self.used += units
        if anchor in costs:
            costs[anchor] += units
        else:
            costs[anchor] = units
            heapq.heappush(times, anchor)

    def free(self, slot: Slot) -> None:
        """Give the place of *slot* back at once: the server never counted it."""
        if slot.sent > self._expired:
            self.used -= slot.cost

    def share(self, units: int, until: float) -> None:
        """Hold *units* that others have used, until their quota is renewed; below one there is nothing to hold."""
        if units > 0:
            self.used += units
            self.settle(Slot(units), until - self.period - self.margin)

    def eta(self, now: float, cost: int) -> float:
        """Return a lower bound of the seconds until *cost* more units can have been granted."""
        self.room(now, self.limit)
        short = self.used + cost - self.limit
        if short <= 0:
            return 0.0
        span = self.period + self.margin
        first = min(
            self._times[0] + span if self._times else math.inf,
            self._flying[0].sent + span if self._flying else math.inf,
            now + span,
        )
        return max(0.0, first - now) + (short - 1) // self.limit * span
