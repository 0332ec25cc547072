"""Use the whole quota of each endpoint, and never exceed it."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, cast

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._body import discard, head_of, replayable
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._lane import Lane, refusal
from apiclient.middleware._pacer import Pacer
from apiclient.middleware._pacer_slot import Slot
from apiclient.middleware._quota import Quota, read_headers, read_text
from apiclient.middleware._rate import Rate
from apiclient.middleware._retry_after import retry_after
from apiclient.middleware._transport import fault_of
from apiclient.middleware.errors import Attempt

Limit = Rate | str | Iterable[Rate | str]
"""One rate or several that all hold, as ``Rate`` or as text such as ``"5/1s"``."""


class RateLimit:
    """Pace the requests of each endpoint so that its quota is used up and not exceeded.

    A slot of the quota is taken for every wire request. What nobody configured is learned: from the headers
    of answers, and from the text of a 429. A 429 pauses the endpoint for everybody, for as long as
    ``Retry-After`` says, and the request is sent again; other endpoints go on.

    Args:
        limits: Rates by endpoint (``"GET /employees/{id}"``): ``"5/1s"``, ``Rate(5, per=1.0)``, or several of them
            that all hold.
        default: Rates of every endpoint that ``limits`` does not name; none by default.
        learn: Whether answers may teach limits.
        groups: Endpoints that share one quota, by a name of your choice; ``limits`` may name it.
        key: Returns what the quota of a call is kept under, instead of origin, endpoint and credential.
        max_queue: Most requests that wait per quota; None for any number.
        max_wait: Longest wait in seconds that is begun; the call's deadline counts as well.
        attempts: Most times that one request is sent while it is refused.
        statuses: Statuses that always mean a limit.
        also: Statuses that mean one where the answer carries ``Retry-After`` or a limit header.
        read: Reads quotas from a response of an odd API; None where it has none.
        capacity: Most endpoints remembered, those in use aside.
        now: Wall clock, for dates in headers.

    Raises:
        ValueError: An option is out of its range.
        RateLimited: (from a call) The wait would be too long, or the queue is full; ``would_have_waited`` says.
        RuntimeError: (from a call) It has been used on another event loop.
    """

    def __init__(
        self,
        *,
        limits: Mapping[str, Limit] | None = None,
        default: Limit | None = None,
        learn: bool = True,
        groups: Mapping[str, Iterable[str]] | None = None,
        key: Callable[[Call], Hashable] | None = None,
        max_queue: int | None = None,
        max_wait: float = 3600.0,
        attempts: int = 10,
        statuses: Collection[int] = (429,),
        also: Collection[int] = (),
        read: Callable[[ClientResponse], Iterable[Quota]] | None = None,
        capacity: int = 10_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        if max_queue is not None and max_queue < 0:
            raise ValueError(f"max_queue must be at least 0, got {max_queue!r}")
        if not max_wait > 0:
            raise ValueError(f"max_wait must be above 0, got {max_wait!r}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        self._limits = {name: _rates(limit) for name, limit in (limits or {}).items()}
        self._default = () if default is None else _rates(default)
        self._learn = learn
        self._groups = {endpoint: name for name, endpoints in (groups or {}).items() for endpoint in endpoints}
        self._key = key
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._attempts = attempts
        self._statuses = frozenset(statuses)
        self._also = frozenset(also)
        self._read = read
        self._now = now
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: Keyed[Hashable, _Place] = Keyed(_Place, capacity=capacity)

    def __repr__(self) -> str:
        limits = {name: ", ".join(map(str, rates)) for name, rates in self._limits.items()}
        shown = [f"limits={limits!r}"] if limits else []
        if self._default:
            shown.append(f"default={', '.join(map(str, self._default))!r}")
        if not self._learn:
            shown.append("learn=False")
        return f"RateLimit({', '.join(shown)})"

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request* when the quota has room for it, again where it is refused all the same."""
        call = joined()
        if call is None:
            return await opened(self, request, handler)
        lane = self._lane(call)
        whole = replayable(request)
        slot = lane.pacer.take(call.time(), call.cost)
        if slot is None:
            slot = await lane.slot(call, longest=self._max_wait, most=self._max_queue)
        attempt = 1
        while True:
            began = call.time()
            response = await self._send(lane, slot, request, handler)
            if not self._refused(response):
                return response
            last = attempt >= self._attempts
            slot = await self._again(lane, slot, request, response, call=call, began=began, whole=whole, last=last)
            if slot is None:
                return response
            attempt += 1

    def _lane(self, call: Call) -> Lane:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise RuntimeError("this RateLimit belongs to another event loop: make one for each loop")
            self._loop = loop
        name = self._groups.get(call.endpoint) if self._groups else None
        key: Hashable
        if self._key is not None:
            key = self._key(call)
        elif name is not None:
            key = (call.origin, name, call.credential)
        else:
            key = call.key if call.credential is None else (call.key, call.credential)
        place = self._lanes.get(key, call.time())
        lane = place.lane
        if lane is None:
            rates = self._limits.get(call.endpoint if name is None else name, self._default)
            lane = place.lane = Lane(Pacer(rates, learn=self._learn), loop)
        return lane

    async def _send(self, lane: Lane, slot: Slot, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        pacer = lane.pacer
        original = request.response_class
        # aiohttp makes the response object where the head of the request has been written: that is the moment
        # from which the slot counts, and being asked for it costs less than a trace.
        request.response_class = cast("Any", _Departure(lane, slot, original))
        try:
            response = await handler(request)
        except BaseException as error:
            fault = fault_of(error)
            if fault is not None and fault.nothing_sent:
                pacer.leave(slot)
            lane.over(slot, answered=False)
            raise
        finally:
            request.response_class = original
        if not self._refused(response):
            lane.over(slot, answered=True)
            if self._learn:
                self._hear(lane, response)
        return response

    def _refused(self, response: ClientResponse) -> bool:
        status = response.status
        if status < 400:
            return False
        if status in self._statuses:
            return True
        return status in self._also and ("Retry-After" in response.headers or bool(self._stated(response)))

    def _stated(self, response: ClientResponse) -> tuple[Quota, ...]:
        quotas = read_headers(response.headers, wall=self._now())
        return quotas if self._read is None else (*self._read(response), *quotas)

    def _hear(self, lane: Lane, response: ClientResponse) -> None:
        quotas = self._stated(response)
        if quotas:
            lane.pacer.stated(quotas, lane.time())
            lane.pump()

    async def _again(
        self,
        lane: Lane,
        slot: Slot,
        request: ClientRequest,
        response: ClientResponse,
        *,
        call: Call,
        began: float,
        whole: bool,
        last: bool,
    ) -> Slot | None:
        """Learn from the refusal and return a slot to send *request* again, or None if *response* is the answer."""
        now = call.time()
        after = retry_after(response.headers, wall=self._now())
        if after is not None:
            lane.halt(now + after)
        try:
            quotas = self._stated(response) if self._learn else ()
            if self._learn:
                said = read_text((await head_of(response, 4096)).decode("utf-8", "replace"))
                if said is not None:
                    quotas = (said, *quotas)
                    after = said.reset if after is None else after
        except BaseException:
            response.close()
            lane.over(slot, answered=False)
            raise
        lane.pacer.rejected(slot, now, retry_after=after, quotas=quotas)
        lane.halt(lane.pacer.gate)
        lane.pump()
        wait = lane.pacer.gate - call.time()
        call.emit(logging.INFO, "limit.rejected", status=response.status, retry_after=after, wait=wait)
        if last or not (whole and replayable(request)):
            call.stopped = "attempts" if last else "not_replayable"
            return None
        discard(response, request)
        call.trail.append(Attempt(response.status, None, max(0.0, wait), now - began))
        if wait > min(self._max_wait, call.remaining()):
            call.stopped = "deadline"
            raise refusal(wait)
        fresh = await lane.slot(call, longest=self._max_wait, most=None, after=slot)
        call.resending()
        return fresh


class _Place:
    """Where the lane of a key is kept, once it has one."""

    __slots__ = ("lane",)

    def __init__(self) -> None:
        self.lane: Lane | None = None

    @property
    def busy(self) -> bool:
        return self.lane is not None and self.lane.busy


class _Departure:
    """Stands in for a request's response class, to learn when its head has been written."""

    __slots__ = ("_lane", "_original", "_slot")

    def __init__(self, lane: Lane, slot: Slot, original: type[ClientResponse]) -> None:
        self._lane = lane
        self._slot = slot
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> ClientResponse:
        self._lane.sent(self._slot)
        return self._original(*args, **kwargs)


def _rates(limit: Limit) -> tuple[Rate, ...]:
    parts = (limit,) if isinstance(limit, Rate | str) else tuple(limit)
    return tuple(part if isinstance(part, Rate) else Rate.parse(part) for part in parts)
