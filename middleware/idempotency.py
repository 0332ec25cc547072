"""One Idempotency-Key per logical call, the same on each attempt."""

import secrets
from collections.abc import Awaitable, Callable, Collection

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware.errors import InvalidRequest


class Idempotency:
    """Attach an idempotency key, so that a request that changes something may be sent twice.

    A key of the caller's own (``idempotency_key=`` of an ``ApiClient``'s call, or the header) is used for any method.
    One is made for ``methods`` only, and for none by default: a server that ignores the header would carry out a resent
    POST twice. The key goes to the client's own origin only. List it outside ``Retry``, which then sends the same key
    each time.

    Args:
        methods: Methods that get a key of ours; name those that the API honours one for, as ``{"POST", "PATCH"}``.
        endpoints: Endpoints (``"POST /payments"``) that get one; None for every endpoint of ``methods``.
        header: Name of the header.
        quoted: Send the key as a structured-field string, in quotes, as
            draft-ietf-httpapi-idempotency-key-header-07 section 2.1 wants it; most servers of today expect it plain.
        make: Makes a key: unique, printable ASCII.

    Raises:
        ValueError: An option is out of its range.
        InvalidRequest: (from a call) The key is not fit for a header.
    """

    def __init__(
        self,
        *,
        methods: Collection[str] = (),
        endpoints: Collection[str] | None = None,
        header: str = "Idempotency-Key",
        quoted: bool = False,
        make: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        if isinstance(methods, str):
            raise TypeError(f"methods must be a collection of methods, got the string {methods!r}")
        if not header or not header.isascii() or not header.replace("-", "").isalnum():
            raise ValueError(f"header must be the name of a header, got {header!r}")
        self._methods = frozenset(method.upper() for method in methods)
        self._endpoints = None if endpoints is None else frozenset(endpoints)
        self._header = header
        self._quoted = quoted
        self._make = make

    def __repr__(self) -> str:
        methods = ", ".join(sorted(self._methods))
        endpoints = "" if self._endpoints is None else f", endpoints={sorted(self._endpoints)}"
        quoted = ", quoted=True" if self._quoted else ""
        return f"Idempotency(methods=[{methods}]{endpoints}{quoted})"

    def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> Awaitable[ClientResponse]:
        """Send *request* with the call's key, where it has one or needs one."""
        call = joined()
        if call is None:
            return opened(self, request, handler)
        given = request.headers.get(self._header)
        if given is not None or call.idempotency_key is not None or call.method in self._methods:
            self._attach(call, request, given)
        # No coroutine of its own: there is nothing to do once the request is on its way.
        return handler(request)

    def _attach(self, call: Call, request: ClientRequest, given: str | None) -> None:
        if call.origin is not None and request.url.origin() != call.origin:
            request.headers.pop(self._header, None)
            return
        if call.idempotency_key is None:
            if given is not None:
                call.idempotency_key = given
            elif self._endpoints is None or call.endpoint in self._endpoints:
                call.idempotency_key = self._make()
        if call.idempotency_key is not None:
            request.headers[self._header] = self._line(call.idempotency_key)

    def _line(self, key: str) -> str:
        if not key or not key.isascii() or not key.isprintable():
            raise InvalidRequest("idempotency_key must be printable ASCII and not empty (value not shown)")
        if not self._quoted or key.startswith('"'):
            return key
        # RFC 9651 section 3.3.3: backslash and quote are escaped, nothing else.
        escaped = key.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
