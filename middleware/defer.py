"""What could not be sent now is kept, to be sent later."""

import logging

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware.errors import ApiError, Deferred
from apiclient.middleware.intent import KEPT_HEADERS, Intent, IntentStore


class Defer:
    """Put a call that failed recoverably into an outbox, and raise ``Deferred`` with its ticket.

    Only a call that says so (``defer=True``), or whose endpoint is listed, and that may be sent more than
    once (an idempotent method, or a key) is deferred. If the outbox fails, its error is raised from the
    call's own.

    Args:
        outbox: Keeps the requests.
        endpoints: Endpoints (``"POST /orders"``) that are deferred without being asked.

    Raises:
        Deferred: (from a call) It is in the outbox; ``ticket`` identifies it.
    """

    def __init__(self, outbox: IntentStore, *, endpoints: tuple[str, ...] = ()) -> None:
        self._outbox = outbox
        self._endpoints = frozenset(endpoints)

    def __repr__(self) -> str:
        return f"Defer({self._outbox!r}, endpoints={sorted(self._endpoints)!r})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, or keep it for later."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        if not self._wanted(call):
            return await handler(request)
        try:
            return await handler(request)
        except ApiError as error:
            if not error.recoverable or isinstance(error, Deferred) or not call.repeatable:
                raise
            ticket = await self._outbox.put(await _intent(call, request), error=str(error))
            call.emit(logging.WARNING, "outbox.deferred", error_type=type(error).__name__, ticket=ticket.id)
            raise Deferred(
                f"Kept in the outbox after {type(error).__name__}", ticket=ticket, retry_after=error.retry_after
            ) from error

    def _wanted(self, call: Call) -> bool:
        return call.endpoint in self._endpoints if call.defer is None else call.defer


async def _intent(call: Call, request: ClientRequest) -> Intent:
    return Intent(
        method=request.method,
        path=request.url.raw_path_qs,
        endpoint=call.endpoint,
        headers=tuple((name, request.headers[name]) for name in KEPT_HEADERS if name in request.headers),
        body=await request.body.as_bytes() if request.body else b"",
        idempotency_key=call.idempotency_key,
    )
