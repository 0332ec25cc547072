"""Use the whole quota of each endpoint, and never exceed it."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, cast
from weakref import WeakValueDictionary

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from apiclient.middleware._body import replayable
from apiclient.middleware._call import Call, joined, opened
from apiclient.middleware._departure import Departure
from apiclient.middleware._keyed import Keyed
from apiclient.middleware._lane import Lane
from apiclient.middleware._leases import Leases
from apiclient.middleware._pacing.memory import Memory, Recalled
from apiclient.middleware._pacing.meter import Meter
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._pacing.slot import Slot
from apiclient.middleware._parsing.quota import Quota
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware._refused import Reading, Trouble
from apiclient.middleware._standing import QuotaStanding, named
from apiclient.middleware._transport import fault_of
from apiclient.middleware.quota_store import QuotaStore

Limit = Rate | str | Iterable[Rate | str]
"""One rate or several that all hold, as ``Rate`` or as text such as ``"5/1s"``."""


_ENDPOINT = re.compile(r"[^\sa-z]+ /")


class RateLimit:
    """Pace the requests of each endpoint so that its quota is used up and not exceeded.

    A slot of the quota is taken for every wire request. What nobody configured is learned: from the headers
    of answers, and from the text of a 429. A 429 pauses the endpoint for everybody, for as long as
    ``Retry-After`` says, and the request is sent again; other endpoints go on.

    Args:
        limits: Rates by endpoint (``"GET /employees/{id}"``, letter by letter as ``Call.endpoint`` has it): ``"5/1s"``,
            ``Rate(5, per=1.0)``, or several of them that all hold.
        default: Rates of every endpoint that ``limits`` does not name; none by default.
        learn: Whether answers may teach limits.
        groups: Endpoints that share one quota, by a name of your choice; ``limits`` may name it.
        key: Returns what the quota of a call is kept under, instead of origin, endpoint and credential. With a
            ``store`` text, which names it for all processes: whatever else is counted there by origin and endpoint.
        max_queue: Most requests that wait per quota; None for any number.
        max_wait: Longest wait in seconds that is begun; the call's deadline counts as well.
        attempts: Most times that one request is sent while it is refused.
        statuses: Statuses that always mean a limit.
        also: Statuses that mean one where the answer carries ``Retry-After`` or a limit header.
        read: Reads quotas from a response of an odd API; None where it has none.
        learned: What ``learned()`` returned in an earlier run. An hour old, it only says where to begin.
        store: Counts the quotas of several processes together; by default each process counts its own.
        store_timeout: Most seconds to wait for the store before going by the process's own count.
        capacity: Most endpoints remembered, those in use aside.
        now: Wall clock, for dates in headers.

    Raises:
        TypeError: A limit is neither text nor a ``Rate``.
        ValueError: An option is out of its range, or ``limits`` names what is neither an endpoint nor a group.
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
        learned: Mapping[str, Any] | None = None,
        store: QuotaStore | None = None,
        store_timeout: float = 0.25,
        capacity: int = 10_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        if max_queue is not None and max_queue < 0:
            raise ValueError(f"max_queue must be at least 0, got {max_queue!r}")
        if not max_wait > 0:
            raise ValueError(f"max_wait must be above 0, got {max_wait!r}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        if not store_timeout > 0:
            raise ValueError(f"store_timeout must be above 0, got {store_timeout!r}")
        self._limits = {name: _rates(limit) for name, limit in (limits or {}).items()}
        self._default = () if default is None else _rates(default)
        self._learn = learn
        self._groups = {endpoint: name for name, endpoints in (groups or {}).items() for endpoint in endpoints}
        for name in self._limits:
            if key is None and name not in (groups or {}) and not _ENDPOINT.match(name):
                raise ValueError(f"limits must name endpoints ('GET /employees/{{id}}') or groups, got {name!r}")
        self._key = key
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._attempts = attempts
        self._store = store
        self._store_timeout = store_timeout
        self._reading = Reading(learn, frozenset(statuses), frozenset(also), read, now)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: Keyed[Hashable, _Place] = Keyed(_Place, capacity=capacity)
        self._last: Hashable = None
        self._again = -math.inf
        self._found: Lane | None = None
        self._memory = Memory(now, capacity=capacity)
        self._memory.load({} if learned is None else learned)
        self._buckets: WeakValueDictionary[Any, Meter] = WeakValueDictionary()

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
        now, cost = call.time(), call.cost
        lane = self._lane(call, now)
        pacer = lane.pacer
        meters = pacer.meters
        if (meters and lane.leases is not None) or not pacer.free(now, cost):
            return await self._paced(lane, call, request, handler)
        whole = not request.body or replayable(request)
        pacer.passing += cost
        try:
            response = await handler(request)
        except BaseException:
            # It may have been counted.
            pacer.lost(call.time(), cost, meters)
            raise
        finally:
            pacer.passing -= cost
        if response.status < 400 and now < lane.listen_at:
            pacer.passed(now, call.time(), cost, meters)
            return response
        slot = pacer.adopt(now, cost)
        if self._settled(lane, slot, response):
            return response
        return await self._persist(lane, slot, call, request, handler, response=response, began=now, whole=whole)

    async def _paced(
        self, lane: Lane, call: Call, request: ClientRequest, handler: ClientHandlerType
    ) -> ClientResponse:
        whole = replayable(request)
        slot = lane.pacer.take(call.time(), call.cost)
        if slot is None:
            slot = await lane.slot(call, longest=self._max_wait, most=self._max_queue)
        if lane.leases is not None:
            await lane.permit(slot, call, lane.leases, longest=self._max_wait)
        began = call.time()
        response = await self._send(lane, slot, request, handler)
        if self._settled(lane, slot, response):
            return response
        return await self._persist(lane, slot, call, request, handler, response=response, began=began, whole=whole)

    async def _persist(
        self,
        lane: Lane,
        slot: Slot | None,
        call: Call,
        request: ClientRequest,
        handler: ClientHandlerType,
        *,
        response: ClientResponse,
        began: float,
        whole: bool,
    ) -> ClientResponse:
        trouble = Trouble(lane, call, request, whole=whole, longest=self._max_wait, reading=self._reading)
        attempt = 1
        while slot is not None:
            slot = await trouble.slot(slot, response, began, last=attempt >= self._attempts)
            if slot is None:
                break
            if lane.leases is not None:
                await lane.permit(slot, call, lane.leases, longest=self._max_wait)
            began = call.time()
            response = await self._send(lane, slot, request, handler)
            if self._settled(lane, slot, response):
                break
            attempt += 1
        return response

    def learned(self) -> dict[str, Any]:
        """Return the limits learned so far, by ``origin endpoint``, as plain data for ``learned=`` of another run."""
        return self._memory.export()

    def ready_in(self, key: tuple[str, str]) -> float:
        """Return the seconds until a new call of *key* (``Call.key``) could leave, for whoever chooses what goes next.

        0 where nothing holds it or nothing is known, infinite while that hangs on an answer. A ``key`` function of
        yours, and a credential that an endpoint needs of its own, are not taken into account.
        """
        lane = self._known(key)
        return 0.0 if lane is None else max(0.0, lane.pacer.ready(now := lane.time()) - now)

    def rates(self, key: tuple[str, str]) -> tuple[Rate, ...]:
        """Return the rates that calls of *key* are held to at present, configured and learned."""
        lane = self._known(key)
        return () if lane is None else tuple(Rate(meter.limit, meter.period) for meter in lane.pacer.meters)

    def standing(self) -> tuple[QuotaStanding, ...]:
        """Return how every quota known stands; to be asked in the event loop's thread."""
        told: list[QuotaStanding] = []
        for key, place in self._lanes.items():
            if (lane := place.lane) is not None:
                pacer = lane.pacer
                rates = tuple(Rate(meter.limit, meter.period) for meter in pacer.meters)
                paused = max(0.0, pacer.gate - lane.time())
                told.append(QuotaStanding(*named(key), rates, paused, len(pacer.queue), len(pacer.flights)))
        return tuple(told)

    def _known(self, key: tuple[str, str]) -> Lane | None:
        group = self._groups.get(key[1]) if self._groups else None
        place = self._lanes.peek(key if group is None else (key[0], group, None))
        return None if place is None else place.lane

    def _lane(self, call: Call, now: float) -> Lane:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                raise RuntimeError("this RateLimit belongs to another event loop: make one for each loop")
            self._loop = loop
        found = self._found
        if found is not None and call.key is self._last and now < self._again and call.credential is None:
            return found
        key: Hashable = call.key
        if self._key is not None:
            key = self._key(call)
        elif self._groups and call.endpoint in self._groups:
            key = (call.key[0], self._groups[call.endpoint], call.credential)
        elif call.credential is not None:
            key = (key, call.credential)
        place = self._lanes.get(key, now)
        if place.lane is None:
            place.lane = self._opened(call, key, loop)
        if key is call.key:
            # Kept at hand for a second: nearly always that of the next request too.
            self._last, self._again, self._found = key, now + 1.0, place.lane
        else:
            self._last = None
        return place.lane

    def _opened(self, call: Call, key: Hashable, loop: asyncio.AbstractEventLoop) -> Lane:
        origin = str(call.url.origin())
        quota = self._groups.get(call.endpoint, call.endpoint)
        name = key if isinstance(key, str) else f"{origin} {quota}"
        rates = self._limits.get(quota, self._default)
        recalled = self._memory.recall(name, origin) if self._learn else Recalled()
        pacer = Pacer(
            rates,
            learn=self._learn,
            lessons=recalled.lessons,
            first=recalled.first,
            buckets=self._buckets,
            origin=origin,
        )
        leases = None
        if self._store is not None:
            leases = Leases(self._store, name, pacer, timeout=self._store_timeout)
        return Lane(pacer, loop, lambda lessons: self._memory.learn(name, origin, lessons), leases)

    async def _send(self, lane: Lane, slot: Slot, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        # The slot counts from the moment at which its bytes leave.
        departure: Any = Departure(request.response_class, partial(lane.sent, slot))
        request.response_class = departure
        try:
            return await handler(request)
        except BaseException as error:
            fault = fault_of(error)
            if fault is not None and fault.nothing_sent:
                lane.unsent(slot)
            else:
                lane.over(slot, answered=False)
            raise
        finally:
            request.response_class = departure.original

    def _settled(self, lane: Lane, slot: Slot, response: ClientResponse) -> bool:
        """Return whether *response* is an answer and no refusal, and then learn what it states."""
        reading = self._reading
        try:
            if response.status >= 400 and reading.refused(response):
                return False
            listens = lane.listens(lane.time())
            lane.over(slot, answered=True, quotas=reading.quotas(response) if listens else ())
        except BaseException:
            response.close()
            lane.over(slot, answered=True)
            raise
        return True


class _Place:
    """Where the lane of a key is kept, once it has one."""

    __slots__ = ("lane",)

    def __init__(self) -> None:
        self.lane: Lane | None = None

    @property
    def busy(self) -> bool:
        return self.lane is not None and self.lane.busy


def _rates(limit: Limit) -> tuple[Rate, ...]:
    if not isinstance(cast("object", limit), Rate | str | Iterable):
        raise TypeError(f"a limit must be text like '5/1s', a Rate, or several of them, got {limit!r}")
    parts = (limit,) if isinstance(limit, Rate | str) else tuple(limit)
    return tuple(part if isinstance(part, Rate) else Rate.parse(part) for part in parts)
