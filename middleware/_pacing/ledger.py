"""What one key has sent, as its rates count it."""

import math
from collections import deque
from collections.abc import Iterable, MutableMapping
from operator import attrgetter
from typing import Any

from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._pacing.meter import Meter
from apiclient.middleware._pacing.ramp import RoundTrip
from apiclient.middleware._pacing.slot import SENT, Slot
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate

_REMEMBERED = 4096
_PAST = Slot()
# Round trips after which the shortest of them is believed to be the shortest there is.
_WELL_KNOWN = 16


class Ledger:
    """The meters of one key, and what they have to count: the part of a ``Pacer`` that decides nothing.

    Args:
        rates: Limits set by the user.
        lessons: Limits learned earlier.
        buckets: Meters of quotas that several keys draw from.
        origin: Whose names of buckets they are.

    Attributes:
        begun: When the first slot was granted.
        flights: Slots granted and not over, in order.
        meters: What is counted, one for each rate.
        passing: Units under way without a slot.
        recent: When the requests left that were accepted lately.
        trip: The round trips.
    """

    __slots__ = ("_buckets", "_origin", "begun", "flights", "meters", "passing", "recent", "trip")

    def __init__(
        self,
        rates: Iterable[Rate],
        lessons: Iterable[Lesson],
        buckets: MutableMapping[Any, Meter] | None,
        origin: str = "",
    ) -> None:
        self._buckets: MutableMapping[Any, Meter] = {} if buckets is None else buckets
        self._origin = origin
        self.begun = math.inf
        self.flights: dict[Slot, None] = {}
        self.passing = 0
        self.recent: deque[float] = deque(maxlen=_REMEMBERED)
        self.trip = RoundTrip()
        self.meters = [Meter(rate.limit, rate.per) for rate in rates]
        for each in lessons:
            if all(meter.period != each.period for meter in self.meters):
                self.meters.append(Meter(each.limit, each.period, learned=True, fixed=each.fixed, exact=each.exact))

    def holds(self, now: float) -> bool:
        """Return whether anything sent counts still at *now*."""
        if self.flights or self.passing:
            return True
        for meter in self.meters:
            meter.room(now, meter.limit)
        return any(meter.used for meter in self.meters)

    def passed(self, sent: float, over: float, cost: int, meters: Iterable[Meter]) -> None:
        """Note that a request of *cost* which left freely at *sent* was accepted by *over*.

        Args:
            sent: Seconds.
            over: Seconds.
            cost: Units.
            meters: Those that there were when it left; one found since has counted it already.
        """
        self.recent.append(sent)
        for meter in meters:
            meter.count(cost, over - self.trip.least)

    def lost(self, over: float, cost: int, meters: Iterable[Meter]) -> None:
        """Note that a request of *cost* which left freely was over by *over*, and nobody knows whether it counts."""
        for meter in meters:
            meter.count(cost, over)

    def late(self, meter: Meter, slot: Slot, took: float) -> float:
        """Return how much of a round trip may have passed before the server counted the request."""
        trip = self.trip
        late = max(0.0, took - trip.least)
        young = slot.granted <= self.begun + meter.period / 2
        if young or trip.count < _WELL_KNOWN:
            # A shorter round trip may be yet to come, so that this one was late by more than it seems.
            doubt = 0.25 * max(0.0, 1 - trip.count / (8 * _WELL_KNOWN if young else _WELL_KNOWN))
            return min(late + doubt * min(trip.least, took), max(meter.slack, 0.05 * meter.period), took)
        if meter.fixed and trip.excess > 0.01 * meter.period:
            # The first arrival opens the window for all; the first of many is hardly late.
            return min(late, meter.slack, 0.001 * meter.period + 2 * trip.excess / meter.limit)
        # Where answers are steady, a late one was late on its way; where they vary, the server was at work.
        return min(late, meter.slack if trip.excess > 0.01 * meter.period else max(meter.slack, 0.1 * meter.period))

    def completed(self, quota: Quota, sent: float) -> Quota:
        """Return *quota*, stated by the answer to what left at *sent*, with its limit where that can be known.

        Some servers tell what remains, but not of how much: what remains and what they let through is the limit.
        """
        if quota.limit is not None or quota.period is None or quota.remaining is None:
            return quota
        for meter in self.meters:
            if meter.period == quota.period:
                # What was stated, or concluded earlier, is more certain than a sum.
                return quota._replace(limit=meter.limit)
        if self.flights:
            return quota
        opened = sent - (quota.period if quota.reset is None else max(0.0, quota.period - quota.reset))
        return quota._replace(limit=quota.remaining + sum(1 for time in self.recent if time >= opened))

    def find(self, said: Lesson) -> Meter | None:
        """Return the meter that *said* is about, if it is counted already."""
        for meter in self.meters:
            if meter.period == said.period or (
                # A reset seen late in a window makes the period look shorter than it is.
                not said.exact and not meter.exact and meter.period > said.period and meter.limit == said.limit
            ):
                return meter
        return None

    def add(self, said: Lesson, now: float) -> Meter:
        """Count by *said* from *now* on as well, beginning with what has been sent already."""
        bucket = (self._origin, said.shared, said.period)
        meter = None if said.shared is None else self._buckets.get(bucket)
        if meter is None:
            meter = Meter(said.limit, said.period, learned=True, fixed=said.fixed, exact=said.exact)
            meter.counted = said.counted
            if said.shared is not None:
                meter.shared = True
                self._buckets[bucket] = meter
        # What was guessed gives way to what is known, and a shorter look at a window to a longer one.
        self.meters = [
            each
            for each in self.meters
            if each.exact or not each.learned or not (said.exact or each.limit == said.limit)
        ]
        for sent in self.recent:
            meter.used += 1
            meter.settle(_PAST, sent + min(self.trip.least, 0.05 * meter.period))
        for slot in sorted(self.flights, key=attrgetter("sent")):
            meter.used += slot.cost
            if slot.state == SENT:
                meter.sent(slot)
        if self.passing:
            meter.used += self.passing
            meter.settle(Slot(self.passing), now)
        self.meters.append(meter)
        return meter
