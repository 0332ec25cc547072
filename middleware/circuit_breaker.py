"""Fail fast while an origin is down."""

import asyncio
import logging
import math
import time as _time
from collections.abc import Callable, Hashable
from typing import Literal, cast

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, InvalidURL
from yarl import URL

from apiclient.middleware._breaker import Breaker, State, Verdict
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._parsing.retry_after import retry_after
from apiclient.middleware._pool_wait import in_pool_queue
from apiclient.middleware._transport import fault_of
from apiclient.middleware._whole import KeptConnectionLost
from apiclient.middleware.errors import CircuitOpen
from apiclient.middleware.hint_store import HintStore

# What a 4xx says is about the request, so the origin is well; these say neither.
_NEITHER = frozenset({408, 425, 429})
_NOT_DOWN = frozenset({501, 505})
_SUCCESS, _FAILURE, _IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED
_CLOSED = State.CLOSED
_EARLY = 0.001  # Timers of asyncio may fire a clock tick before their time.


class CircuitBreaker:
    """Refuse requests to an origin whose recent attempts mostly failed.

    Judges attempts, so list it inside ``Retry``: an open circuit then ends the call at once instead of using up its
    retries. Answers 500, 502, 503, 504 and their like, transport errors that reached the host, and an attempt that took
    most of the time of a call that ran out of it, are failures; other answers are successes. 408, 425, 429, being
    cancelled by the caller, waiting for the local pool, a dead connection of that pool, and what the policies inside
    refuse are neither.

    Args:
        failure_ratio: Share of failed attempts, above 0 and up to 1, that opens the circuit.
        window: Seconds of history that the ratio is taken over.
        minimum: Fewest attempts in the window before the ratio means anything.
        cooldown: Seconds open before a probe is let through. A longer ``Retry-After`` wins, up to an hour.
        growth: Factor on the cooldown for each time in a row that it opens again; at least 1.
        max_cooldown: Greatest cooldown in seconds.
        probes: Attempts let through at once while half-open, and successes that close the circuit.
        slow: Seconds from which an attempt is slow, waits in the policies inside left out; None judges no slowness.
        slow_ratio: Share of slow attempts that opens the circuit; only with ``slow``.
        per: ``"origin"``, or ``"endpoint"`` for a circuit of its own for each endpoint.
        capacity: Most circuits kept, those not closed aside.
        hints: Tells other processes of circuits that open here, and hears of theirs; None asks nobody. A hint opens
            nothing: while it lasts a quarter of ``minimum`` is enough, if no attempt of one's own succeeded lately.
        now: Wall clock in seconds, for a ``Retry-After`` date.

    Raises:
        ValueError: An option is out of its range.
        CircuitOpen: (from a call) The circuit is open; ``retry_after`` says for how long, None while held by hand.
    """

    def __init__(
        self,
        *,
        failure_ratio: float = 0.5,
        window: float = 30.0,
        minimum: int = 20,
        cooldown: float = 5.0,
        growth: float = 2.0,
        max_cooldown: float = 30.0,
        probes: int = 2,
        slow: float | None = None,
        slow_ratio: float = 0.8,
        per: Literal["origin", "endpoint"] = "origin",
        capacity: int = 1024,
        hints: HintStore | None = None,
        now: Callable[[], float] = _time.time,
    ) -> None:
        for name, ratio in (("failure_ratio", failure_ratio), ("slow_ratio", slow_ratio)):
            if not 0 < ratio <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {ratio!r}")
        for name, count in (("minimum", minimum), ("probes", probes)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count!r}")
        for name, seconds in (("window", window), ("cooldown", cooldown), ("max_cooldown", max_cooldown)):
            if not 0 < seconds < math.inf:
                raise ValueError(f"{name} must be above 0 seconds and finite, got {seconds!r}")
        if not 1 <= growth < math.inf:
            raise ValueError(f"growth must be at least 1, got {growth!r}")
        if slow is not None and not slow > 0:
            raise ValueError(f"slow must be above 0 seconds, got {slow!r}")
        if per not in {"origin", "endpoint"}:
            raise ValueError(f"per must be 'origin' or 'endpoint', got {per!r}")
        self._failure_ratio = failure_ratio
        self._cooldown = cooldown
        self._slow = slow
        self._per = per
        self._per_origin = per == "origin"
        self._hints = hints
        self._longest = max(cooldown, max_cooldown)
        self._now = now
        self._last: Hashable = None
        self._again = 0.0
        self._found = Breaker()
        self._breakers: Keyed[Hashable, Breaker] = Keyed(
            lambda: Breaker(
                failure_ratio=failure_ratio,
                window=window,
                minimum=minimum,
                cooldown=cooldown,
                growth=growth,
                max_cooldown=self._longest,
                probes=probes,
                slow_ratio=None if slow is None else slow_ratio,
            ),
            capacity=capacity,
        )

    def __repr__(self) -> str:
        slow = "" if self._slow is None else f", slow={self._slow:g}"
        per = "" if self._per_origin else ", per='endpoint'"
        hints = "" if self._hints is None else f", hints={self._hints!r}"
        return f"CircuitBreaker(failure_ratio={self._failure_ratio:g}, cooldown={self._cooldown:g}{slow}{per}{hints})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* if its origin may be tried, and learn from the outcome."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        began = call.time()
        key = call.key[0] if self._per_origin else call.key
        breaker = self._found if key == self._last and began < self._again else self._find(key, began)
        if breaker.state is not _CLOSED or self._slow is not None:
            return await self._guarded(breaker, call, request, handler, began)
        # Closed, as nearly always, so that there is no place to give back.
        ticket = breaker.generation
        try:
            response = await handler(request)
        except (Exception, asyncio.CancelledError) as error:
            if _reached_out(error, call, began):
                self._settle(breaker, call, ticket, _FAILURE)
            raise
        if response.status < 400:
            breaker.succeeded(ticket, began)
        else:
            self._settle(breaker, call, ticket, _verdict(response.status), response)
        return response

    async def _guarded(
        self, breaker: Breaker, call: Call, request: ClientRequest, handler: ClientHandlerType, began: float
    ) -> ClientResponse:
        """Send *request* if it may be tried, and give its place back however it ends, cancellation included."""
        before = breaker.state
        ticket = breaker.enter(began)
        if breaker.state is not before:
            _announce(call, breaker, began)
        if ticket is None:
            raise _refused(call, breaker, began)
        waited = sum(call.waits.values())
        verdict, response = _IGNORED, None
        try:
            response = await handler(request)
            verdict = _verdict(response.status)
            return response
        except (Exception, asyncio.CancelledError) as error:
            if _reached_out(error, call, began):
                verdict = _FAILURE
            raise
        finally:
            took = call.time() - began - (sum(call.waits.values()) - waited)
            slow = self._slow is not None and took >= self._slow
            self._settle(breaker, call, ticket, verdict, response, slow=slow)

    def _settle(
        self,
        breaker: Breaker,
        call: Call,
        ticket: int,
        verdict: Verdict,
        response: ClientResponse | None = None,
        *,
        slow: bool = False,
    ) -> None:
        now, before = call.time(), breaker.state
        asked = None
        if response is not None and verdict is _FAILURE:
            asked = retry_after(response.headers, wall=self._now())
        hints = self._hints
        # Asked only where it matters: what goes well knows nothing of other processes.
        hinted = False
        if hints is not None and verdict is _FAILURE and before is _CLOSED:
            hinted = hints.hinted(self._circuit(call))
        breaker.leave(ticket, verdict, now, slow=slow, retry_after=asked, hinted=hinted)
        if breaker.state is not before:
            _announce(call, breaker, now)
            # What opened on a hint passes none on: two processes would keep telling each other.
            if hints is not None and breaker.state is State.OPEN and not breaker.on_hint:
                hints.publish(self._circuit(call), min(breaker.retry_after(now) or 0.0, self._longest))

    def _circuit(self, call: Call) -> str:
        return _name(call.key[0] if self._per_origin else call.key)

    def _find(self, key: Hashable, now: float) -> Breaker:
        # Kept at hand for a second: nearly always that of the next request too.
        self._last, self._again = key, now + 1.0
        self._found = self._breakers.get(key, now)
        return self._found

    def state(self, origin: str | URL, endpoint: str | None = None) -> State:
        """Return the state of the circuit of *origin*, or with ``per="endpoint"`` of *endpoint* there.

        One of ``closed``, ``open``, ``half_open``, ``forced_open``, ``forced_closed``; it compares as text.
        """
        breaker = self._breakers.peek(self._key(origin, endpoint))
        return State.CLOSED if breaker is None else breaker.state

    def states(self) -> dict[str, State]:
        """Return the state of every circuit known, by origin or by origin and endpoint."""
        return {_name(key): breaker.state for key, breaker in self._breakers.items()}

    def hold(self, origin: str | URL, state: Literal["open", "closed"] | None, endpoint: str | None = None) -> None:
        """Hold a circuit open or closed by hand, whatever happens; None lets it go, closed.

        Call it from the running event loop's thread.

        Args:
            origin: Scheme, host and port.
            state: ``"open"``, ``"closed"`` or None.
            endpoint: With ``per="endpoint"``, which.

        Raises:
            ValueError: ``state`` is none of these.
        """
        now = asyncio.get_running_loop().time()
        self._breakers.get(self._key(origin, endpoint), now).force(state, now)

    def _key(self, origin: str | URL, endpoint: str | None) -> Hashable:
        where = str(URL(origin).origin())
        if self._per_origin:
            return where
        if endpoint is None:
            raise ValueError("endpoint must be given where circuits are kept per endpoint, got None")
        return where, endpoint


