"""Requests, a network and a server in virtual time, without an event loop: what pacers are tested against."""

import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._pacing.slot import OVER, WAITING, Slot
from apiclient.middleware._parsing.quota import Quota
from apiclient.testing import Latency, QuotaServer


class Outcome(NamedTuple):
    """What a simulation shows: times in seconds, requests by their number."""

    took: float
    arrivals: list[float]
    rejected: int
    granted: list[int]
    done: list[int]


class Wire:
    """Requests that go through *pacer* to *server*.

    Args:
        pacer: Under test.
        server: Answers.
        network: Delays.
        text: The limit that a refusal's text states, if any.
    """

    def __init__(self, pacer: Pacer, server: QuotaServer, network: Latency, *, text: Quota | None = None) -> None:
        self.pacer = pacer
        self.server = server
        self.network = network
        self.text = text
        self.now = 0.0
        self.arrivals: list[float] = []
        self.granted: list[int] = []
        self.done: list[int] = []
        self.free = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = itertools.count()
        self._idle = 0
        self._wake = float("inf")
        self._slots: dict[int, Slot] = {}

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do *action* at *time*."""
        heapq.heappush(self._events, (max(time, self.now), next(self._counter), action))

    def ask(self, time: float, number: int, *, priority: int = 0, cost: int = 1) -> None:
        """Let request *number* ask for its slot at *time*."""

        def asks() -> None:
            if self.pacer.free(self.now, cost):
                self._passes(number, cost)
                return
            slot = self.pacer.take(self.now, cost)
            if slot is None:
                slot = Slot(cost, priority)
                slot.waiter = number
                self._slots[number] = slot
                self.pacer.join(slot)
                self._pump()
            else:
                self._slots[number] = slot
                self._leaves(number, slot)

        self.at(time, asks)

    def cancel(self, time: float, number: int) -> None:
        """Let request *number* be cancelled at *time*, wherever it is then."""

        def cancels() -> None:
            slot = self._slots.get(number)
            if slot is None or slot.state == OVER:
                return
            if slot.state == WAITING:
                self.pacer.leave(slot)
            else:
                self.pacer.settle(slot, self.now, answered=False)
            self._pump()

        self.at(time, cancels)

    def run(self) -> Outcome:
        """Go on until nothing is left to happen."""
        last = 0.0
        while self._events:
            self.now, _, action = heapq.heappop(self._events)
            action()
            last = self.now if self.done else last
        return Outcome(last, self.arrivals, self.server.rejected, self.granted, self.done)

    def _pump(self) -> None:
        for slot in self.pacer.due(self.now):
            self._leaves(slot.waiter, slot)
        when = self.pacer.wake(self.now)
        if when is not None and not self.now < self._wake <= when:
            self._wake = when
            self.at(when, self._pump)

    def _leaves(self, number: int, slot: Slot) -> None:
        self.granted.append(number)
        connect = 0.0
        if self._idle:
            self._idle -= 1
        else:
            connect = self.network.connect()
        self.at(self.now + connect, lambda: self._sends(number, slot))

    def _passes(self, number: int, cost: int) -> None:
        """Let a request through without a slot, as the shell does."""
        pacer, began, meters = self.pacer, self.now, self.pacer.meters
        self.granted.append(number)
        self.free += 1
        pacer.passing += cost

        def arrives() -> None:
            answer = self.server.arrive(self.now)
            self.arrivals.append(self.now)
            work = self.network.work() if answer.accepted else 0.0
            self.at(self.now + work + self.network.way(), lambda: over(answer.accepted, answer.retry_after))

        def over(accepted: bool, retry_after: float | None) -> None:  # noqa: FBT001 - one of two
            pacer.passing -= cost
            if accepted:
                self._idle += 1
                self.done.append(number)
                pacer.passed(began, self.now, cost, meters)
                self._pump()
            else:
                self._refused(number, pacer.adopt(began, cost), retry_after)

        connect = 0.0
        if self._idle:
            self._idle -= 1
        else:
            connect = self.network.connect()
        self.at(self.now + connect + self.network.way(), arrives)

    def _sends(self, number: int, slot: Slot) -> None:
        if slot.state == OVER:
            return
        self.pacer.sent(slot, self.now)
        self._pump()
        self.at(self.now + self.network.way(), lambda: self._arrives(number, slot))

    def _arrives(self, number: int, slot: Slot) -> None:
        answer = self.server.arrive(self.now)
        self.arrivals.append(self.now)
        work = self.network.work() if answer.accepted else 0.0
        back = self.now + work + self.network.way()
        if answer.accepted:
            self.at(back, lambda: self._answered(number, slot))
        else:
            self.at(back, lambda: self._refused(number, slot, answer.retry_after))

    def _answered(self, number: int, slot: Slot) -> None:
        self._idle += 1
        if slot.state != OVER:
            self.done.append(number)
        self.pacer.settle(slot, self.now)
        self._pump()

    def _refused(self, number: int, slot: Slot, retry_after: float | None) -> None:
        self._idle += 1
        if slot.state == OVER:
            return
        quotas = () if self.text is None else (self.text,)
        self.pacer.rejected(slot, self.now, retry_after=retry_after, quotas=quotas)
        again = self.pacer.again(slot)
        again.waiter = number
        self._slots[number] = again
        self._pump()


def told(pacer: Pacer, now: float, quota: Quota) -> None:
    """Let a request be accepted at *now* with an answer that states *quota*."""
    slot = pacer.take(now)
    assert slot is not None
    pacer.sent(slot, now)
    pacer.settle(slot, now + 0.001)
    pacer.stated(slot, (quota,), now + 0.001)
