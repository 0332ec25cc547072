"""Places in a room: so many at once, a bounded queue before the door, and no place ever lost."""

import asyncio
import heapq
from itertools import count


class Gate:
    """Lets *limit* in at once and *queue* wait, by priority and then in order of arrival.

    Args:
        limit: Most inside at once.
        queue: Most that wait; 0 for none.
    """

    __slots__ = ("_inside", "_limit", "_order", "_queue", "_waiting")

    def __init__(self, limit: int, queue: int) -> None:
        self._limit = limit
        self._queue = queue
        self._inside = 0
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"<Gate {self._inside} of {self._limit} inside, {len(self._waiting)} waiting>"

    @property
    def busy(self) -> bool:
        """Whether anybody is inside or waits."""
        return self._inside > 0 or bool(self._waiting)

    @property
    def inside(self) -> int:
        """Places taken."""
        return self._inside

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, priority: int = 0) -> asyncio.Future[None] | None:
        """Take a place, or with a future a turn in the queue; the place is taken once that is done.

        Raises:
            asyncio.QueueFull: No place is free and the queue is full.
        """
        if self._inside < self._limit and not self._waiting:
            self._inside += 1
            return None
        if len(self._waiting) >= self._queue:
            raise asyncio.QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), turn))
        return turn

    def leave(self) -> None:
        """Give a place back: to whoever has waited longest among those of the highest priority."""
        self._inside -= 1
        while self._waiting and self._inside < self._limit:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                self._inside += 1
                turn.set_result(None)

    def abandon(self, turn: "asyncio.Future[None]") -> None:
        """Give up a turn, and the place if it has come to one meanwhile."""
        if turn.done() and not turn.cancelled():
            self.leave()
            return
        self._waiting = [entry for entry in self._waiting if entry[2] is not turn]
        heapq.heapify(self._waiting)
