"""Time limits for many attempts at once, at the price of a set operation each."""

import asyncio
import math
from asyncio import current_task, get_running_loop
from collections.abc import Callable
from typing import Any

from apiclient.middleware._clock import clock_of
from apiclient.middleware._ending import EXPIRED

_EXACT_UP_TO = 5.0
_TICKS_PER_SECOND = 10


class Wheel:
    """Timers of one event loop, grouped into ticks of 100 ms, so that a limit costs no timer of its own.

    A limit of up to 5 s gets an exact timer. A longer one ends at the next tick after its time: at most
    100 ms late, never early. Used so, with nothing that awaits between ``start`` and ``try``::

        limit = wheel.start(30.0)
        try:
            return await handler(request)
        except asyncio.CancelledError:
            if limit.ended_it():
                raise AttemptTimedOut(...) from None
            raise
        finally:
            limit.stop()
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._time: Callable[[], float] = _no_loop
        self._ticks: dict[int, set[Limit]] = {}
        # The tick found last: nearly always that of the next limit too.
        self._low = self._high = math.inf
        self._armed: set[Limit] = set()

    def __repr__(self) -> str:
        return f"Wheel({sum(map(len, self._ticks.values()))} armed)"

    def start(self, seconds: float) -> "Limit":
        """Return a running limit that cancels the current task after *seconds*; infinite means never.

        Raises:
            RuntimeError: There is no task to cancel.
        """
        loop = get_running_loop()
        if loop is not self._loop:
            # Timers of a loop that is gone can never fire.
            self._loop, self._time, self._ticks = loop, clock_of(loop), {}
            self._low = self._high = math.inf
        task = current_task(loop)
        if task is None:
            raise RuntimeError("a time limit needs a task to run in")
        limit = Limit(task)
        if seconds > _EXACT_UP_TO:
            if seconds != math.inf:
                at = self._time() + seconds
                if not self._low <= at < self._high:
                    self._turn(loop, at)
                limit.armed = armed = self._armed
                armed.add(limit)
        else:
            limit.handle = loop.call_later(max(0.0, seconds), limit.expire)
        return limit

    def _turn(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        tick = int(at * _TICKS_PER_SECOND) + 1
        armed = self._ticks.get(tick)
        if armed is None:
            armed = self._ticks[tick] = set()
            loop.call_at(tick / _TICKS_PER_SECOND, self._fire, tick)
        self._low, self._high, self._armed = (tick - 1) / _TICKS_PER_SECOND, tick / _TICKS_PER_SECOND, armed

    def _fire(self, tick: int) -> None:
        for limit in self._ticks.pop(tick, ()):
            limit.expire()


class Limit:
    """One running limit: on expiry the task is cancelled, and who started it turns that into a timeout.

    A cancellation from outside passes through unchanged, even when both happen in the same turn.
    """

    __slots__ = ("_cancelling", "_expired", "_task", "armed", "handle")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = False
        self.armed: set[Limit] | None = None
        self.handle: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Limit{' expired' if self._expired else ''}>"

    def expire(self) -> None:
        """End the code under the limit now: called by the timer."""
        self._expired = True
        self._task.cancel(EXPIRED)

    def ended_it(self) -> bool:
        """Return whether the CancelledError just caught is this limit's own, and if so take it back."""
        if not self._expired:
            return False
        self._expired = False
        return self._task.uncancel() <= self._cancelling

    def stop(self) -> None:
        """Disarm; call it however the code under the limit ended."""
        if self.armed is not None:
            self.armed.discard(self)
        elif self.handle is not None:
            self.handle.cancel()
        if self._expired:
            # The code under the limit answered the cancellation with an error of its own.
            self._expired = False
            self._task.uncancel()


def _no_loop() -> float:
    raise RuntimeError("no event loop is running")
