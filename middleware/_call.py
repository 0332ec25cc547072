"""The logical call: what one request of the user's is, across attempts, replays and redirects."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from yarl import URL

from apiclient.middleware._clock import clock_of
from apiclient.middleware._endpoint import endpoint_of
from apiclient.middleware._events import DEFAULT_LOG, EventLog
from apiclient.middleware.credential import Credential, Token
from apiclient.middleware.errors import ApiError, Attempt, DeadlineExceeded, InvalidRequest, RequestSummary, redacted

# RFC 9110 section 9.2.2; QUERY is safe and idempotent as well.
IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})

Middleware = Callable[[ClientRequest, ClientHandlerType], Awaitable[ClientResponse]]
Watcher = Callable[[str, Mapping[str, Any]], None]
# How a call waits. The tests of an application put something quicker here (apiclient.testing.set_testing).
pause: Callable[[float], Awaitable[Any]] = asyncio.sleep


class Call:
    """One logical call, as custom middlewares see it through ``current_call()``.

    It holds no body and no response: asyncio keeps contexts alive with the connections opened in them.

    Attributes:
        id: Short random name of the call, for logs.
        method: Upper case.
        endpoint: ``METHOD template``.
        key: ``(origin, endpoint)``: what per-endpoint state is kept under.
        origin: The client's own origin, the only one that credentials go to; None on a bare session.
        deadline: Time on the loop's clock by which the call must have ended; infinite or None for no such time.
        time: The loop's clock.
        buffered: Whether the response's body is read inside the chain.
        body_read: Whether the response's body has been read inside the chain.
        body: Makes the request's body anew for each attempt, or None.
        buffer_body: Whether the request's body has been taken into memory, so that it can be sent again.
        max_body: Largest response body to read, in bytes after decompression, or None.
        idempotency_key: The call's key, the same on each attempt, or None.
        priority: Higher goes first where there is a queue.
        cost: Slots of a quota that one wire request takes.
        wire: Wire requests so far, counted where they leave.
        resends: Wire requests beyond the first that one of our policies asked for.
        waits: Seconds spent per kind: ``queue``, ``limiter``, ``token``, ``backoff``.
        network: Seconds spent in wire requests.
        aborted: Whether the latest wire request was broken off after its bytes had begun to leave.
        trail: Attempts that failed so far.
        stopped: Why no further attempt was made, or None.
        credential: The credential chosen for this call instead of the client's, or None.
        token: The token attached last, or None.
        watchers: Each is called with the name and fields of every event of the call, whatever the log's level, and
            with ``wait`` (``kind``, ``seconds``) after each wait. They must neither block nor raise.
        trace_id: The OpenTelemetry trace that the call is part of, as 32 hex digits, or None.
        extra: Room for custom middlewares; keys are theirs.
    """

    # Defaults stand on the class: a call is made for each request, and what is not said of it costs nothing.
    origin: URL | None
    deadline: float | None
    buffered: bool
    max_body: int | None
    idempotency_key: str | None = None
    priority = 0
    cost = 1
    bare = False
    defer: bool | None = None
    body: Callable[[], Any] | None = None
    body_read = False
    buffer_body = False
    wire = 0
    resends = 0
    waits: Mapping[str, float] = MappingProxyType({})
    network = 0.0
    aborted = False
    trail: tuple[Attempt, ...] = ()
    stopped: str | None = None
    credential: Credential | None = None
    token: Token | None = None
    transport: ClientHandlerType | None = None
    watchers: tuple[Watcher, ...] = ()
    trace_id: str | None = None
    _id: str | None = None
    _extra: dict[Any, Any] | None = None

    def __init__(  # noqa: PLR0917 - by position it is quicker, and one is made for each request
        self,
        method: str,
        endpoint: str,
        key: tuple[str, str],
        url: URL,
        time: Callable[[], float],
        origin: URL | None = None,
        deadline: float | None = None,
        buffered: bool = False,  # noqa: FBT001, FBT002 - as above
        max_body: int | None = None,
        log: EventLog = DEFAULT_LOG,
    ) -> None:
        """Open a call; what else there is to say of it is set afterwards.

        Args:
            method: Upper case.
            endpoint: ``METHOD template``.
            key: ``(origin, endpoint)``.
            url: Of the request, or of the hop under way.
            time: The loop's clock.
            origin: See the class.
            deadline: Seconds from now; None leaves it to ``Deadline``, infinite means never.
            buffered: See the class.
            max_body: See the class.
            log: Where events go.

        Raises:
            InvalidRequest: ``deadline`` is out of its range.
        """
        if deadline is not None and not deadline > 0:
            raise InvalidRequest(f"timeout must be above 0 seconds, got {deadline!r}")
        self.method = method
        self.endpoint = endpoint
        self.key = key
        self.url = url
        self.time = time
        self.origin = origin
        self.started = now = time()
        self.deadline = None if deadline is None else now + deadline
        self.buffered = buffered
        self.max_body = max_body
        self.log = log

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.endpoint} attempts={self.attempts}>"

    @property
    def id(self) -> str:
        if self._id is None:
            self._id = f"{random.getrandbits(48):012x}"
        return self._id

    @property
    def extra(self) -> dict[Any, Any]:
        if self._extra is None:
            self._extra = {}
        return self._extra

    @property
    def attempts(self) -> int:
        """Wire requests so far. On a bare session, where nobody sees the wire, one and the resends of ours."""
        return 1 + self.resends if self.bare else self.wire

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no harm: an idempotent method, or a key."""
        return self.idempotency_key is not None or self.method in IDEMPOTENT_METHODS

    def remaining(self) -> float:
        """Return the seconds left until the deadline: infinite without one, never below zero."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - self.time())

    def resending(self) -> None:
        """Note that the caller is about to send the request again."""
        self.resends += 1

    async def sleep(self, seconds: float, kind: str) -> None:
        """Wait, and book it under *kind*.

        Args:
            seconds: How long; zero or less only lets others run.
            kind: ``backoff``, ``limiter``, ``token`` or ``queue``.

        Raises:
            DeadlineExceeded: The wait would outlast the deadline; it was not begun (``would_have_waited``).
        """
        if seconds > self.remaining():
            raise DeadlineExceeded(
                f"A {kind} wait of {seconds:.3g} s does not fit into the {self.remaining():.3g} s that are left",
                would_have_waited=seconds,
            )
        began = self.time()
        try:
            await pause(max(0.0, seconds))
        finally:
            self.waited(kind, self.time() - began)

    def waited(self, kind: str, seconds: float) -> None:
        """Book *seconds* of waiting under *kind*."""
        self.waits = {**self.waits, kind: self.waits.get(kind, 0.0) + seconds}
        for watch in self.watchers:
            watch("wait", {"kind": kind, "seconds": seconds})

    def wants(self, level: int) -> bool:
        """Return whether anybody would see an event of *level*: the log, or who watches the call."""
        return bool(self.watchers) or self.log.enabled(level)

    def emit(self, level: int, event: str, **fields: Any) -> None:
        """Record a structured event about this call; nearly free where the level is filtered out."""
        for watch in self.watchers:
            watch(event, fields)
        if self.log.enabled(level):
            if self.trace_id is not None:
                fields["otel_trace_id"] = self.trace_id
            self.log.write(level, event, {"call_id": self.id, "endpoint": self.endpoint, **fields})

    def stamp(self, error: ApiError) -> None:
        """Complete *error* with what only the call knows."""
        error.attempts = self.attempts
        if not error.trail:
            error.trail = self.trail
        if error.stopped is None:
            error.stopped = self.stopped
        if error.request is None:
            error.request = RequestSummary(self.method, self.endpoint, redacted(self.url, self.endpoint))


CALL: ContextVar[Call | None] = ContextVar("apiclient.call", default=None)
joined = CALL.get


def current_call() -> Call:
    """Return the logical call that the running code belongs to.

    Raises:
        LookupError: There is none: the code runs neither in an ``ApiClient``'s chain nor inside a policy of ours.
    """
    call = CALL.get()
    if call is None:
        raise LookupError("no call is under way here; current_call() works inside a middleware of a running call")
    return call


@contextmanager
def calling(call: Call | None) -> Generator[None, None, None]:
    """Make *call* the current one, or with None detach from any: for requests of a middleware's own."""
    token = CALL.set(call)
    try:
        yield
    finally:
        CALL.reset(token)


async def opened(middleware: Middleware, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Run *middleware* inside a call opened for *request*: what each policy does first on a bare session."""
    endpoint = endpoint_of(request.method, request.url.raw_path)
    call = Call(
        request.method,
        endpoint,
        key=(str(request.url.origin()), endpoint),
        url=request.url,
        time=clock_of(asyncio.get_running_loop()),
    )
    call.bare = True
    call.idempotency_key = request.headers.get("Idempotency-Key")
    token = CALL.set(call)
    try:
        return await middleware(request, handler)
    except ApiError as error:
        call.stamp(error)
        raise
    finally:
        CALL.reset(token)
