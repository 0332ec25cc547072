"""Which request goes next: whatever may leave now, so that no worker waits for another endpoint's quota."""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Hashable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

# Where a lane waits for an answer rather than for a moment: it is looked at again at the answer, and now and then.
_LOOK_AGAIN = 0.05
# A wait from here on, in seconds, is long enough to look for others further ahead than just around the corner.
_LONG = 0.05
_NEAR = 64
# The source is pulled so many times in one go, before others on the loop have their turn.
_AT_ONCE = 128


class Item(NamedTuple, Generic[T]):
    """What was pulled from the source.

    Attributes:
        number: From 0, in the order of the source.
        lane: What it queues under.
        value: What the source gave.
        held: Seconds that it was held back; while it is, when that began.
    """

    number: int
    lane: Hashable
    value: T
    held: float = 0.0


class Scheduler(Generic[T]):
    """Hands out what the source gives: in order within a lane, and past lanes that must wait.

    The source is pulled when somebody wants an item and none that was pulled may go, so that nothing is held
    where nothing waits, 64 where the wait is short, and never more than *lookahead* items.

    Args:
        source: Iterable or async iterable.
        lane_of: Returns what an item queues under.
        ready_in: Returns the seconds until a lane may go: 0 for now, infinite while that hangs on an answer.
        lookahead: Most items held back.
        window: Most items between the first one not yet settled (``settle``) and the last one pulled; None for any.
    """

    def __init__(
        self,
        source: Iterable[T] | AsyncIterable[T],
        *,
        lane_of: Callable[[T], Hashable],
        ready_in: Callable[[Hashable], float],
        lookahead: int,
        window: int | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane_of = lane_of
        self._ready_in = ready_in
        self._lookahead = lookahead
        self._window = math.inf if window is None else window
        self._lanes: dict[Hashable, deque[Item[T]]] = {}
        self._ready: deque[Hashable] = deque()
        self._is_ready: set[Hashable] = set()
        self._due: list[tuple[float, int, Hashable]] = []
        self._parked: set[Hashable] = set()
        self._long: set[Hashable] = set()
        self._alarms: dict[Hashable, float] = {}
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._order = 0
        self._settled = 0
        self._exhausted = False
        self._source_error: BaseException | None = None
        self.pulled = 0
        self.held = 0
        self._feeder: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._fed: deque[T] = deque()
        if isinstance(source, AsyncIterable):
            self._source: Iterator[T] | None = None
            self._feeder = self._loop.create_task(self._feed(aiter(source)))
        else:
            self._source = iter(source)

    def __repr__(self) -> str:
        return f"<Scheduler pulled={self.pulled} held={self.held} lanes={len(self._lanes)}>"

    @property
    def waiting(self) -> dict[Hashable, int]:
        """How many items are held back, by lane."""
        return {lane: len(items) for lane, items in self._lanes.items()}

    def take(self) -> Item[T] | None:
        """Return an item that may go now, or None: then ``wait``."""
        item: Item[T] | None = None
        while self._ready:
            lane = self._ready.popleft()
            self._is_ready.discard(lane)
            wait = self._ready_in(lane)
            if wait > 0:
                self._park(lane, wait)
                continue
            items = self._lanes[lane]
            first = items.popleft()
            item = first._replace(held=self._loop.time() - first.held)
            self.held -= 1
            if items:
                self._set_ready(lane)
            else:
                del self._lanes[lane]
            break
        else:
            item = self._pull()
        if item is not None and self._idle and (self._ready or self._pullable() or self._finished()):
            self._wake()
        return item

    async def wait(self) -> Item[T] | None:
        """Return the next item as soon as one may go, or None: there are no more."""
        while True:
            item = self.take()
            if item is not None:
                return item
            if self._finished():
                self._wake_all()
                return None
            if self._source is not None and self._pullable():
                await asyncio.sleep(0)
                continue
            self._wanted.set()
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle.append(waiter)
            try:
                await waiter
            except BaseException:
                # The one that was woken in vain passes it on.
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise

    def over(self, lane: Hashable) -> None:
        """Note that a request of *lane* has been answered."""
        # What an answer teaches may let the lane go sooner than was thought.
        if lane in self._parked:
            self._unpark(lane)
            self._wake()

    def settle(self, number: int) -> None:
        """Note that all items before *number* are settled: moves the window."""
        if number > self._settled:
            self._settled = number
            if self._idle:
                self._wake()

    def stop(self) -> None:
        """Pull nothing more, and forget what is held back: everybody gets None."""
        self._exhausted = True
        self._lanes.clear()
        self._ready.clear()
        self._is_ready.clear()
        self._due.clear()
        self._parked.clear()
        self._long.clear()
        self._alarms.clear()
        self._fed.clear()
        self.held = 0
        if self._feeder is not None:
            self._feeder.cancel()
        self._wake_all()

    async def aclose(self) -> None:
        """Stop, and leave nothing behind."""
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._feeder is not None:
            await asyncio.gather(self._feeder, return_exceptions=True)

    def raise_source_error(self) -> None:
        """Raise what the source raised, if it did."""
        if self._feeder is not None and self._feeder.done() and not self._feeder.cancelled():
            self._source_error = self._feeder.exception()
        if self._source_error is not None:
            raise self._source_error

    # The source

    def _finished(self) -> bool:
        return self._exhausted and not self.held and not self._fed

    def _pullable(self) -> bool:
        most = self._lookahead if self._long else min(_NEAR, self._lookahead)
        return not self._exhausted and self.held < most and self.pulled - self._settled < self._window

    def _pull(self) -> Item[T] | None:
        for _ in range(_AT_ONCE):
            if self._fed:
                value = self._fed.popleft()
            elif self._source is None or not self._pullable():
                return None
            else:
                try:
                    value = next(self._source)
                except StopIteration:
                    self._exhausted = True
                    return None
                except Exception as error:  # noqa: BLE001 - raised once what was pulled before it has ended
                    self._source_error = error
                    self._exhausted = True
                    return None
            lane = self._lane_of(value)
            number = self.pulled
            self.pulled += 1
            items = self._lanes.get(lane)
            wait = 0.0 if items is not None else self._ready_in(lane)
            if items is None and wait <= 0:
                return Item(number, lane, value)
            item = Item(number, lane, value, self._loop.time())
            self.held += 1
            if items is None:
                self._lanes[lane] = deque((item,))
                self._park(lane, wait)
            else:
                items.append(item)
        return None

    async def _feed(self, source: AsyncIterator[T]) -> None:
        try:
            while True:
                await self._wanted.wait()
                if not self._pullable():
                    self._wanted.clear()
                    continue
                try:
                    value = await anext(source)
                except StopAsyncIteration:
                    return
                self._fed.append(value)
                self._wake()
                if not self._idle:
                    self._wanted.clear()
        finally:
            self._exhausted = True
            self._wake_all()
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    # Lanes that wait

    def _park(self, lane: Hashable, wait: float) -> None:
        self._parked.add(lane)
        if _LONG <= wait < math.inf:
            self._long.add(lane)
        when = self._loop.time() + (_LOOK_AGAIN if wait == math.inf else wait)
        if self._alarms.get(lane, math.inf) <= when:
            return
        self._alarms[lane] = when
        self._order += 1
        heapq.heappush(self._due, (when, self._order, lane))
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = when
            self._timer = self._loop.call_at(when, self._fire)

    def _unpark(self, lane: Hashable) -> None:
        self._parked.discard(lane)
        self._long.discard(lane)
        if lane in self._lanes and lane not in self._is_ready:
            self._set_ready(lane)

    def _set_ready(self, lane: Hashable) -> None:
        self._ready.append(lane)
        self._is_ready.add(lane)

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = self._loop.time()
        due = self._due
        while due and due[0][0] <= now:
            when, _, lane = heapq.heappop(due)
            if self._alarms.get(lane) == when:
                del self._alarms[lane]
            self._unpark(lane)
        if due:
            self._timer_at = due[0][0]
            self._timer = self._loop.call_at(self._timer_at, self._fire)
        if self._ready:
            self._wake()

    # Those who wait

    def _wake(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _wake_all(self) -> None:
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()
