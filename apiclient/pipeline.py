"""The chain: an immutable sequence of middlewares that is itself a native aiohttp middleware."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import isawaitable
from typing import Any, overload

from aiohttp import (
    ClientHandlerType,
    ClientMiddlewareType,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    MultipartWriter,
    hdrs,
)

from apiclient.middleware import (
    AccessLog,
    Alert,
    AttemptTimeout,
    Authorize,
    AuthRefresh,
    CircuitBreaker,
    ConcurrencyLimit,
    ContentType,
    Deadline,
    Defer,
    Fallback,
    Idempotency,
    RateLimit,
    Retry,
    ScopeStepUp,
    StatusErrors,
    Telemetry,
)
from apiclient.middleware._body import read_body
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._departure import Departure
from apiclient.middleware._ending import error_type
from apiclient.middleware._severed import check, watch
from apiclient.middleware._transport import transport_error
from apiclient.middleware._whole import may_go_again
from apiclient.middleware.credential import Credential
from apiclient.middleware.errors import ApiError
from apiclient.redirects import REDIRECTS

_DEBUG = logging.DEBUG
_MOST_DEAD = 100
_RULES: tuple[tuple[type[Any], type[Any], str], ...] = (
    (AccessLog, Retry, "it would log attempts instead of calls"),
    (Alert, Retry, "it would count attempts instead of calls"),
    (Defer, Retry, "it would put a request into the outbox that a retry may still bring through"),
    (Defer, StatusErrors, "it defers errors, and would see only responses"),
    (StatusErrors, Retry, "Retry would see an exception in place of the response that it judges"),
    (StatusErrors, CircuitBreaker, "CircuitBreaker would see an exception in place of the response that it judges"),
    (StatusErrors, ScopeStepUp, "ScopeStepUp would never see a 403"),
    (StatusErrors, AuthRefresh, "AuthRefresh would never see a 401"),
    (StatusErrors, ContentType, "ContentType would never see a 415"),
    (StatusErrors, RateLimit, "RateLimit would never see a 429"),
    (Deadline, Retry, "each attempt would get the time that is meant for the whole call"),
    (Deadline, RateLimit, "waiting for the quota would not count against the call's time"),
    (Idempotency, Retry, "each attempt would get a key of its own, and the server could not tell that they are one"),
    (Retry, CircuitBreaker, "a whole series of retries would count as one, and an open circuit would not stop it"),
    (Retry, AuthRefresh, "a refreshed token would cost a retry attempt"),
    (Retry, RateLimit, "retries would leave without a slot of the quota"),
    (Retry, Authorize, "a retry would carry the token of the first attempt, which may have expired"),
    (Retry, AttemptTimeout, "one attempt's time would have to do for all of them"),
    (ScopeStepUp, Authorize, "the resend would carry the old token again"),
    (AuthRefresh, Authorize, "the resend would carry the rejected token again"),
    (ScopeStepUp, RateLimit, "the resend would leave without a slot of the quota"),
    (AuthRefresh, RateLimit, "the resend would leave without a slot of the quota"),
    (ContentType, RateLimit, "the resend would leave without a slot of the quota"),
    (RateLimit, Authorize, "the token could expire while the request waits for the quota"),
    (RateLimit, AttemptTimeout, "waiting for the quota would use up the attempt's time"),
    (Authorize, AttemptTimeout, "waiting for a token would use up the attempt's time"),
    (Retry, Telemetry, "one span would hide several wire requests"),
    (RateLimit, Telemetry, "the span would contain the wait for the quota"),
    (Fallback, StatusErrors, "Fallback answers errors, and would see only responses"),
    (Fallback, Retry, "Fallback would answer for a failure that a retry may still settle"),
    (Retry, ConcurrencyLimit, "a call would keep its place while it waits to be sent again"),
    (
        ConcurrencyLimit,
        RateLimit,
        "requests would wait for a place with a slot of the quota running out in their hands",
    ),
)

stand_in: "Callable[[Pipeline], Pipeline] | None" = None
"""Returns what runs in a pipeline's place, while an application is tested (apiclient.testing.set_testing)."""


