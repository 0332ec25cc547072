"""What the caller of a deferred call holds in place of a response."""

import asyncio
from typing import NamedTuple


class Outcome(NamedTuple):
    """What became of a deferred call.

    Attributes:
        ok: Whether it was delivered.
        status: Of the answer, or None where none arrived.
        error: Why it was given up, or None.
        body: Beginning of the answer's body.
    """

    ok: bool
    status: int | None
    error: str | None = None
    body: bytes = b""


class Ticket:
    """Stands for one stored request.

    Attributes:
        id: Names it in the outbox.
    """

    __slots__ = ("__weakref__", "_done", "_outcome", "id")

    def __init__(self, ticket_id: str) -> None:
        self.id = ticket_id
        self._outcome: Outcome | None = None
        self._done: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Ticket {self.id}{'' if self._outcome is None else ' done'}>"

    async def wait(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109 - as asyncio.wait_for has it
        """Return the outcome once this process has delivered the request, given it up or dropped it.

        What another process delivers is not seen here: look it up with ``outbox.get(ticket.id)``.

        Args:
            timeout: Most seconds to wait, or None.

        Raises:
            TimeoutError: It was not settled in that time.
        """
        if self._done is None:
            self._done = asyncio.Event()
        async with asyncio.timeout(timeout):
            while self._outcome is None:
                await self._done.wait()
        return self._outcome

    def settle(self, outcome: Outcome) -> None:
        """Tell everybody who waits; the first outcome stands."""
        if self._outcome is None:
            self._outcome = outcome
            if self._done is not None:
                self._done.set()
