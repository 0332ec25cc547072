"""What could not be sent now is kept, to be sent later."""

import logging
from collections.abc import Collection

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from apiclient.middleware._body import replayable
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._transport import transport_error
from apiclient.middleware.errors import ApiError, Deferred, OutboxError
from apiclient.middleware.intent import KEPT_HEADERS, Intent, IntentStore

_CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
# A credential that the caller put into the query would be stored with the path.
_CREDENTIAL_NAMES = frozenset(
    {"accesskey", "accesstoken", "apikey", "auth", "authorization", "authtoken", "clientsecret", "idtoken", "jwt",
     "key", "passwd", "password", "pwd", "refreshtoken", "secret", "session", "sessionid", "sig", "signature", "token",
     "xamzcredential", "xamzsecuritytoken", "xamzsignature", "xapikey"}
)  # fmt: skip


class Defer:
    """Put a call that failed recoverably into an outbox, and raise ``Deferred`` with its ticket.

    Only a call that says so (``defer=True``), or whose endpoint is listed, and that may be sent more than
    once (an idempotent method, or a key) is deferred. No credential is kept: of the headers only those listed,
    and a query that seems to hold a credential is not kept at all.

    Args:
        outbox: Keeps the requests.
        endpoints: Endpoints (``"POST /orders"``) that are deferred without being asked.
        headers: Headers that are kept, in addition to ``KEPT_HEADERS``.
        query: Names that the query of a deferred call may have; None means any but those that look like a
            credential's (``token``, ``api_key``, ``signature`` ...).

    Raises:
        ValueError: ``headers`` has one that carries credentials.
        Deferred: (from a call) It is in the outbox; ``ticket`` identifies it.
        OutboxError: (from a call) It failed, and the outbox did not take it either; raised from the failure.
    """

    def __init__(
        self,
        outbox: IntentStore,
        *,
        endpoints: Collection[str] = (),
        headers: Collection[str] = (),
        query: Collection[str] | None = None,
    ) -> None:
        for name, value in (("endpoints", endpoints), ("headers", headers), ("query", query)):
            if isinstance(value, str):
                raise TypeError(f"{name} must be a collection of names, got the string {value!r}")
        for header in headers:
            if header.lower() in _CREDENTIAL_HEADERS:
                raise ValueError(f"headers must not have {header!r}: credentials are never stored")
        self._outbox = outbox
        self._endpoints = frozenset(endpoints)
        self._headers = tuple(headers)
        self._query = None if query is None else frozenset(query)

    def __repr__(self) -> str:
        query = "" if self._query is None else f", query={sorted(self._query)!r}"
        return f"Defer({self._outbox!r}, endpoints={sorted(self._endpoints)!r}, headers={list(self._headers)!r}{query})"

    def into(self, outbox: IntentStore) -> "Defer":
        """Return the same, with another outbox."""
        return Defer(outbox, endpoints=self._endpoints, headers=self._headers, query=self._query)

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, or keep it for later."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        if not (call.endpoint in self._endpoints if call.defer is None else call.defer):
            return await handler(request)
        whole = replayable(request)
        try:
            return await handler(request)
        except Exception as failure:  # noqa: BLE001 - raised again where it is not ours to defer
            # Without a Retry inside, what the wire raised comes here as it is.
            error = failure if isinstance(failure, ApiError) else transport_error(failure, repeatable=call.repeatable)
            try:
                if error is None or not error.recoverable or isinstance(error, Deferred) or not call.repeatable:
                    raise
                if call.origin is not None and request.url.origin() != call.origin:
                    # A redirect led elsewhere: what failed is not this client's to repeat.
                    raise
                if error is not failure:
                    error.__cause__ = failure
                ticket = await self._keep(call, request, error, whole=whole)
                raise Deferred(
                    f"Kept in the outbox after {type(error).__name__}", ticket=ticket, retry_after=error.retry_after
                ) from error
            finally:
                # Its traceback holds this frame, which must not hold it.
                del error

    async def _keep(self, call: Call, request: ClientRequest, error: ApiError, *, whole: bool) -> object:
        try:
            if not whole or not replayable(request):
                raise OutboxError(
                    "The body can be read only once, and is no longer there to be stored",
                    hint="Give bytes, or buffer_body=True",
                )
            self._refuse_credentials(request)
            ticket = await self._outbox.put(await self._intent(call, request), error=_cause(error))
        except ApiError as refusal:
            call.emit(logging.ERROR, "outbox.refused", error_type=type(error).__name__, reason=refusal.message)
            refusal.retry_after = error.retry_after
            raise refusal from error
        call.emit(
            logging.WARNING,
            "outbox.deferred",
            error_type=type(error).__name__,
            ticket=getattr(ticket, "id", None),
            attempts=call.attempts,
        )
        return ticket

    def _refuse_credentials(self, request: ClientRequest) -> None:
        for name in request.url.query:
            plain = "".join(letter for letter in name.lower() if letter.isalnum())
            if plain in _CREDENTIAL_NAMES if self._query is None else name not in self._query:
                raise OutboxError(
                    f"The query's parameter {name!r} may not be stored",
                    hint="Let credentials= attach it, or list it in Defer(query=...) if it is no secret",
                )

    async def _intent(self, call: Call, request: ClientRequest) -> Intent:
        kept = [name for name in (*KEPT_HEADERS, *self._headers) if name in request.headers]
        if getattr(request, "compress", None):
            # aiohttp compresses on the way out: what is kept is the plain body.
            kept.remove(hdrs.CONTENT_ENCODING)
        return Intent(
            method=request.method,
            origin=str(request.url.origin()),
            path=request.url.raw_path_qs,
            endpoint=call.endpoint,
            headers=tuple((name, value) for name in kept for value in request.headers.getall(name)),
            body=await request.body.as_bytes() if request.body else b"",
            idempotency_key=call.idempotency_key,
        )


def _cause(error: ApiError) -> str:
    return f"{type(error).__name__}: {error.message}"
