"""What an outbox needs of the place where it keeps its items."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from apiclient.middleware.intent import Intent

State = Literal["pending", "delivered", "dead"]
STATES: tuple[State, ...] = ("pending", "delivered", "dead")
"""``pending``: still to be delivered, or being delivered. The other two are final."""


class Draft(NamedTuple):
    """An item to be stored.

    Attributes:
        id: Unique.
        intent: The request.
        ordered: Whether it must wait until every item of its origin and endpoint that was stored before it is final.
        delay: Seconds from now before which it is not delivered.
        lifetime: Seconds from now after which it is not delivered any more.
        dedupe: Of two pending items of one origin with the same one, the later is not stored.
        error: Why it was not delivered at once.
    """

    id: str
    intent: Intent
    ordered: bool = False
    delay: float = 0.0
    lifetime: float = math.inf
    dedupe: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored item. Times are in Unix seconds of the store's clock.

    Attributes:
        id: Names it.
        number: Grows in the order of storing.
        intent: The request.
        state: See ``State``.
        ordered: See ``Draft``.
        created: When it was stored.
        due: Before which it is not claimed (again): when a delay or a lease ends.
        expires: When it is too late to deliver it; infinite for never.
        attempts: How often delivery was begun.
        lease: Held by whoever delivers it now, or None.
        expired: Whether it was too late already when it was claimed.
        error: Of the last attempt, or None.
        status: Of the answer that made it final, or None where none did.
        body: Beginning of that answer's body.
        settled: When it became final, or None.
    """

    id: str
    number: int
    intent: Intent
    state: State = "pending"
    ordered: bool = False
    created: float = 0.0
    due: float = 0.0
    expires: float = math.inf
    attempts: int = 0
    lease: str | None = None
    expired: bool = False
    error: str | None = None
    status: int | None = None
    body: bytes = b""
    settled: float | None = None

    def __repr__(self) -> str:
        return f"<Entry {self.id} {self.state} {self.intent.endpoint} attempts={self.attempts}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """How much there is.

    Attributes:
        pending: Items still to be delivered, those being delivered included.
        leased: Pending items that somebody delivers just now.
        delivered: Delivered items still kept.
        dead: Dead letters.
        oldest: Age in seconds of the oldest pending item; 0 where there is none.
        endpoints: Pending items by origin and endpoint.
    """

    pending: int = 0
    leased: int = 0
    delivered: int = 0
    dead: int = 0
    oldest: float = 0.0
    endpoints: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])


@runtime_checkable
class OutboxStore(Protocol):
    """Keeps items, and hands each of them to one claimant at a time.

    Any number of processes may work on one store. An item that is claimed carries a lease; whoever lets it run
    out may lose the item to the next claimant, and can then neither extend nor record anything: ``extend``,
    ``ack``, ``retry_at`` and ``bury`` return False where the lease is not the item's present one. Times run by
    the store's own clock, and a clock that is set back by more than a minute makes items due rather than stuck.

    Every operation raises ``OutboxError`` where it cannot be done, and within a bounded time.
    """

    async def put(self, draft: Draft) -> str:
        """Store *draft* durably; return its id, or that of the pending item that it duplicates."""
        ...

    async def claim(self, origin: str, *, limit: int, seconds: float, skip: Collection[str] = ()) -> list[Entry]:
        """Lease at most *limit* items of *origin* that are due, the longest due first, for *seconds*.

        Counts an attempt on each, and returns them in the order of storing. Of an ordered endpoint only the oldest
        pending item can be claimed.

        Args:
            origin: Whose items.
            limit: Most items.
            seconds: Length of the lease.
            skip: Endpoints of which none is wanted.
        """
        ...

    async def extend(self, item: str, lease: str, seconds: float) -> bool:
        """Let the lease end *seconds* from now."""
        ...

    async def ack(self, item: str, lease: str, *, status: int | None, body: bytes = b"") -> bool:
        """Record that the item was delivered, and what was answered."""
        ...

    async def retry_at(self, item: str, lease: str, delay: float, *, error: str | None, counted: bool = True) -> bool:
        """Give the item back, to be claimed *delay* seconds from now or when it expires.

        Args:
            item: Its id.
            lease: Of the claimant.
            delay: In seconds.
            error: What happened; None leaves what is there.
            counted: Whether this was an attempt; if not, the count of ``claim`` is taken back.
        """
        ...

    async def bury(self, item: str, lease: str, *, error: str, status: int | None = None, body: bytes = b"") -> bool:
        """Record that the item will not be delivered, and why."""
        ...

    async def stats(self) -> Stats:
        """Count."""
        ...

    async def page(self, state: State | None = None, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return at most *limit* items with a number above *after*, by number."""
        ...

    async def get(self, item: str) -> Entry | None:
        """Return one item, or None where there is no such."""
        ...

    async def revive(self, item: str) -> bool:
        """Make a dead or a waiting item pending and due now, with no attempts and no expiry; return whether it was."""
        ...

    async def drop(self, item: str) -> bool:
        """Forget an item, whatever its state; return whether it was there."""
        ...

    async def purge(self, state: State, seconds: float) -> int:
        """Forget the items that have been in the final *state* for *seconds* or longer; return how many."""
        ...

    async def aclose(self) -> None:
        """Let go of files and connections; the next operation opens them anew."""
        ...
