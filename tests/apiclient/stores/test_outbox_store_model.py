"""Every store beside a model of it, through puts, claims, outcomes, crashes, waits and clocks that jump."""

import asyncio
import math
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from apiclient.stores import Draft
from tests.apiclient.stores.outbox import ORIGIN, STORES, Clock, intent

ENDPOINTS = ("POST /ordered", "PUT /free")
LEASE = 60.0


@dataclass
class Item:
    """What the model knows of an item."""

    number: int
    endpoint: str
    due: float
    created: float
    expires: float
    dedupe: str | None
    state: str = "pending"
    lease: str | None = None
    attempts: int = 0
    records: int = 0
    leases: list[str] = field(default_factory=list[str])

    @property
    def ordered(self) -> bool:
        return self.endpoint == ENDPOINTS[0]


class OutboxModel(RuleBasedStateMachine):
    """Says after each step what the store must hold.

    Attributes:
        kind: Of the store, in ``STORES``.
        remembers: Whether the latest time seen is kept beside the items, and outlives the process.
    """

    kind = "memory"
    remembers = False

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.make, self.durable = STORES[self.kind]
        self.clock = Clock()
        self.runner = asyncio.Runner()
        self.store = self.make(self.folder, self.clock)
        self.items: dict[str, Item] = {}
        self.acknowledged = 0
        self.forgotten = 0
        self.seen = self.clock.now
        self.claim(limit=1, skip=[])

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    def run(self, operation: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(operation)

    def pending(self) -> dict[str, Item]:
        return {name: item for name, item in self.items.items() if item.state == "pending"}

    def claimable(self, skip: list[str]) -> list[str]:
        pending = self.pending().items()
        head = min((item.number for _, item in pending if item.ordered), default=0)
        due = [
            (item.due, item.number, name)
            for name, item in pending
            if item.due <= self.clock.now
            and item.endpoint not in skip
            and (not item.ordered or item.number == head)
        ]  # fmt: skip
        return [name for _, _, name in sorted(due)]

    @rule(
        endpoint=st.sampled_from(ENDPOINTS),
        delay=st.sampled_from([0.0, 0.0, 10.0, 100.0]),
        lifetime=st.sampled_from([math.inf, math.inf, 30.0]),
        dedupe=st.sampled_from([None, None, "a", "b"]),
    )
    def put(self, endpoint: str, delay: float, lifetime: float, dedupe: str | None) -> None:
        name = f"item-{self.acknowledged}"
        twin = next(
            (each for each, item in self.pending().items() if dedupe is not None and item.dedupe == dedupe), None
        )
        draft = Draft(
            name, intent(endpoint=endpoint), endpoint == ENDPOINTS[0], delay=delay, lifetime=lifetime, dedupe=dedupe
        )
        assert self.run(self.store.put(draft)) == (name if twin is None else twin)
        if twin is None:
            now = self.clock.now
            if self.remembers:
                self.seen = max(self.seen, now)
            expires = now + lifetime
            number = 1 + max((item.number for item in self.items.values()), default=self.acknowledged)
            self.items[name] = Item(number, endpoint, min(now + delay, expires), now, expires, dedupe)
            self.acknowledged += 1

    @rule(limit=st.integers(1, 3), skip=st.sampled_from([[], [ENDPOINTS[0]], [ENDPOINTS[1]]]))
    def claim(self, limit: int, skip: list[str]) -> None:
        now = self.clock.now
        if now < self.seen - 60:
            for item in self.pending().values():
                item.due = min(item.due, now)
        self.seen = now
        expected = self.claimable(skip)[:limit]
        entries = self.run(self.store.claim(ORIGIN, limit=limit, seconds=LEASE, skip=skip))
        assert sorted(entry.id for entry in entries) == sorted(expected)
        for entry in entries:
            item = self.items[entry.id]
            assert entry.lease not in item.leases
            assert entry.expired == (item.expires <= now)
            item.lease, item.due = entry.lease, now + LEASE
            item.leases.append(entry.lease)
            item.attempts += 1
            assert entry.attempts == item.attempts

    @precondition(lambda self: any(item.leases for item in self.items.values()))
    @rule(data=st.data(), verb=st.sampled_from(["ack", "bury", "retry_at", "uncounted", "extend"]))
    def conclude(self, data: st.DataObject, verb: str) -> None:
        held = [(name, lease) for name, item in self.items.items() for lease in item.leases]
        name, lease = data.draw(st.sampled_from(held))
        item, now, store = self.items[name], self.clock.now, self.store
        holds = item.state == "pending" and item.lease == lease
        if verb == "ack":
            done = self.run(store.ack(name, lease, status=200, body=b"x"))
        elif verb == "bury":
            done = self.run(store.bury(name, lease, error="refused", status=422))
        elif verb == "extend":
            done = self.run(store.extend(name, lease, LEASE))
        else:
            done = self.run(store.retry_at(name, lease, 20.0, error="later", counted=verb == "retry_at"))
        assert done == holds
        if not holds:
            return
        if verb in {"ack", "bury"}:
            item.state, item.lease = "delivered" if verb == "ack" else "dead", None
            item.records += 1
        elif verb == "extend":
            item.due = now + LEASE
        else:
            item.lease, item.due = None, min(now + 20.0, item.expires)
            item.attempts -= verb == "uncounted"

    @rule()
    def crash(self) -> None:
        """Everybody who held a lease is gone; where the store outlives its process, it is opened anew."""
        for item in self.items.values():
            item.leases = []
        if self.durable:
            self.run(self.store.aclose())
            self.store = self.make(self.folder, self.clock)
            self.run(self.store.stats())
            if not self.remembers:
                self.seen = max((item.created for item in self.pending().values()), default=self.clock.now)

    @rule(seconds=st.sampled_from([1.0, 10.0, LEASE, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(seconds=st.sampled_from([-90_000.0, -3600.0, -1.0, 86_400.0]))
    def jump(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def revive(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.items)))
        item = self.items[name]
        free = item.state == "dead" or (item.state == "pending" and item.lease is None)
        assert self.run(self.store.revive(name)) == free
        if free:
            item.records -= item.state == "dead"
            item.state, item.due, item.attempts, item.expires = "pending", self.clock.now, 0, math.inf
            item.dedupe = None

    @precondition(lambda self: self.items)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.items)))
        assert self.run(self.store.drop(name))
        del self.items[name]
        self.forgotten += 1

    @invariant()
    def nothing_is_lost_and_nothing_counts_twice(self) -> None:
        stats = self.run(self.store.stats())
        assert stats.pending + stats.delivered + stats.dead + self.forgotten == self.acknowledged
        entries = {entry.id: entry for entry in self.run(self.store.page())}
        assert entries.keys() == self.items.keys()
        for name, item in self.items.items():
            entry = entries[name]
            assert (entry.state, entry.attempts, entry.lease) == (item.state, item.attempts, item.lease)
            assert item.records == (item.state != "pending")


def check(kind: str, *, examples: int, steps: int, remembers: bool = False) -> None:
    """Hold the store called *kind* against its model."""
    model = type(f"{kind.title()}Model", (OutboxModel,), {"kind": kind, "remembers": remembers})
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.timeout(180)  # Thousands of commits, which are slow where others work on the same disk.
@pytest.mark.parametrize("kind", STORES)
def test_the_store_does_what_its_model_does(kind: str) -> None:
    """Put, claim, extend, ack, retry, bury, revive, drop, crash, wait, jump: in any order, no item lost or settled twice."""
    check(kind, examples=30, steps=25)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", STORES)
def test_the_store_does_what_its_model_does_at_length(kind: str) -> None:
    """The same, for thousands of steps."""
    model = type(f"{kind.title()}Model", (OutboxModel,), {"kind": kind})
    run_state_machine_as_test(model, settings=settings(max_examples=1500, stateful_step_count=50, deadline=None))