class Pipeline(Sequence[ClientMiddlewareType]):
    """Middlewares in order, the outermost first; itself a middleware for any aiohttp session.

    Ours and anybody's own mix freely. Changing it gives a new one, and the middlewares, with what they
    have learned, are shared between the two.

    Args:
        middlewares: The outermost first.
        check: Refuse an order known to be wrong.

    Attributes:
        observer: Its ``Telemetry``, which sees whole calls as well, or None.

    Raises:
        TypeError: Something in it is not callable.
        ValueError: The order is known to be wrong, or ``Retry`` is listed twice; the message says why.
    """

    def __init__(self, middlewares: Iterable[ClientMiddlewareType] = (), *, check: bool = True) -> None:
        # A pipeline inside another would count each wire request twice: its parts are taken instead.
        self._middlewares = tuple(
            part for each in middlewares for part in (each if isinstance(each, Pipeline) else (each,))
        )
        self._check = check
        for middleware in self._middlewares:
            if isinstance(middleware, type) or not callable(middleware):
                raise TypeError(f"a pipeline takes middleware instances and async functions, got {middleware!r}")
        if check:
            _refuse_wrong_order(self._middlewares)
        self._enter = _composed(self._middlewares)
        self.observer: Telemetry | None = self.find(Telemetry)
        # The same without Telemetry, for as long as nobody collects what it would tell.
        self._unseen = self._enter if self.observer is None else _composed(tuple(self.without(Telemetry)))

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Run *request* through the whole chain; *handler* is what comes after it."""
        call = joined()
        if call is None:
            return await opened(self if self.observer is None else self._observed, request, handler)
        outer, call.transport, call.bare = call.transport, handler, False
        try:
            if call.buffer_body and request.body:
                await request.body.as_bytes()
            chain = self if stand_in is None else stand_in(self)
            observer = chain.observer
            seen = observer is not None and observer.collects(call.time())
            return await (chain._enter if seen else chain._unseen)(request)  # noqa: SLF001 - of the same class
        except ApiError as error:
            call.stamp(error)
            raise
        except Exception as error:
            own = transport_error(error, repeatable=call.repeatable)
            if own is None:
                raise
            call.stamp(own)
            raise own from error
        finally:
            call.transport = outer

    async def _observed(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        call, observer = joined(), self.observer
        if call is None or observer is None or not observer.collects(call.time()):
            return await self(request, handler)
        return await observer.observe(call, self(request, handler))

    @overload
    def __getitem__(self, index: int) -> ClientMiddlewareType: ...

    @overload
    def __getitem__(self, index: slice) -> "Pipeline": ...

    def __getitem__(self, index: int | slice) -> "ClientMiddlewareType | Pipeline":
        if isinstance(index, slice):
            return Pipeline(self._middlewares[index], check=self._check)
        return self._middlewares[index]

    def __len__(self) -> int:
        return len(self._middlewares)

    def __iter__(self) -> Iterator[ClientMiddlewareType]:
        return iter(self._middlewares)

    def __repr__(self) -> str:
        if not self._middlewares:
            return "Pipeline([])"
        lines = "".join(f"    {_shown(middleware)},\n" for middleware in self._middlewares)
        return f"Pipeline([\n{lines}])"

    def before(self, kind: type[Any], *middlewares: ClientMiddlewareType) -> "Pipeline":
        """Return one with *middlewares* just outside the first of class *kind*.

        Raises:
            LookupError: There is none of that class here.
            ValueError: The new order is known to be wrong.
        """
        return self._spliced(self._find(kind), 0, middlewares)

    def after(self, kind: type[Any], *middlewares: ClientMiddlewareType) -> "Pipeline":
        """Return one with *middlewares* just inside the first of class *kind*; raises as ``before``."""
        return self._spliced(self._find(kind) + 1, 0, middlewares)

    def replace(self, kind: type[Any], *middlewares: ClientMiddlewareType) -> "Pipeline":
        """Return one with *middlewares* in place of the first of class *kind*; raises as ``before``."""
        return self._spliced(self._find(kind), 1, middlewares)

    def without(self, *kinds: type[Any]) -> "Pipeline":
        """Return one without any middleware of the classes *kinds*, whether or not there were any."""
        return Pipeline((each for each in self._middlewares if not isinstance(each, kinds)), check=self._check)

    def find(self, kind: type[Any]) -> Any:
        """Return the first middleware of class *kind*, or None."""
        return next((each for each in self._middlewares if isinstance(each, kind)), None)

    def _find(self, kind: type[Any]) -> int:
        for index, middleware in enumerate(self._middlewares):
            if isinstance(middleware, kind):
                return index
        present = ", ".join(type(each).__name__ for each in self._middlewares)
        raise LookupError(f"no {kind.__name__} in this pipeline; it has: {present}")

    def _spliced(self, index: int, removed: int, added: tuple[ClientMiddlewareType, ...]) -> "Pipeline":
        return Pipeline((*self._middlewares[:index], *added, *self._middlewares[index + removed :]), check=self._check)


def default_pipeline(
    *,
    credentials: Credential | None = None,
    timeout: float = 60.0,
    outbox: Any = None,
    telemetry: bool | None = None,
) -> Pipeline:
    """Return the chain of DESIGN order: every policy that has something to do for this client.

    Args:
        credentials: Attached to requests to the client's own origin. None leaves the three authentication
            policies out; one that says ``renewable = False`` (a fixed token or key) leaves ``AuthRefresh`` out,
            and one without ``for_scope`` leaves ``ScopeStepUp`` out.
        timeout: Total seconds of a call.
        outbox: Takes what could not be sent; None leaves ``Defer`` out.
        telemetry: Whether to make spans and durations; None means where opentelemetry-api is installed.
    """
    chain: list[ClientMiddlewareType] = [AccessLog(), Alert()]
    if outbox is not None:
        chain.append(Defer(outbox))
    chain += [StatusErrors(), Deadline(timeout), Idempotency(), Retry(), CircuitBreaker()]
    if credentials is not None and hasattr(credentials, "for_scope"):
        chain.append(ScopeStepUp(credentials))
    if credentials is not None and getattr(credentials, "renewable", True):
        chain.append(AuthRefresh(credentials))
    chain += [ContentType(), RateLimit()]
    if credentials is not None:
        chain.append(Authorize(credentials))
    chain.append(AttemptTimeout())
    if Telemetry.available() if telemetry is None else telemetry:
        chain.append(Telemetry())
    return Pipeline(chain)


def _composed(middlewares: tuple[ClientMiddlewareType, ...]) -> ClientHandlerType:
    handler: ClientHandlerType = _send
    for middleware in reversed(middlewares):
        handler = _link(middleware, handler)
    return handler


def _link(middleware: ClientMiddlewareType, inner: ClientHandlerType) -> ClientHandlerType:
    # Not a coroutine function itself: one frame less for every layer and every request.
    call: Callable[..., Any] = middleware if hasattr(middleware, "__code__") else getattr(middleware, "__call__")  # noqa: B004, B009

    def link(request: ClientRequest) -> Any:
        return call(request, inner)

    async def guarded(request: ClientRequest) -> Any:
        # One of somebody's own: what it forgot would otherwise come to light far from it.
        pending = call(request, inner)
        if not isawaitable(pending):
            raise TypeError(f"{_shown(middleware)} is no middleware: it must be async def, and return a response")
        response: Any = await pending
        if not hasattr(response, "status"):
            raise TypeError(
                f"{_shown(middleware)} returned {type(response).__name__} and no response; "
                "end it with: return await handler(request)"
            )
        return response

    return link if type(middleware).__module__.startswith("apiclient.") else guarded


async def _send(request: ClientRequest, dead: int = 0) -> ClientResponse:
    """Stand at the inner end: count the wire request, time it, and read the body of a buffered call.

    Args:
        request: To be sent.
        dead: Kept connections on which it went out before, and which were dead. They say nothing about the server, and
            so no policy hears of them.
    """
    call = joined()
    if call is None or call.transport is None:
        raise RuntimeError("the request left the call that it belongs to; send it from the call's own task")
    call.wire += 1
    call.body_read = False
    began = call.time()
    response: ClientResponse | None = None
    failure: BaseException | None = None
    departure: Any = None
    if not call.repeatable:
        # What never left may be sent again, whatever ended it.
        departure = Departure(request.response_class)
        request.response_class = departure
    try:
        if call.body is not None and call.wire > 1 and request.body:
            await _renew(request, call.body())
        response = await call.transport(request)
        if response.status < 200:
            _refuse_switch(request, response)
        # A short body has mostly come with the head: then the connection's end cannot touch it any more.
        arrived = response.content.is_eof()
        if not arrived:
            watch(response)
        if call.buffered and response.status < 400 and response.status not in REDIRECTS:
            await read_body(response, call.max_body)
            if not arrived:
                check(response)
            call.body_read = True
        return response
    except BaseException as error:
        failure = error
        if dead == _MOST_DEAD or not may_go_again(error, call, request):
            raise
    finally:
        spent = call.time() - began
        call.network += spent
        call.aborted = failure is not None and (departure is None or departure.left)
        if departure is not None:
            request.response_class = departure.original
        if call.watchers or call.log.enabled(_DEBUG):
            _announce(call, None if response is None else response.status, failure, spent)
        del failure  # It holds this frame through its traceback.
    return await _send(request, dead + 1)


async def _renew(request: ClientRequest, body: Any) -> None:
    await request.update_body(body)
    if isinstance(request.body, MultipartWriter):
        # A new form has a boundary of its own, and aiohttp leaves the type that is declared already.
        request.headers[hdrs.CONTENT_TYPE] = request.body.headers[hdrs.CONTENT_TYPE]


def _refuse_switch(request: ClientRequest, response: ClientResponse) -> None:
    """Take no 1xx for an answer, unless the request asked for another protocol."""
    if hdrs.UPGRADE not in request.headers:
        # aiohttp keeps a connection that switched protocols until somebody closes it.
        response.close()
        raise ClientResponseError(
            response.request_info, (), status=response.status, message=f"Final status {response.status}"
        )


def _announce(call: Call, status: int | None, failure: BaseException | None, spent: float) -> None:
    failed = None if failure is None else error_type(failure)
    call.emit(_DEBUG, "http.attempt", attempt=call.wire, status=status, error_type=failed, duration_s=round(spent, 6))


def _refuse_wrong_order(middlewares: tuple[ClientMiddlewareType, ...]) -> None:
    kinds = [type(each) for each in middlewares]
    if sum(kind is Retry for kind in kinds) > 1:
        raise ValueError(
            "Retry is listed twice: four attempts of four are sixteen requests; "
            "keep one, or pass check=False if it is meant so"
        )
    for outer, inner, reason in _RULES:
        if outer in kinds and inner in kinds and kinds.index(inner) < kinds.index(outer):
            raise ValueError(
                f"{inner.__name__} must not be listed before {outer.__name__}: {reason}; "
                f"swap them, or pass check=False if it is meant so"
            )


def _shown(middleware: ClientMiddlewareType) -> str:
    if hasattr(middleware, "__code__"):
        return f"{getattr(middleware, '__qualname__', middleware)}"
    return repr(middleware)
