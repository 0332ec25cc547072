"""Items kept in memory: for tests, and where an outage is to be survived but not the end of the process."""

import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from apiclient.middleware.errors import OutboxError
from apiclient.stores.outbox_store import Draft, Entry, State, Stats

_STEP_BACK = 60.0


class MemoryOutboxStore:
    """Keeps items in this process.

    Args:
        capacity: Most items kept.
        now: Wall clock, in Unix seconds.

    Raises:
        ValueError: ``capacity`` is below 1.
    """

    def __init__(self, *, capacity: int = 10_000, now: Callable[[], float] = time.time) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity!r}")
        self._capacity = capacity
        self._now = now
        self._items: dict[str, Entry] = {}
        self._dedupe: dict[tuple[str, str], str] = {}
        self._deduped: dict[str, tuple[str, str]] = {}
        self._lanes: dict[tuple[str, str], dict[str, None]] = {}
        self._stored = 0
        self._seen = now()

    def __repr__(self) -> str:
        return f"MemoryOutboxStore({len(self._items)} of {self._capacity})"

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, draft: Draft) -> str:
        """Store *draft*; return its id, or that of the pending item that it duplicates."""
        dedupe = None if draft.dedupe is None else (draft.intent.origin, draft.dedupe)
        if dedupe is not None and dedupe in self._dedupe:
            return self._dedupe[dedupe]
        if len(self._items) >= self._capacity:
            raise OutboxError(
                f"The outbox holds {self._capacity} items and takes no more",
                hint="Deliver or drop some, or give it a larger capacity",
                recoverable=True,
            )
        if draft.id in self._items:
            raise OutboxError(f"The outbox has an item {draft.id!r} already")
        now = self._now()
        self._stored += 1
        expires = now + draft.lifetime
        self._items[draft.id] = Entry(
            id=draft.id,
            number=self._stored,
            intent=draft.intent,
            ordered=draft.ordered,
            created=now,
            due=min(now + draft.delay, expires),
            expires=expires,
            error=draft.error,
        )
        if dedupe is not None:
            self._dedupe[dedupe] = draft.id
            self._deduped[draft.id] = dedupe
        if draft.ordered:
            self._lanes.setdefault((draft.intent.origin, draft.intent.endpoint), {})[draft.id] = None
        return draft.id

    async def claim(self, origin: str, *, limit: int, seconds: float, skip: Collection[str] = ()) -> list[Entry]:
        """Lease at most *limit* items of *origin* that are due, the longest due first, for *seconds*."""
        now = self._clock()
        heads = {next(iter(lane)) for lane in self._lanes.values()}
        due = sorted(
            (
                entry
                for entry in self._items.values()
                if entry.state == "pending"
                and entry.due <= now
                and entry.intent.origin == origin
                and entry.intent.endpoint not in skip
                and (not entry.ordered or entry.id in heads)
            ),
            key=lambda entry: (entry.due, entry.number),
        )
        lease = secrets.token_hex(8)
        return [
            self._change(
                entry.id,
                lease=lease,
                due=now + seconds,
                attempts=entry.attempts + 1,
                expired=entry.expires <= now,
            )
            for entry in sorted(due[:limit], key=lambda entry: entry.number)
        ]

    async def extend(self, item: str, lease: str, seconds: float) -> bool:
        """Let the lease end *seconds* from now."""
        if not self._holds(item, lease):
            return False
        self._change(item, due=self._now() + seconds)
        return True

    async def ack(self, item: str, lease: str, *, status: int | None, body: bytes = b"") -> bool:
        """Record that the item was delivered, and what was answered."""
        return self._holds(item, lease) and self._settle(item, "delivered", error=None, status=status, body=body)

    async def retry_at(self, item: str, lease: str, delay: float, *, error: str | None, counted: bool = True) -> bool:
        """Give the item back, to be claimed *delay* seconds from now or when it expires."""
        if not self._holds(item, lease):
            return False
        entry = self._items[item]
        self._change(
            item,
            lease=None,
            due=min(self._now() + delay, entry.expires),
            error=entry.error if error is None else error,
            attempts=entry.attempts if counted else entry.attempts - 1,
        )
        return True

    async def bury(self, item: str, lease: str, *, error: str, status: int | None = None, body: bytes = b"") -> bool:
        """Record that the item will not be delivered, and why."""
        return self._holds(item, lease) and self._settle(item, "dead", error=error, status=status, body=body)

    async def stats(self) -> Stats:
        """Count."""
        now = self._now()
        pending = [entry for entry in self._items.values() if entry.state == "pending"]
        states = Counter(entry.state for entry in self._items.values())
        return Stats(
            pending=len(pending),
            leased=sum(entry.lease is not None and entry.due > now for entry in pending),
            delivered=states["delivered"],
            dead=states["dead"],
            oldest=max((max(0.0, now - entry.created) for entry in pending), default=0.0),
            endpoints=Counter((entry.intent.origin, entry.intent.endpoint) for entry in pending),
        )

    async def page(self, state: State | None = None, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return at most *limit* items with a number above *after*, by number."""
        found = (entry for entry in self._items.values() if entry.number > after and state in {None, entry.state})
        return sorted(found, key=lambda entry: entry.number)[:limit]

    async def get(self, item: str) -> Entry | None:
        """Return one item, or None where there is no such."""
        return self._items.get(item)

    async def revive(self, item: str) -> bool:
        """Make a dead or a waiting item pending and due now, with no attempts and no expiry; return whether it was."""
        entry = self._items.get(item)
        if entry is None or entry.state == "delivered" or entry.lease is not None:
            return False
        self._change(
            item, state="pending", due=self._now(), attempts=0, expires=math.inf, status=None, body=b"", settled=None
        )
        self._free_name(item)
        lane = (entry.intent.origin, entry.intent.endpoint)
        if entry.ordered and item not in self._lanes.get(lane, {}):
            waiting = [*self._lanes.get(lane, ()), item]
            self._lanes[lane] = dict.fromkeys(sorted(waiting, key=lambda each: self._items[each].number))
        return True

    async def drop(self, item: str) -> bool:
        """Forget an item, whatever its state; return whether it was there."""
        if item not in self._items:
            return False
        self._leave(item)
        del self._items[item]
        return True

    async def purge(self, state: State, seconds: float) -> int:
        """Forget the items that have been in the final *state* for *seconds* or longer; return how many."""
        latest = self._now() - seconds
        old = [
            entry.id
            for entry in self._items.values()
            if entry.state == state and entry.settled is not None and entry.settled <= latest
        ]
        for item in old:
            del self._items[item]
        return len(old)

    async def aclose(self) -> None:
        """Do nothing: the items are kept as long as the store."""

    def _clock(self) -> float:
        now = self._now()
        if now < self._seen - _STEP_BACK:
            for entry in list(self._items.values()):
                if entry.state == "pending":
                    self._change(entry.id, due=min(entry.due, now))
        self._seen = now
        return now

    def _holds(self, item: str, lease: str) -> bool:
        entry = self._items.get(item)
        return entry is not None and entry.state == "pending" and entry.lease == lease

    def _settle(self, item: str, state: State, **changes: Any) -> bool:
        self._leave(item)
        self._change(item, state=state, lease=None, settled=self._now(), **changes)
        return True

    def _leave(self, item: str) -> None:
        intent = self._items[item].intent
        self._free_name(item)
        lane = self._lanes.get((intent.origin, intent.endpoint))
        if lane is not None:
            lane.pop(item, None)
            if not lane:
                del self._lanes[intent.origin, intent.endpoint]

    def _free_name(self, item: str) -> None:
        dedupe = self._deduped.pop(item, None)
        if dedupe is not None:
            del self._dedupe[dedupe]

    def _change(self, item: str, **changes: Any) -> Entry:
        entry = self._items[item] = replace(self._items[item], **changes)
        return entry
