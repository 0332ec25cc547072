"""The awaiting half of a pacer: futures for those who wait, and one timer per key."""

import asyncio
import math
from collections.abc import Callable

from apiclient.middleware._call import Call
from apiclient.middleware._pacer import Pacer
from apiclient.middleware._pacer_slot import Slot
from apiclient.middleware.errors import RateLimited

# Waking a great many at once would hold up everything else on the loop.
_AT_ONCE = 256


class Lane:
    """One key's pacer on one event loop."""

    __slots__ = ("_loop", "_timer", "_timer_at", "pacer", "time")

    def __init__(self, pacer: Pacer, loop: asyncio.AbstractEventLoop) -> None:
        self.pacer = pacer
        self._loop = loop
        self.time: Callable[[], float] = loop.time
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
        if after is None and most is not None and len(pacer.queue) >= most:
            raise RateLimited(
                f"{most} requests are waiting for this quota already", retry_after=pacer.eta(now, call.cost)
            )
        wait = max(0.0, pacer.gate - now) if after is not None else pacer.eta(now, call.cost, call.priority)
        if wait > min(longest, call.remaining()):
            raise refusal(wait)
        deadline = min(now + longest, math.inf if call.deadline is None else call.deadline)
        if after is None:
            slot = Slot(call.cost, call.priority, deadline)
            pacer.join(slot, now)
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
        if not pacer.queue:
            return
        now = self.time()
        granted = pacer.due(now, _AT_ONCE)
        for slot in granted:
            if slot.waiter.done():
                pacer.leave(slot)
            else:
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

    def sent(self, slot: Slot) -> None:
        """Note that the bytes of *slot* left."""
        self.pacer.sent(slot, self.time())

    def over(self, slot: Slot, *, answered: bool) -> None:
        """Note that *slot* was accepted, or that nobody knows what became of it."""
        pacer = self.pacer
        pacer.settle(slot, self.time(), answered=answered)
        if pacer.queue:
            self.pump()

    def halt(self, until: float) -> None:
        """Let nothing leave before *until*, and refuse those who cannot wait that long."""
        self.pacer.halt(until)
        now = self.time()
        for slot in self.pacer.hopeless():
            if not slot.waiter.done():
                slot.waiter.set_exception(refusal(self.pacer.gate - now))

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
