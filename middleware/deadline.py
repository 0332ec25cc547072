"""Give the whole call a time, waits and all attempts included."""

import asyncio
import math

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._timer import Wheel
from apiclient.middleware.errors import DeadlineExceeded, TransportOutcomeUnknown


class Deadline:
    """End the call when its total time is used up, whatever it is doing then.

    Policies inside it see the deadline (``current_call().deadline``) and do not begin a wait that would
    outlast it: they fail at once and say how long they would have waited.

    Args:
        seconds: Total time of a call, above 0; infinite for none. A per-call ``timeout=`` of an ``ApiClient``
            wins. Exact up to 5 s, up to 100 ms late above that.

    Raises:
        ValueError: ``seconds`` is not above 0.
        DeadlineExceeded: (from a call) Time is up, or a wait would not fit.
        TransportOutcomeUnknown: (from a call) Time was up while a POST or PATCH without a key was under way.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, got {seconds!r}")
        self._seconds = seconds
        self._wheel = Wheel()

    def __repr__(self) -> str:
        return f"Deadline({self._seconds:g})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* within the call's time."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        if call.deadline is None:
            call.deadline = call.started + self._seconds
        remaining = call.deadline - call.time()
        if remaining <= 0:
            raise _exceeded(call)
        limit = self._wheel.start(remaining)
        try:
            return await handler(request)
        except asyncio.CancelledError:
            if not limit.ended_it():
                raise
            if call.aborted and not call.repeatable:
                raise TransportOutcomeUnknown(
                    "The call's time was up before the answer arrived, and the request may have been carried out"
                ) from None
            raise _exceeded(call) from None
        finally:
            limit.stop()


def _exceeded(call: Call) -> DeadlineExceeded:
    total = math.inf if call.deadline is None else call.deadline - call.started
    spent = ", ".join(f"{kind} {seconds:.3g} s" for kind, seconds in call.waits.items())
    where = f" (waited: {spent}; network {call.network:.3g} s)" if spent else f" (network {call.network:.3g} s)"
    return DeadlineExceeded(f"The {total:.3g} s of the call are used up{where}")
