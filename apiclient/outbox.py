"""Calls that could not be made now, kept to be made later."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from apiclient.middleware.errors import ApiError
from apiclient.middleware.intent import Intent

if TYPE_CHECKING:
    from apiclient.client import ApiClient


class Outcome(NamedTuple):
    """What became of a deferred call.

    Attributes:
        ok: Whether it was delivered.
        status: Of the answer, or None where none arrived.
        error: Why it was given up, or None.
    """

    ok: bool
    status: int | None
    error: str | None = None


class Ticket:
    """Stands for one stored request.

    Attributes:
        id: Names it in the outbox.
    """

    __slots__ = ("_done", "id")

    def __init__(self, ticket_id: str) -> None:
        self.id = ticket_id
        self._done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Ticket {self.id}{' done' if self._done.done() else ''}>"

    async def wait(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109 - as asyncio.wait_for has it
        """Return the outcome once this process has delivered the request.

        Args:
            timeout: Most seconds to wait, or None.

        Raises:
            TimeoutError: It was not delivered in that time.
        """
        return await asyncio.wait_for(asyncio.shield(self._done), timeout)

    def settle(self, outcome: Outcome) -> None:
        """Tell everybody who waits; the first outcome stands."""
        if not self._done.done():
            self._done.set_result(outcome)


class _Item:
    __slots__ = ("created", "error", "intent", "ticket", "tries")

    def __init__(self, intent: Intent, ticket: Ticket, error: str | None, created: float) -> None:
        self.intent = intent
        self.ticket = ticket
        self.error = error
        self.created = created
        self.tries = 0


class MemoryOutbox:
    """Keeps requests in memory, in order: it survives an outage of the API, not the end of the process.

    Args:
        capacity: Most requests kept.
        now: Wall clock, in Unix seconds.

    Raises:
        ValueError: ``capacity`` is below 1.
    """

    def __init__(self, *, capacity: int = 10_000, now: Callable[[], float] = time.time) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity!r}")
        self._capacity = capacity
        self._now = now
        self._items: OrderedDict[str, _Item] = OrderedDict()

    def __repr__(self) -> str:
        return f"MemoryOutbox({len(self)} of {self._capacity})"

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, intent: Intent, *, error: str | None = None) -> Ticket:
        """Keep *intent* until ``drain`` delivers it.

        Raises:
            ApiError: The outbox is full.
        """
        if len(self._items) >= self._capacity:
            raise ApiError(
                f"The outbox holds {self._capacity} requests and takes no more",
                hint="Drain it, or give it a larger capacity",
                recoverable=True,
            )
        ticket = Ticket(secrets.token_hex(8))
        self._items[ticket.id] = _Item(intent, ticket, error, self._now())
        return ticket

    async def drain(self, client: "ApiClient") -> int:
        """Send everything once through *client*'s chain, in order; return how many were delivered.

        A request that fails recoverably stays; one that is refused for good leaves, and its ticket says why.
        """
        delivered = 0
        for item in list(self._items.values()):
            item.tries += 1
            outcome = await _deliver(client, item.intent)
            if outcome is None:
                continue
            self._items.pop(item.ticket.id, None)
            item.ticket.settle(outcome)
            delivered += outcome.ok
        return delivered


async def _deliver(client: "ApiClient", intent: Intent) -> Outcome | None:
    try:
        response = await client.send(intent)
    except ApiError as error:
        if error.recoverable:
            return None
        return Outcome(ok=False, status=getattr(error, "status", None), error=str(error))
    return Outcome(ok=response.status < 400, status=response.status)
