"""Limit each attempt, so that a stalled one leaves time for another."""

import asyncio

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import joined, opened
from apiclient.middleware._timer import Wheel
from apiclient.middleware.errors import AttemptTimedOut


class AttemptTimeout:
    """Bound one wire request: waiting for a connection, connecting, sending, and the answer's head.

    In an ``ApiClient``'s pipeline a buffered body is read inside the attempt and so within the limit; of a
    streamed one, or on a bare session, only the head is.

    Args:
        seconds: Limit of one attempt, above 0. Exact up to 5 s; above that an attempt may last up to 100 ms
            longer, because attempts share timers.

    Raises:
        ValueError: ``seconds`` is not above 0.
        AttemptTimedOut: (from a call) The attempt took longer. The request may have been carried out.
    """

    def __init__(self, seconds: float = 30.0) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, got {seconds!r}")
        self._seconds = seconds
        self._wheel = Wheel()

    def __repr__(self) -> str:
        return f"AttemptTimeout({self._seconds:g})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and give up on it when its time is over."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        limit = self._wheel.start(self._seconds)
        try:
            return await handler(request)
        except asyncio.CancelledError:
            if limit.ended_it():
                raise AttemptTimedOut(f"No answer within the {self._seconds:g} s of the attempt") from None
            raise
        finally:
            limit.stop()
