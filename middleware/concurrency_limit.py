"""A bulkhead: so many requests at once, and no more."""

import asyncio
from collections.abc import Hashable
from typing import Literal

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import joined, opened
from apiclient.middleware._gate import Gate
from apiclient.middleware._keyed import Keyed
from apiclient.middleware.errors import RateLimited


class ConcurrencyLimit:
    """Bound the requests under way to an endpoint or an origin, so that a slow one cannot take all connections.

    Beyond the limit calls wait, by ``priority`` and then in order; beyond the queue they are refused at once. A place
    is held until the handler returns: with a buffered call of an ``ApiClient`` until the body is there, else until the
    head of the answer is. List it inside ``Retry``, so that no place is held during a backoff.

    Args:
        limit: Requests under way at once.
        per: ``"endpoint"`` or ``"origin"``.
        queue: Calls that may wait; 0 refuses at once.

    Raises:
        ValueError: An option is out of its range.
        RateLimited: (from a call) The queue is full; nothing was sent.
    """

    def __init__(self, limit: int, *, per: Literal["endpoint", "origin"] = "endpoint", queue: int = 1000) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit!r}")
        if queue < 0:
            raise ValueError(f"queue must be at least 0, got {queue!r}")
        if per not in {"endpoint", "origin"}:
            raise ValueError(f"per must be 'endpoint' or 'origin', got {per!r}")
        self._limit = limit
        self._per = per
        self._queue = queue
        self._gates: Keyed[Hashable, Gate] = Keyed(lambda: Gate(limit, queue))

    def __repr__(self) -> str:
        return f"ConcurrencyLimit({self._limit}, per={self._per!r}, queue={self._queue})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* once there is a place for it."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        began = call.time()
        key: Hashable = call.key if self._per == "endpoint" else request.url.origin()
        gate = self._gates.get(key, began)
        try:
            turn = gate.enter(call.priority)
        except asyncio.QueueFull:
            raise RateLimited(
                f"{self._limit} requests are under way and {self._queue} wait: the queue is full",
                hint="Make fewer calls at once, or allow more by ConcurrencyLimit",
            ) from None
        if turn is not None:
            try:
                await turn
            except BaseException:
                gate.abandon(turn)
                raise
            finally:
                call.waited("queue", call.time() - began)
        try:
            return await handler(request)
        finally:
            gate.leave()
