"""The awaiting half of a pacer: futures for those who wait, and one timer per key."""

import asyncio
import math
from collections.abc import Callable, Iterable

from apiclient.middleware._call import Call
from apiclient.middleware._leases import Leases
from apiclient.middleware._pacing.lesson import Lesson
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._pacing.slot import Slot
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware.errors import RateLimited

# Waking a great many at once would hold up everything else on the loop.
_AT_ONCE = 256
# Round trips after which the shortest of them says something.
_WELL_KNOWN = 32


class Lane:
    """One key's pacer on one event loop.

    Args:
        pacer: Decides.
        loop: Has the clock and the timer.
        remember: Called with what was learned, when there is news.
        leases: Where other processes draw from the same quota: this one's share.

    Attributes:
        listen_at: When to read again what accepting answers state; infinite where nothing is to be learned.
    """

    __slots__ = ("_loop", "_remember", "_timer", "_timer_at", "leases", "listen_at", "pacer", "time")

    def __init__(
        self,
        pacer: Pacer,
        loop: asyncio.AbstractEventLoop,
        remember: Callable[[Iterable[Lesson]], None],
        leases: Leases | None = None,
    ) -> None:
        self.pacer = pacer
        self.leases = leases
        self.listen_at = -math.inf if pacer.learn else math.inf
        self.time: Callable[[], float] = loop.time
        self._loop = loop
        self._remember = remember
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def __repr__(self) -> str:
        return f"Lane({self.pacer!r})"

    @property
    def busy(self) -> bool:
        """Whether it must not be forgotten."""
        return self.pacer.busy(self.time())

    async def slot(self, call: Call, *, longest: float, most: int | None, after: Slot | None = None) -> Slot:
        """Wait for a slot and return it.

        Args:
            call: Who asks.
            longest: Most seconds to wait.
            most: Most waiters, or None.
            after: The rejected slot that this one is for; it goes before all newcomers.

        Raises:
            RateLimited: The wait would outlast *longest* or the call's deadline, or the queue is full.
        """
        pacer = self.pacer
        now = self.time()
        if after is None:
            wait = pacer.eta(now, call.cost, call.priority)
            if most is not None and len(pacer.queue) >= most:
                raise RateLimited(f"{most} requests are waiting for this quota already", retry_after=wait)
        else:
            wait = max(0.0, pacer.gate - now)
        if wait > min(longest, call.remaining()):
            raise refusal(wait)
        if after is None:
            slot = Slot(call.cost, call.priority, now + min(longest, call.remaining()))
            pacer.join(slot)
        else:
            slot = pacer.again(after)
        slot.waiter = future = self._loop.create_future()
        self.pump()
        try:
            await future
        except BaseException:
            pacer.leave(slot)
            self.pump()
            raise
        finally:
            call.waited("limiter", self.time() - now)
        if call.deadline is not None and self.time() > call.deadline:
            pacer.leave(slot)
            self.pump()
            raise refusal(self.time() - now)
        return slot

    def pump(self) -> None:
        """Wake those whose turn it is, and set the timer for the next."""
        pacer = self.pacer
        if not pacer.queue.live:
            return
        now = self.time()
        for slot in pacer.due(now, _AT_ONCE):
            # One that was cancelled just now gives its slot back when its task runs.
            if not slot.waiter.done():
                slot.waiter.set_result(None)
        when = pacer.wake(now)
        if when is None:
            return
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._fire)

    async def permit(self, slot: Slot, call: Call, leases: Leases, *, longest: float) -> None:
        """Wait until the store has room for *slot* as well; give it back where that fails."""
        if leases.take(call, slot.cost):
            return
        try:
            await leases.permit(call, slot.cost, longest=longest)
        except BaseException:
            self.pacer.leave(slot)
            self.pump()
            raise

    def listens(self, now: float) -> bool:
        """Return whether it is time to read again what accepting answers state: often enough, and not each time."""
        if now < self.listen_at:
            return False
        meters = self.pacer.meters
        self.listen_at = now + (min(meter.period for meter in meters) / 20 if meters else self.pacer.hush)
        return True

    def sent(self, slot: Slot) -> None:
        """Note that the bytes of *slot* left."""
        self.pacer.sent(slot, self.time())
        if self._timer is None and self.pacer.queue.live:
            # Only now is it known until when the slot is held.
            self.pump()

    def over(self, slot: Slot, *, answered: bool, quotas: Iterable[Quota] = ()) -> None:
        """Note that *slot* was accepted, by an answer that stated *quotas*, or (not *answered*) that nobody knows."""
        pacer = self.pacer
        now = self.time()
        if self.leases is not None:
            self.leases.landed(slot.cost, self._counted(slot, now))
        pacer.settle(slot, now, answered=answered)
        if quotas:
            pacer.stated(slot, quotas, now)
        if pacer.news:
            self._note()
        if pacer.queue.live:
            self.pump()

    def unsent(self, slot: Slot) -> None:
        """Give *slot* back: its request never left."""
        if self.leases is not None:
            self.leases.unused(slot.cost)
        self.pacer.leave(slot)
        self.pump()

    def refused(self, slot: Slot, now: float, retry_after: float | None, quotas: Iterable[Quota]) -> None:
        """Note that the server refused *slot* at *now*, and what it said."""
        if self.leases is not None:
            self.leases.landed(slot.cost, 0.0)
        self.pacer.rejected(slot, now, retry_after=retry_after, quotas=quotas)
        self._note()
        self.halt(self.pacer.gate)
        if self.leases is not None and self.pacer.gate > now:
            self.leases.pause(self.pacer.gate - now)
        self.pump()

    def halt(self, until: float) -> None:
        """Let nothing leave before *until*, and refuse those who cannot wait that long."""
        self.pacer.halt(until)
        now = self.time()
        for slot in self.pacer.hopeless():
            if not slot.waiter.done():
                slot.waiter.set_exception(refusal(self.pacer.gate - now))

    def _counted(self, slot: Slot, now: float) -> float:
        """Return how many seconds ago, at the latest, the server counted *slot*."""
        if slot.sent > now:
            return 0.0
        took, trip = now - slot.sent, self.pacer.trip
        period = min((meter.period for meter in self.pacer.meters), default=0.0)
        # As long as the shortest round trip is not well known, all of it may have passed before.
        late = min(took, 0.5 * period) if trip.count < _WELL_KNOWN else min(took - trip.least, 0.1 * period)
        return took - max(0.0, late)

    def _note(self) -> None:
        if self.pacer.news:
            self.pacer.news = False
            lessons = self.pacer.lessons
            self._remember(lessons)
            if self.leases is not None:
                self.leases.teach(lessons)

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self.pump()


def refusal(wait: float) -> RateLimited:
    """Return the error for a wait of *wait* seconds that does not fit."""
    return RateLimited(
        f"The quota leaves no slot for {wait:.3g} s, which is longer than this call may wait",
        would_have_waited=wait,
        retry_after=wait,
    )
