"""Tell people when failures persist, and when they are over."""

import asyncio
import logging
import time as _time
from collections.abc import Callable, Collection, Hashable

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._alarm import Alarm, Change, Phase, Thresholds
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._events import DEFAULT_LOG
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._outlet import Notice, Outlet, Sink
from apiclient.middleware._transport import fault_of
from apiclient.middleware.errors import (
    ApiError,
    BodyNotReplayable,
    CircuitOpen,
    CredentialsRejected,
    DeadlineExceeded,
    Deferred,
    OutcomeUnknown,
    RateLimited,
    StatusError,
    TokenUnavailable,
    TransportError,
)

CLIENT = "client"
_LEVELS = {"degraded": logging.WARNING, "alerting": logging.ERROR, "reminder": logging.ERROR, "resolved": logging.INFO}
_FAILURES = (TransportError, OutcomeUnknown, CircuitOpen, CredentialsRejected, TokenUnavailable, BodyNotReplayable)


class Alert:
    """Raise an alarm when calls keep failing, per endpoint and for the client as a whole.

    Counts logical calls, so list it outside ``Retry``. A call failed that ended in a 5xx, a transport error, an open
    circuit, a token that could not be had, or a deadline that ran out after something was sent. Other 4xx, cancellation
    and what was refused before anything was sent (``RateLimited``) are no failures. Told once, again after ``cooldown``
    while it lasts, and once when it is over: to the log, and to each sink, which can neither delay nor fail a call.

    Args:
        sinks: Called with a ``Notice`` each. A coroutine function runs in the event loop, anything else in a thread of
            its own.
        ratio: Share of failed calls, over both windows, that raises the alarm.
        long: Seconds of the long window: a blip is not enough.
        short: Seconds of the short window: trouble that is over is not told.
        minimum: Fewest calls in the long window before the ratio means anything.
        consecutive: Failed calls in a row that raise it; None for no such rule.
        breaker_open: Seconds for which calls were refused by an open circuit that raise it; None for no such rule.
        outbox_age: Age in seconds of the oldest item in the outbox that raises it; None for no such rule.
        dead_letters: Whether any dead letter raises it.
        cooldown: Seconds after which an alarm that lasts is told again.
        recovery: Successful calls in a row that it takes to be over.
        queue: Notices that may wait for each sink; what is beyond is dropped and counted.
        sink_timeout: Seconds that a sink may take for one notice.
        now: Wall clock, in Unix seconds.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        sinks: Collection[Sink] = (),
        ratio: float = 0.5,
        long: float = 300.0,
        short: float = 30.0,
        minimum: int = 20,
        consecutive: int | None = 10,
        breaker_open: float | None = 60.0,
        outbox_age: float | None = 3600.0,
        dead_letters: bool = True,
        cooldown: float = 900.0,
        recovery: int = 3,
        queue: int = 100,
        sink_timeout: float = 5.0,
        now: Callable[[], float] = _time.time,
    ) -> None:
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {ratio!r}")
        if not 0 < short <= long <= 100 * short:
            raise ValueError(f"long must be from 1 to 100 times short ({short!r} seconds), got {long!r}")
        for name, count in (
            ("minimum", minimum),
            ("consecutive", consecutive),
            ("recovery", recovery),
            ("queue", queue),
        ):
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count!r}")
        for name, seconds in (
            ("breaker_open", breaker_open),
            ("outbox_age", outbox_age),
            ("cooldown", cooldown),
            ("sink_timeout", sink_timeout),
        ):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {seconds!r}")
        thresholds = Thresholds(
            ratio, long, short, minimum, consecutive, breaker_open, outbox_age, dead_letters, cooldown, recovery
        )
        self._thresholds = thresholds
        self._client = Alarm(thresholds)
        self._alarms: Keyed[Hashable, Alarm] = Keyed(lambda: Alarm(thresholds))
        self._outlets = [Outlet(sink, queue=queue, timeout=sink_timeout) for sink in sinks]
        self._now = now

    def __repr__(self) -> str:
        limits = self._thresholds
        return f"Alert(ratio={limits.ratio:g}, consecutive={limits.consecutive}, sinks={len(self._outlets)})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, and take note of how the call ended."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        try:
            response = await handler(request)
        except Exception as error:
            cause = error.__cause__ if isinstance(error, Deferred) else error
            failed = None if cause is None else _failed(cause, call)
            if failed is not None:
                self._note(call, cause if failed else None)
            raise
        self._note(call, None if response.status < 500 else response)
        return response

    @property
    def dropped(self) -> int:
        """Notices lost so far because a sink was too slow."""
        return sum(outlet.dropped for outlet in self._outlets)

    def phase(self, scope: Hashable = CLIENT) -> Phase:
        """Return where the alarm of an endpoint (``call.key``) stands, or that of the whole client."""
        alarm = self._client if scope == CLIENT else self._alarms.peek(scope)
        return Phase.OK if alarm is None else alarm.phase

    def phases(self) -> dict[Hashable, Phase]:
        """Return where every alarm stands, by ``call.key``, and that of the whole client under ``client``."""
        return {CLIENT: self._client.phase, **{key: alarm.phase for key, alarm in self._alarms.items()}}

    def outbox(self, *, oldest: float = 0.0, dead: int = 0) -> None:
        """Take note of the state of an outbox; to be called by whoever keeps it, in the event loop.

        Args:
            oldest: Age in seconds of the oldest item, 0 where there is none.
            dead: Number of dead letters.
        """
        change = self._client.outbox(asyncio.get_running_loop().time(), oldest=oldest, dead=dead)
        if change is not None:
            self._tell(change, self._client, CLIENT, "", None)

    async def aclose(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - a bound on the wait, not on the work
        """Wait for notices under way, for at most *timeout* seconds."""
        await asyncio.gather(*(outlet.drained(timeout) for outlet in self._outlets))

    def _note(self, call: Call, failure: BaseException | ClientResponse | None) -> None:
        now = call.time()
        for alarm, scope in ((self._alarms.get(call.key, now), call.endpoint), (self._client, CLIENT)):
            if failure is None:
                change = alarm.success(now)
            else:
                alarm.last = _told(failure)
                change = alarm.failure(now, refused=isinstance(failure, CircuitOpen))
            if change is not None:
                self._tell(change, alarm, scope, call.key[0], call)

    def _tell(self, change: Change, alarm: Alarm, scope: str, origin: str, call: Call | None) -> None:
        wall, loop_time = self._now(), asyncio.get_running_loop().time()
        error, trace = alarm.last
        notice = Notice(
            kind=change.kind,
            scope=scope,
            origin=origin,
            cause=change.cause.value,
            failed=change.failed,
            calls=change.calls,
            since=wall - (loop_time - change.since),
            at=wall,
            last_error=error,
            trace_id=trace,
        )
        level = _LEVELS[change.kind]
        said = DEFAULT_LOG if call is None else call
        said.emit(level, f"alert.{change.kind}", **notice.as_dict())
        if change.kind != "degraded":
            for outlet in self._outlets:
                outlet.put(notice, DEFAULT_LOG if call is None else call.log)


def _failed(error: BaseException, call: Call) -> bool | None:
    """Return whether a call that ended with *error* failed, or None where it says nothing about the server."""
    if isinstance(error, StatusError):
        return error.status >= 500
    if isinstance(error, DeadlineExceeded):
        return True if call.attempts > 0 and not isinstance(error, RateLimited) else None
    if isinstance(error, _FAILURES):
        return True
    fault = None if isinstance(error, ApiError) else fault_of(error)
    return True if fault is not None and not fault.local else None


def _told(failure: BaseException | ClientResponse) -> tuple[str, str | None]:
    if isinstance(failure, ClientResponse):
        return str(failure.status), None
    text = failure.message if isinstance(failure, ApiError) else ""
    name = type(failure).__name__
    return f"{name}: {text}" if text else name, getattr(failure, "trace_id", None)
