"""When may the next request of one key leave? Plain arithmetic: ``now`` is given, nobody waits here."""

import math
from collections.abc import Iterable, MutableMapping
from enum import StrEnum
from typing import Any

from apiclient.middleware._pacing.caution import Caution, Refusal
from apiclient.middleware._pacing.ledger import Ledger
from apiclient.middleware._pacing.lesson import Lesson, lesson
from apiclient.middleware._pacing.meter import Meter
from apiclient.middleware._pacing.ramp import Ramp
from apiclient.middleware._pacing.slot import GRANTED, OVER, SENT, WAITING, Queue, Slot
from apiclient.middleware._pacing.trial import Trial
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate

# Where a refusal says neither for how long nor by which limit.
_GUESSED_PERIOD = 1.0
_HUSH = 0.05
# A header on a success is not believed to mean a longer pause than this, in seconds.
_LONGEST_HALT = 3600.0
# Round trips after which the time that a request needs to arrive is known well enough for a coarse count.
_KNOWN = 16
# A bucket shared with other keys may get room without a word from this one.
_LOOK_AGAIN = 0.05


class Mode(StrEnum):
    """What is known about the server."""

    PROBE = "probe"
    WINDOW = "window"
    LOG = "log"
    SHAPED = "shaped"


class Pacer(Ledger):
    """The quota of one key: who may leave now, who waits, and what the answers teach.

    Args:
        rates: Limits set by the user; all of them hold, and no answer changes them.
        learn: Whether answers may teach limits.
        lessons: Limits learned earlier.
        first: Size of the first round where nothing is known, say a sibling's limit.
        buckets: Meters of quotas that several keys draw from.
        origin: Whose names of buckets they are.

    Attributes:
        gate: Time before which nothing leaves, after a rejection.
        queue: Those who wait.
        learn: Whether answers may teach limits.
        news: Whether something was learned since this was last reset.
    """

    __slots__ = ("_ample_from", "_bound", "_caution", "_epoch", "_refusal", "_trial", "gate", "learn", "news", "queue")

    def __init__(
        self,
        rates: Iterable[Rate] = (),
        *,
        learn: bool = True,
        lessons: Iterable[Lesson] = (),
        first: int = 1,
        buckets: MutableMapping[Any, Meter] | None = None,
        origin: str = "",
    ) -> None:
        super().__init__(rates, lessons, buckets, origin)
        self.learn = learn
        self.gate = -math.inf
        self.queue = Queue()
        self.news = False
        self._ample_from = -math.inf
        self._bound = False
        self._epoch = 0
        self._trial = Trial()
        self._refusal: Refusal | None = None
        self._caution = Caution(Ramp(first, search=True) if learn and not self.meters else None)
        if self.meters:
            self._caution.begin(self.meters, self.trip)

    def __repr__(self) -> str:
        return f"<Pacer {self.mode} {self.meters} waiting={len(self.queue)} flights={len(self.flights)}>"

    @property
    def mode(self) -> Mode:
        """What is known about the server."""
        if self._caution.pace is not None:
            return Mode.SHAPED
        if not self.meters:
            return Mode.PROBE
        return Mode.WINDOW if all(meter.fixed for meter in self.meters) else Mode.LOG

    @property
    def hush(self) -> float:
        """Seconds for which answers need not be read again where no limit is known."""
        return _HUSH if self._caution.wide else 0.0

    @property
    def lessons(self) -> list[Lesson]:
        """What was learned, to be remembered."""
        # Of several only the first is ever tried.
        tried = [self._trial.raised, *[0] * len(self.meters)]
        return [
            Lesson(meter.limit - raised, meter.period, meter.fixed, meter.exact, counted=meter.counted)
            for meter, raised in zip(self.meters, tried, strict=False)
            if meter.learned
        ]

    def busy(self, now: float) -> bool:
        """Return whether forgetting it at *now* would let requests through that the quota has no room for."""
        return bool(self.queue) or self.gate > now or self.holds(now)

    def free(self, now: float, cost: int = 1) -> bool:
        """Return whether a request may leave at *now* without a slot: nothing is known, or there is ample room.

        Then add its *cost* to ``passing`` while it is under way, and call ``passed`` when it is over.
        """
        if self.queue.live or self.gate > now:
            return False
        meters = self.meters
        if meters:
            if now < self._ample_from or self.trip.count < _KNOWN or self._refusal is not None:
                return False
            units = self.passing + cost
            for meter in meters:
                if not meter.ample or meter.shared:
                    return False
                if meter.used + units > meter.ample and meter.room(now, meter.limit - meter.ample + units) > now:
                    return False
        return self.passing < self._caution.free

    def adopt(self, sent: float, cost: int) -> Slot:
        """Return a slot for a request that left freely at *sent* and is answered now: its answer tells something."""
        slot = Slot(cost)
        slot.granted = slot.sent = sent
        slot.state = SENT
        slot.epoch = self._epoch
        self.flights[slot] = None
        for meter in self.meters:
            meter.used += cost
        return slot

    def take(self, now: float, cost: int = 1) -> Slot | None:
        """Return a slot if one is free for a newcomer at *now*, else None: then ``join``."""
        if self.queue.live or self._room(now, cost) > now:
            return None
        slot = Slot(cost)
        self._grant(slot, now)
        return slot

    def ready(self, now: float, cost: int = 1) -> float:
        """Return when a newcomer could have a slot: *now*, later, or infinite while that hangs on an answer."""
        if self.queue:
            wait = self.eta(now, cost)
            return now + wait if wait > 0 else math.inf
        return self._room(now, cost)

    def join(self, slot: Slot) -> None:
        """Let *slot* wait for its turn."""
        self.queue.push(slot)

    def again(self, slot: Slot) -> Slot:
        """Return a new slot that waits in place of the rejected *slot*, before everybody else."""
        fresh = Slot(slot.cost, slot.priority, slot.deadline)
        fresh.order, fresh.refusals = slot.order, slot.refusals
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
        if when == math.inf:
            return now + _LOOK_AGAIN if any(meter.shared for meter in self.meters) else None
        return when

    def halt(self, until: float) -> None:
        """Let nothing leave before *until*."""
        self.gate = max(self.gate, until)

    def eta(self, now: float, cost: int = 1, priority: int = 0) -> float:
        """Return a lower bound of the seconds that a newcomer would wait."""
        ahead = self.queue.ahead(priority)
        wait = max(0.0, self.gate - now)
        for meter in self.meters:
            wait = max(wait, meter.eta(now, ahead + min(cost, meter.limit)))
        pace = self._caution.pace
        if pace is not None:
            wait = max(wait, pace.room(now) - now + ahead * pace.interval)
        return wait

    def hopeless(self) -> list[Slot]:
        """Take out and return those whose deadline comes before the gate opens."""
        queue = self.queue
        if self.gate <= queue.soonest:
            return []
        lost = [slot for slot in queue if slot.deadline < self.gate]
        for slot in lost:
            self.leave(slot)
        queue.soonest = min((slot.deadline for slot in queue), default=math.inf)
        return lost

    def sent(self, slot: Slot, now: float) -> None:
        """Note that the bytes of *slot* left at *now*."""
        if slot.state == GRANTED:
            slot.state = SENT
            slot.sent = now
            if now - slot.granted < self.trip.connect and not self.recent:
                self.trip.connect = now - slot.granted
            for meter in self.meters:
                meter.sent(slot)
            if slot.ramp is not None:
                slot.ramp.sent(now)

    def leave(self, slot: Slot) -> None:
        """Give *slot* back: it waits no more, or its request never left."""
        state = slot.state
        if state == WAITING:
            slot.state = OVER
            self.queue.drop(slot)
        elif state == GRANTED:
            self._landed(slot)
            for meter in self.meters:
                meter.free(slot)
            if self._caution.pace is not None:
                self._caution.pace.give(slot.cost)

    def settle(self, slot: Slot, now: float, *, answered: bool = True) -> None:
        """Note at *now* that *slot* was accepted, or (not *answered*) that its fate is unknown: then it counts too."""
        if slot.state == OVER:
            return
        if not answered:
            self._lost(slot, now)
            return
        sent = slot.sent
        took = 0.0
        if sent == math.inf:
            sent = now
        else:
            took = now - sent
            self.trip.note(took)
        self._landed(slot)
        for meter in self.meters:
            meter.settle(slot, sent + self.late(meter, slot, took))
        self._accepted(sent)
        if self._refusal is not None and not self.flights:
            self._judge(now)

    def _lost(self, slot: Slot, now: float) -> None:
        least = self.trip.least
        if slot.state == GRANTED and least < math.inf:
            # Others were seen to leave, and this one was not.
            self.leave(slot)
            return
        sent = slot.sent
        self._landed(slot)
        for meter in self.meters:
            there = now if sent == math.inf else sent + min(least, 0.05 * meter.period)
            meter.settle(slot, max(now, there))

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
        self._caution.refused()
        self._trial.restart()
        for meter in self.meters:
            if slot.refusals > 1:
                meter.settle(slot, now)
            else:
                meter.free(slot)
        if self._trial.raised:
            self._trial.failed(self.meters[0])
            self._epoch += 1
            fresh = False
        if self.learn and self._learn(quotas, sent, now):
            fresh = False
        if fresh:
            if self._refusal is None:
                self._refusal = Refusal(sent, retry_after)
            self._refusal.note(sent)
        pause = self._pause() if retry_after is None else retry_after
        if slot.refusals > 3:
            # Servers that count rejected requests never let one in who keeps asking.
            pause = max([pause, *(meter.period for meter in self.meters)])
        self.gate = max(self.gate, now + pause)
        if self._refusal is not None and not self.flights:
            self._judge(now)

    def stated(self, slot: Slot, quotas: Iterable[Quota | Lesson], now: float) -> None:
        """Learn at *now* from the limits that the accepting answer to *slot* stated, or that others learned."""
        if self.learn:
            self._learn(quotas, min(slot.sent, now), now)

    def _room(self, now: float, cost: int) -> float:
        when = self.gate
        if when > now:
            return when
        if self._refusal is not None:
            self._judge(now)
        when = now
        for meter in self.meters:
            room = meter.room(now, min(cost, meter.limit))
            if room > when:
                when = room
                self._bound = True
                self._ample_from = now + 8 * meter.period
        if when > now or self._caution.calm:
            return when
        return self._caution.room(now, self.trip, len(self.flights))

    def _grant(self, slot: Slot, now: float) -> None:
        slot.state = GRANTED
        slot.granted = now
        slot.epoch = self._epoch
        if self.begun == math.inf:
            self.begun = now
        self.flights[slot] = None
        for meter in self.meters:
            meter.used += slot.cost
        if not self._caution.calm:
            self._caution.take(slot, now)

    def _landed(self, slot: Slot) -> None:
        slot.state = OVER
        self.flights.pop(slot, None)
        if slot.ramp is not None:
            self._caution.landed(slot, self.meters, self.trip)

    def _pause(self) -> float:
        """Return how long to wait after a rejection that does not say."""
        if not self.meters:
            return _GUESSED_PERIOD
        if self._caution.pace is not None:
            return self._caution.pace.interval
        return 0.05 * min(meter.period for meter in self.meters)

    def _accepted(self, sent: float) -> None:
        self.recent.append(sent)
        if self._caution.accepted(sent, self.meters) and self._bound:
            self._bound = False
            if self._caution.pace is None:
                self._trial.quiet(self.meters[0])

    def _learn(self, quotas: Iterable[Quota | Lesson], sent: float, now: float) -> bool:
        """Take over what the answer to a request that left at *sent* stated; return whether it is news."""
        news = False
        for quota in quotas:
            if quota.limit is None and quota.period is None:
                if quota.remaining == 0 and quota.reset is not None:
                    self.halt(sent + min(quota.reset, _LONGEST_HALT))
                continue
            said = quota if isinstance(quota, Lesson) else lesson(self.completed(quota, sent))
            if said is None:
                continue
            meter = self.find(said)
            if meter is None:
                if self._trial.raised:
                    self._trial.failed(self.meters[0])
                meter = self.add(said, now)
                self._caution.begin(self.meters, self.trip)
                news = True
            elif meter.learned and (meter.limit != said.limit or meter.period != said.period):
                self._trial.end(self.meters[0])
                meter.tune(said.limit, said.period)
                meter.counted = said.counted
                news = True
            if said.remaining is not None and said.reset is not None and (until := sent + said.reset) > now:
                meter.share(meter.limit - meter.used - said.remaining, until)
        if news:
            self.news = True
            self._trial.restart()
            self._epoch += 1
            self._refusal = None
        return news

    def _judge(self, now: float) -> None:
        """Conclude from a burst of rejections what the limit is, or what kind of server it is."""
        refusal, self._refusal = self._refusal, None
        if refusal is None:
            return
        self._epoch += 1
        if self.meters:
            self._caution.judge(refusal, self.recent, self.meters, self.trip)
            if self._caution.pace is not None:
                self._caution.pace.hold(self.gate)
        elif self.learn:
            period = refusal.retry_after or _GUESSED_PERIOD
            passed = sum(1 for sent in self.recent if refusal.first - period < sent)
            self.add(Lesson(max(1, passed), period, exact=False, counted=True), now)
            self._caution.begin(self.meters, self.trip)
            self.news = True