def _verdict(status: int) -> Verdict:
    if status >= 500 and status not in _NOT_DOWN:
        return _FAILURE
    return _IGNORED if status in _NEITHER else _SUCCESS


def _reached_out(error: BaseException, call: Call, began: float) -> bool:
    """Return whether *error* is evidence against the host."""
    if isinstance(error, asyncio.CancelledError):
        # Cancelled by whoever called says nothing. But where the call's own time ran out, and most of it went into this
        # attempt, the host hung: without this a deadline shorter than the attempt's limit would hide that for ever.
        if call.deadline is None or call.remaining() > _EARLY:
            return False
        took = call.time() - began - sum(call.waits.values())
        return took >= (call.deadline - call.started) / 2 and not in_pool_queue(error)
    fault = fault_of(error)
    return fault is not None and not isinstance(error, InvalidURL | KeptConnectionLost) and not in_pool_queue(error)


def _refused(call: Call, breaker: Breaker, now: float) -> CircuitOpen:
    origin = call.key[0]
    seconds = breaker.retry_after(now)
    when = "until it is released by hand" if seconds is None else f"for another {seconds:.3g} s"
    return CircuitOpen(f"{origin} has been failing and is left alone {when}", origin=origin, retry_after=seconds)


def _announce(call: Call, breaker: Breaker, now: float) -> None:
    level = logging.WARNING if breaker.state is State.OPEN else logging.INFO
    if call.wants(level):
        name = "opened" if breaker.state is State.OPEN else breaker.state.value
        call.emit(
            level, f"breaker.{name}", origin=call.key[0], retry_after_s=breaker.retry_after(now), reason=breaker.reason
        )


def _name(key: Hashable) -> str:
    return " ".join(map(str, cast("tuple[object, ...]", key))) if isinstance(key, tuple) else str(key)
