"""A place in a quota, and the queue of those who wait for one."""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from apiclient.middleware._pacing.ramp import Ramp

# The states of a slot; plain integers, since they are compared several times for every request.
WAITING: Final = 0
GRANTED: Final = 1
SENT: Final = 2
OVER: Final = 3
_NAMES: Final = ("waiting", "granted", "sent", "over")


class Slot:
    """One wire request's place in the quota, from the wish for it until it counts no more.

    Attributes:
        cost: Units of the quota that it takes.
        priority: Higher goes first.
        deadline: Time after which it is of no use; infinite for never.
        state: ``WAITING``, ``GRANTED``, ``SENT`` or ``OVER``.
        granted: When it was granted.
        sent: When its bytes left, as far as known; infinite before.
        epoch: Which knowledge of the limit it was granted under.
        refusals: How often the server rejected it.
        ramp: The round that it left in, if any.
        waiter: The shell's own: whom to wake.
    """

    __slots__ = (
        "cost", "deadline", "epoch", "granted", "order", "priority", "ramp", "refusals", "sent", "state",
        "waiter",
    )  # fmt: skip

    def __init__(self, cost: int = 1, priority: int = 0, deadline: float = math.inf) -> None:
        self.cost = cost
        self.priority = priority
        self.deadline = deadline
        self.state: int = WAITING
        self.granted = self.sent = math.inf
        self.epoch = 0
        self.refusals = 0
        self.order = 0
        self.ramp: Ramp | None = None
        self.waiter: Any = None

    def __repr__(self) -> str:
        return f"Slot({_NAMES[self.state]}, cost={self.cost}, priority={self.priority})"


class Queue:
    """Slots that wait: by priority, first come first served within one, and nobody starves.

    Each eighth turn goes to whoever has waited longest, whatever the priority. Rejected requests come
    before everybody. Those that leave are skipped later, so that leaving costs nothing.

    Attributes:
        live: Slots that wait.
        cost: Units that they want.
        soonest: No deadline of theirs is before this.
    """

    __slots__ = ("_again", "_choice", "_gone", "_lanes", "_next", "_turn", "_units", "cost", "live", "soonest")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Slot]] = {}
        self._again: list[tuple[int, int, Slot]] = []
        self._choice: deque[Slot] | None = None
        self.live = 0
        self._gone = 0
        self._next = 0
        self._turn = 0
        self.cost = 0
        self.soonest = math.inf
        self._units: dict[int, int] = {}

    def __len__(self) -> int:
        return self.live

    def __iter__(self) -> Iterator[Slot]:
        """Iterate over the waiting slots, in no particular order."""
        yield from (slot for *_, slot in self._again if slot.state == WAITING)
        for lane in self._lanes.values():
            yield from (slot for slot in lane if slot.state == WAITING)

    def push(self, slot: Slot) -> None:
        """Let *slot* wait behind all others of its priority."""
        self._next += 1
        slot.order = self._next
        lane = self._lanes.get(slot.priority)
        if lane is None:
            lane = self._lanes[slot.priority] = deque()
            if len(self._lanes) > 1:
                self._lanes = dict(sorted(self._lanes.items(), reverse=True))
                self._choice = None
        lane.append(slot)
        self.live += 1
        self.cost += slot.cost
        self._units[slot.priority] = self._units.get(slot.priority, 0) + slot.cost
        self.soonest = min(self.soonest, slot.deadline)

    def push_again(self, slot: Slot) -> None:
        """Let *slot*, which was rejected, wait before all others, in the order in which they first came."""
        self._next += 1
        heapq.heappush(self._again, (slot.order, self._next, slot))
        self.live += 1
        self.cost += slot.cost
        self._units[slot.priority] = self._units.get(slot.priority, 0) + slot.cost
        self.soonest = min(self.soonest, slot.deadline)

    def head(self) -> Slot | None:
        """Return whose turn it is, or None."""
        while self._again:
            if self._again[0][2].state == WAITING:
                return self._again[0][2]
            heapq.heappop(self._again)
            self._gone -= 1
        lane = self._choice
        if lane is None or not lane or lane[0].state != WAITING:
            lane = self._choice = self._chosen()
        return None if lane is None else lane[0]

    def pop(self) -> None:
        """Take away what ``head`` returned."""
        if self._again:
            slot = heapq.heappop(self._again)[2]
        elif self._choice is not None:
            slot = self._choice.popleft()
            self._turn += 1
            if len(self._lanes) > 1:
                if not self._choice:
                    del self._lanes[slot.priority]
                self._choice = None
        else:
            return
        self._less(slot)

    def drop(self, slot: Slot) -> None:
        """Forget *slot*, which left the queue of its own accord (its state is no longer WAITING)."""
        self._less(slot)
        self._gone += 1
        if self._gone > 64 and self._gone > self.live:
            self._again = [entry for entry in self._again if entry[2].state == WAITING]
            heapq.heapify(self._again)
            for priority, lane in list(self._lanes.items()):
                kept = deque(slot for slot in lane if slot.state == WAITING)
                self._lanes[priority] = kept
                if not kept:
                    del self._lanes[priority]
            self._choice = None
            self._gone = 0

    def ahead(self, priority: int) -> int:
        """Return how many units those wait for who would be served before a newcomer of *priority*."""
        return sum(units for rank, units in self._units.items() if rank >= priority)

    def _less(self, slot: Slot) -> None:
        self.live -= 1
        self.cost -= slot.cost
        left = self._units[slot.priority] - slot.cost
        if left:
            self._units[slot.priority] = left
        else:
            del self._units[slot.priority]

    def _chosen(self) -> deque[Slot] | None:
        eldest: deque[Slot] | None = None
        for priority, lane in list(self._lanes.items()):
            while lane and lane[0].state != WAITING:
                lane.popleft()
                self._gone -= 1
            if not lane:
                del self._lanes[priority]
            elif eldest is None:
                eldest = lane
                if self._turn % 8 != 7:
                    return lane
            elif lane[0].order < eldest[0].order:
                eldest = lane
        return eldest
