"""When may the next request of one key leave? Plain arithmetic: ``now`` is given, nobody waits here."""

import math
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from operator import attrgetter

from apiclient.middleware._pacer_meter import Meter
from apiclient.middleware._pacer_ramp import Pace, Ramp, RoundTrip
from apiclient.middleware._pacer_slot import Queue, Slot, State
from apiclient.middleware._quota import Quota
from apiclient.middleware._rate import Rate

_REMEMBERED = 4096
_PAST = Slot()
# Where a refusal says neither for how long nor by which limit.
_GUESSED_PERIOD = 1.0


class Mode(StrEnum):
    """What is known about the server."""

    PROBE = "probe"
    WINDOW = "window"
    LOG = "log"
    SHAPED = "shaped"


class Refusal:
    """A burst of rejections, judged together once everything that left with it is answered."""

    __slots__ = ("count", "first", "last", "retry_after")

    def __init__(self, sent: float, retry_after: float | None) -> None:
        self.first = self.last = sent
        self.retry_after = retry_after
        self.count = 0

    def note(self, sent: float) -> None:
        """Add one that left at *sent*."""
        self.first = min(self.first, sent)
        self.last = max(self.last, sent)
        self.count += 1


class Pacer:
    """The quota of one key: who may leave now, who waits, and what the answers teach.

    Args:
        rates: Limits known beforehand; all of them hold.
        learn: Whether answers may teach limits.
        first: Size of the first round where nothing is known.

    Attributes:
        gate: Time before which nothing leaves, after a rejection.
        queue: Those who wait.
        flights: Slots granted and not over, in order.
        meters: What is counted, one for each rate.
        trip: The round trips.
    """

    __slots__ = (
        "_begun", "_clean", "_earlies", "_early_at", "_epoch", "_level", "_opened", "_patience", "_quiet", "_ramp", "_recent",
        "_refusal", "_row", "_shape", "_trust", "_worst", "flights", "gate", "learn", "meters", "queue", "trip",
    )  # fmt: skip

    def __init__(self, rates: Iterable[Rate] = (), *, learn: bool = True, first: int = 1) -> None:
        self.learn = learn
        self.gate = -math.inf
        self.queue = Queue()
        self.flights: dict[Slot, None] = {}
        self.trip = RoundTrip()
        self.meters = [Meter(rate.limit, rate.per) for rate in rates]
        self._begun = math.inf
        self._epoch = 0
        self._shape: Pace | None = None
        self._level = 0
        self._trust = 0
        self._clean = 0
        self._quiet = 0
        self._patience = 12
        self._worst = 0.0
        self._row = 0
        self._earlies = 0
        self._early_at = -math.inf
        self._opened = math.inf
        self._refusal: Refusal | None = None
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)
        self._ramp: Ramp | None = None
        if self.meters:
            self._careful()
        elif learn:
            self._ramp = Ramp(first, search=True)

    def __repr__(self) -> str:
        return f"<Pacer {self.mode} {self.meters} waiting={len(self.queue)} flights={len(self.flights)}>"

    @property
    def mode(self) -> Mode:
        """What is known about the server."""
        if self._shape is not None:
            return Mode.SHAPED
        if not self.meters:
            return Mode.PROBE
        return Mode.WINDOW if all(meter.fixed for meter in self.meters) else Mode.LOG

    def busy(self, now: float) -> bool:
        """Return whether forgetting it at *now* would let requests through that the quota has no room for."""
        if self.flights or self.queue or self.gate > now:
            return True
        for meter in self.meters:
            meter.room(now, meter.limit)
        return any(meter.used for meter in self.meters)

    # Asking for a slot

    def take(self, now: float, cost: int = 1) -> Slot | None:
        """Return a slot if one is free for a newcomer at *now*, else None: then ``join``."""
        if self.queue or self._room(now, cost) > now:
            return None
        slot = Slot(cost)
        slot.joined = now
        self._grant(slot, now)
        return slot

    def join(self, slot: Slot, now: float) -> None:
        """Let *slot* wait for its turn."""
        slot.joined = now
        self.queue.push(slot)

    def again(self, slot: Slot) -> Slot:
        """Return a new slot that waits in place of the rejected *slot*, before everybody else."""
        fresh = Slot(slot.cost, slot.priority, slot.deadline)
        fresh.joined, fresh.order, fresh.refusals = slot.joined, slot.order, slot.refusals
        self.queue.push_again(fresh)
        return fresh

    def due(self, now: float, most: int = 1024) -> list[Slot]:
        """Grant what can be granted at *now*, in order, and return it; at most *most* slots."""
        granted: list[Slot] = []
        while len(granted) < most:
            slot = self.queue.head()
            if slot is None or self._room(now, slot.cost) > now:
                break
            self.queue.pop()
            self._grant(slot, now)
            granted.append(slot)
        return granted

    def wake(self, now: float) -> float | None:
        """Return when to call ``due`` again, or None: nobody waits, or an answer must come first."""
        slot = self.queue.head()
        if slot is None:
            return None
        when = self._room(now, slot.cost)
        return None if when == math.inf else when

    def halt(self, until: float) -> None:
        """Let nothing leave before *until*."""
        self.gate = max(self.gate, until)

    def eta(self, now: float, cost: int = 1, priority: int = 0) -> float:
        """Return a lower bound of the seconds that a newcomer would wait."""
        ahead = self.queue.ahead(priority)
        wait = max(0.0, self.gate - now)
        for meter in self.meters:
            wait = max(wait, meter.eta(now, ahead + min(cost, meter.limit)))
        if self._shape is not None:
            wait = max(wait, self._shape.room(now) - now + ahead * self._shape.interval)
        return wait

    def hopeless(self) -> list[Slot]:
        """Take out and return those whose deadline comes before the gate opens."""
        lost = [slot for slot in self.queue if slot.deadline < self.gate]
        for slot in lost:
            self.leave(slot)
        return lost

    # The life of a slot

    def sent(self, slot: Slot, now: float) -> None:
        """Note that the bytes of *slot* left at *now*."""
        if slot.state is State.GRANTED:
            slot.state = State.SENT
            slot.sent = now
            if now - slot.granted < self.trip.connect and not self._recent:
                self.trip.connect = now - slot.granted
            for meter in self.meters:
                meter.sent(slot)
            if slot.ramp is not None:
                slot.ramp.sent(now)

    def leave(self, slot: Slot) -> None:
        """Give *slot* back: it waits no more, or its request never left."""
        state = slot.state
        if state is State.WAITING:
            slot.state = State.OVER
            self.queue.drop(slot)
        elif state is State.GRANTED:
            self._landed(slot)
            for meter in self.meters:
                meter.free(slot)
            if self._shape is not None:
                self._shape.give(slot.cost)

    def settle(self, slot: Slot, now: float, *, answered: bool = True) -> None:
        """Note at *now* that *slot* was accepted, or (not *answered*) that its fate is unknown: then it counts too."""
        if slot.state is State.OVER:
            return
        sent = slot.sent
        if sent == math.inf:
            sent = now
        elif answered:
            self.trip.note(now - sent)
        self._landed(slot)
        for meter in self.meters:
            meter.settle(slot, sent + self._late(meter, slot, now - sent) if answered else now)
        if answered:
            self._accepted(sent)
        if self._refusal is not None and not self.flights:
            self._judge()

    def rejected(
        self, slot: Slot, now: float, *, retry_after: float | None = None, quotas: Iterable[Quota] = ()
    ) -> None:
        """Note at *now* that the server refused *slot* for its rate: the key pauses, and learns.

        Args:
            slot: Sent; over hereafter. ``again`` puts its request back into the queue.
            now: Seconds.
            retry_after: Seconds that the server asks for, or None.
            quotas: Limits that it stated, if any.
        """
        fresh = slot.epoch == self._epoch
        sent = min(slot.sent, now)
        self._landed(slot)
        slot.refusals += 1
        self._row += 1
        self._clean = self._quiet = 0
        for meter in self.meters:
            if slot.refusals > 1:
                meter.settle(slot, now)
            else:
                meter.free(slot)
        taught = self.learn and self._learn(quotas)
        if fresh and not taught:
            if self._refusal is None:
                self._refusal = Refusal(sent, retry_after)
            self._refusal.note(sent)
        pause = self._pause() if retry_after is None else retry_after
        if slot.refusals > 3:
            # Servers that count rejected requests never let one in who keeps asking.
            pause = max([pause, *(meter.period for meter in self.meters)])
        self.gate = max(self.gate, now + pause)
        if self._refusal is not None and not self.flights:
            self._judge()

    def stated(self, quotas: Iterable[Quota], now: float) -> None:
        """Learn at *now* from the limits that an accepting answer stated."""
        if self.learn:
            self._learn(quotas)

    # Deciding

    def _room(self, now: float, cost: int) -> float:
        when = self.gate
        if when > now:
            return when
        if self._refusal is not None:
            self._judge()
        when = now
        for meter in self.meters:
            room = meter.room(now, min(cost, meter.limit))
            when = max(when, room)
        if self._shape is not None:
            when = max(when, self._shape.room(now))
        if when <= now and self._ramp is not None:
            when = self._ramp.room(now, self.trip.patience)
        return when

    def _grant(self, slot: Slot, now: float) -> None:
        slot.state = State.GRANTED
        slot.granted = now
        slot.epoch = self._epoch
        if self._begun == math.inf:
            self._begun = now
        self.flights[slot] = None
        for meter in self.meters:
            meter.used += slot.cost
        if self._shape is not None:
            self._shape.take(now, slot.cost)
        if self._ramp is not None:
            self._ramp.take(now)
            slot.ramp = self._ramp

    def _landed(self, slot: Slot) -> None:
        slot.state = State.OVER
        self.flights.pop(slot, None)
        ramp = slot.ramp
        if ramp is not None:
            slot.ramp = None
            ramp.back(sent=slot.sent != math.inf)
            if ramp is self._ramp and ramp.over:
                self._trust += 1
                self._ramp = None
                if self._trust < 2:
                    self._careful(self._trust)

    def _late(self, meter: Meter, slot: Slot, took: float) -> float:
        """Return how much of a round trip may have passed before the server counted the request."""
        late = took - self.trip.least
        if slot.granted <= self._begun + meter.period / 2:
            # The shortest round trip is not known well yet.
            return min(late + 0.25 * self.trip.least, max(meter.slack, 0.05 * meter.period), took)
        if meter.fixed and self.trip.excess > 0.01 * meter.period:
            # The first arrival opens the window for all; the first of many is hardly late.
            return min(late, meter.slack, 0.001 * meter.period + 2 * self.trip.excess / meter.limit)
        return min(late, meter.slack)

    def _careful(self, trust: int = 0, alone: float | None = None) -> None:
        """Open the next window in rounds, so that a server of another kind refuses few."""
        period = min(meter.period for meter in self.meters)
        limit = min(meter.limit for meter in self.meters)
        self._trust = trust
        if alone is None:
            alone = (0.01, 0.05)[trust] * period
            if alone < self.trip.least < math.inf:
                alone = 0.0
        self._ramp = Ramp(budget=0.01 * period, alone=alone, until=limit)

    def _pause(self) -> float:
        """Return how long to wait after a rejection that does not say."""
        if not self.meters:
            return _GUESSED_PERIOD
        period = min(meter.period for meter in self.meters)
        return self._shape.interval if self._shape is not None else 0.05 * period

    # Learning

    def _accepted(self, sent: float) -> None:
        self._recent.append(sent)
        if self._row:
            if self._row + self._earlies > 2 and self._opened < math.inf:
                meter = self.meters[0]
                beyond = sent - self._opened - meter.period
                if meter.margin < beyond <= 0.3 * meter.period:
                    meter.margin = self._worst = beyond
            self._row = 0
            self._opened = math.inf
        self._clean += 1
        if self.meters and self._clean >= 5 * self.meters[0].limit:
            self._clean = 0
            self._quiet += 1
            self._relax()

    def _relax(self) -> None:
        """Ease what was tightened: five whole quotas went through without a refusal."""
        for meter in self.meters:
            bottom = meter.floor if self._quiet > self._patience else max(meter.floor, self._worst)
            meter.margin = max(bottom, meter.margin * 0.85)
            meter.slack = max(0.02 * meter.period, meter.slack * 0.85)
        if self._shape is None:
            return
        even = self.meters[0].period / self.meters[0].limit
        self._shape.interval = max(even, self._shape.interval * 0.97)
        if self._quiet > self._patience:
            # Each time that this proves wrong, it is tried less often.
            self._quiet, self._patience = 0, min(2 * self._patience, 400)
            self._level, self._shape = 0, None
            self._careful()

    def _learn(self, quotas: Iterable[Quota]) -> bool:
        """Take over the rates that *quotas* state; return whether they are news."""
        rates = {
            quota.period: quota
            for quota in quotas
            if quota.limit is not None and quota.limit > 0 and quota.period is not None and quota.period > 0
        }
        news = False
        for period, quota in rates.items():
            known = next((meter for meter in self.meters if meter.period == period), None)
            if known is None:
                self._add(Meter(quota.limit or 1, period, learned=True, fixed=quota.source == "text"))
                news = True
            elif known.learned and known.limit != quota.limit:
                known.tune(quota.limit or 1, period)
                news = True
        if news:
            self._epoch += 1
            self._refusal = None
        return news

    def _add(self, meter: Meter) -> None:
        """Count by *meter* as well, beginning with what has been sent already."""
        for sent in self._recent:
            meter.used += 1
            meter.settle(_PAST, sent + min(self.trip.least, 0.05 * meter.period))
        for slot in sorted(self.flights, key=attrgetter("sent")):
            meter.used += slot.cost
            if slot.state is State.SENT:
                meter.sent(slot)
        self.meters.append(meter)
        self._careful()

    def _judge(self) -> None:
        """Conclude from a burst of rejections what kind of server it is."""
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            return
        self._epoch += 1
        if not self.meters:
            period = refusal.retry_after or _GUESSED_PERIOD
            passed = sum(1 for sent in self._recent if refusal.first - period < sent)
            self._add(Meter(max(1, passed), period, learned=True))
            return
        meter = max(self.meters, key=lambda each: each.used / each.limit)
        before = [sent for sent in self._recent if refusal.first - 1.25 * meter.period < sent < refusal.first]
        with_it = [sent for sent in self._recent if refusal.first <= sent <= refusal.last]
        meter.fixed = meter.fixed and not with_it
        if self._shape is None and len(before) >= meter.limit:
            self._earlies = self._earlies + 1 if refusal.first - self._early_at < 2.5 * meter.period else 1
            self._early_at = refusal.first
            # Where a longer wait does not help, or a try costs a whole period, the server does not count windows.
            if self._earlies < (3 if refusal.retry_after is None else 2):
                self._early(meter, before[-meter.limit])
                return
            self._level = 2
        self._small(meter, len(with_it) + sum(1 for sent in before if sent > refusal.first - meter.period))

    def _early(self, meter: Meter, opened: float) -> None:
        """The window was not over: wait a little longer from now on, and let one go ahead alone."""
        meter.margin = min(2 * meter.margin, 0.25 * meter.period)
        meter.slack = min(2 * meter.slack, meter.period)
        self._worst = meter.margin
        self._opened = min(self._opened, opened)
        self._careful(1, alone=0.25 * meter.period)

    def _small(self, meter: Meter, burst: int) -> None:
        """The server takes fewer at once than its limit: send evenly, after a burst that it takes."""
        self._level += 1
        even = meter.period / meter.limit * 1.002
        jitter = min(2 * self.trip.excess, 0.25 * even)
        if self._level == 1 and burst > 1:
            self._shape = Pace(burst - 1 if burst > 2 else burst, even)
        elif self._level <= 2:
            self._level = 2
            self._shape = Pace(1, even + jitter)
        elif self._level == 3 and meter.limit > 1:
            # What a weighted counter takes in the long run.
            self._shape = Pace(1, even * meter.limit / (meter.limit - 1) + jitter)
        else:
            before = self._shape.interval if self._shape is not None else even
            self._shape = Pace(1, min(before * 1.1, 4 * even))
        self._shape.hold(self.gate)
