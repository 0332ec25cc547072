"""Takes items that are due out of a store, and delivers them through one client."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from apiclient._caller import Caller
from apiclient.middleware._events import EventLog
from apiclient.middleware.errors import OutboxError
from apiclient.outbox._delivery import Verdict, attempt
from apiclient.outbox._pace import Pace
from apiclient.outbox._ticket import Outcome
from apiclient.stores.outbox_store import Entry, OutboxStore

_RECORDING = 6
_LONGEST_REST = 30.0
_SHORTEST_REST = 0.01
_LAST_WORD = 10.0


class Terms(NamedTuple):
    """How items are delivered: see the options of ``Outbox``."""

    concurrency: int
    attempts: int
    lease: float
    timeout: float | None
    max_answer: int
    poll: float


class Drainer:
    """Delivers the items of one client's origin, until it is stopped or nothing is left.

    Args:
        store: Where they are.
        client: Makes the calls.
        terms: See ``Terms``.
        pace: Says how many at once, and when again.
        told: Called once for each final outcome that this drainer has recorded.
        log: Where events go.
    """

    def __init__(
        self,
        store: OutboxStore,
        client: Caller,
        *,
        terms: Terms,
        pace: Pace,
        told: Callable[[Entry, Outcome], Awaitable[None]],
        log: EventLog,
    ) -> None:
        self._store = store
        self._client = client
        self._origin = str(client.base_url.origin())
        self._terms = terms
        self._pace = pace
        self._told = told
        self._log = log
        self._time = asyncio.get_running_loop().time
        self._busy: Counter[str] = Counter()
        self._under_way: dict[asyncio.Task[None], Entry] = {}
        self._leases: dict[str, str] = {}
        self._woken = asyncio.Event()
        self._stopping = False
        self.delivered = 0
        self.dead = 0

    def __repr__(self) -> str:
        return f"<Drainer {self._origin} {len(self._under_way)} under way, {self.delivered} delivered>"

    def wake(self) -> None:
        """Look for items now."""
        self._woken.set()

    def stop(self) -> None:
        """Begin no further delivery; ``run`` returns once those under way have ended."""
        self._stopping = True
        self._woken.set()

    async def run(self, *, forever: bool, once: bool, grace: float) -> None:
        """Deliver.

        Args:
            forever: Whether to go on until ``stop``, come what may; otherwise until no item is pending.
            once: Whether to return already when no item is due, even if some wait for their time.
            grace: Seconds that deliveries under way are given after ``stop``; they are then cancelled, and have ten
                more to record what they know already.

        Raises:
            OutboxError: The store failed, and not *forever*.
        """
        beat = asyncio.create_task(self._beat())
        rest = self._terms.poll
        try:
            while not self._stopping:
                try:
                    if await self._start() or self._stopping:
                        rest = self._terms.poll
                        continue
                    if not self._under_way and not forever and (once or not await self._left()):
                        break
                    rest = self._terms.poll
                except Exception as error:
                    if not forever:
                        raise
                    self._event(logging.ERROR, "outbox.store_failed", error=str(error))
                    rest = min(_LONGEST_REST, 2 * rest)
                await self._sleep(rest)
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=grace)
        finally:
            beat.cancel()
            tasks = list(self._under_way)
            for task in tasks:
                task.cancel()
            await asyncio.gather(beat, *tasks, return_exceptions=True)

    async def _start(self) -> bool:
        limit, skip = self._pace.limit(self._busy, self._time(), most=10 * self._terms.concurrency)
        if limit < 1:
            return False
        self._woken.clear()
        claiming = asyncio.ensure_future(
            self._store.claim(self._origin, limit=limit, seconds=self._terms.lease, skip=skip)
        )
        try:
            entries = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # What was claimed meanwhile would wait for the end of its lease.
            with contextlib.suppress(OutboxError):
                for entry in await claiming:
                    await self._give_back(entry)
            raise
        for entry in entries:
            known = entry.id in self._leases
            self._leases[entry.id] = str(entry.lease)
            if known:
                # Its lease ended (a clock jumped) while it is under way here: the new one serves that delivery.
                continue
            task = asyncio.create_task(self._deliver(entry))
            self._under_way[task] = entry
            self._busy[entry.intent.endpoint] += 1
            task.add_done_callback(self._ended)
        return bool(entries)

    def _ended(self, task: asyncio.Task[None]) -> None:
        entry = self._under_way.pop(task)
        self._leases.pop(entry.id, None)
        endpoint = entry.intent.endpoint
        self._busy[endpoint] -= 1
        if not self._busy[endpoint]:
            del self._busy[endpoint]
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease ends by itself, and the item is delivered again.
            self._event(logging.ERROR, "outbox.record_failed", entry, error=str(error))

    async def _left(self) -> bool:
        stats = await self._store.stats()
        return any(count and origin == self._origin for (origin, _), count in stats.endpoints.items())

    async def _sleep(self, seconds: float) -> None:
        seconds = min(seconds, max(_SHORTEST_REST, self._pace.next_probe(self._time())))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        self._woken.clear()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._terms.lease / 3)
            for entry in list(self._under_way.values()):
                try:
                    await self._store.extend(entry.id, self._lease(entry), self._terms.lease)
                except OutboxError as error:
                    self._event(logging.ERROR, "outbox.store_failed", entry, error=str(error))

    async def _deliver(self, entry: Entry) -> None:
        terms, endpoint = self._terms, entry.intent.endpoint
        if entry.expired:
            verdict = Verdict("dead", error=f"Expired before it could be delivered; last: {entry.error}")
        elif entry.attempts > terms.attempts:
            verdict = Verdict("dead", error=f"Given up after {terms.attempts} attempts; last: {entry.error}")
        else:
            try:
                verdict = await attempt(self._client, entry.intent, timeout=terms.timeout, max_answer=terms.max_answer)
            except asyncio.CancelledError:
                await _surely(self._give_back(entry))
                raise
            if verdict.kind == "later":
                self._pace.failed(endpoint, self._time(), retry_after=verdict.retry_after)
                if verdict.counted and entry.attempts >= terms.attempts:
                    error = f"Given up after {entry.attempts} attempts; last: {verdict.error}"
                    verdict = verdict._replace(kind="dead", error=error)
            else:
                self._pace.answered(endpoint)
        # A request was made: cancelled or not, what came of it is recorded.
        await _surely(self._record(entry, verdict))

    async def _record(self, entry: Entry, verdict: Verdict) -> None:
        for failures in range(1, _RECORDING + 1):
            try:
                # A write that failed may have been carried out all the same.
                held = await self._write(entry, verdict) or (failures > 1 and await self._is_written(entry, verdict))
                break
            except OutboxError:
                if failures == _RECORDING:
                    raise
                await asyncio.sleep(0.1 * 2.0**failures)
        else:
            return
        if not held:
            # It took so long that somebody else has the item now; their outcome counts.
            self._event(logging.WARNING, "outbox.lease_lost", entry, kind=verdict.kind, status=verdict.status)
            return
        fields: dict[str, Any] = {"attempts": entry.attempts, "status": verdict.status}
        if verdict.kind == "later":
            self._event(logging.INFO, "outbox.delayed", entry, error=verdict.error, **fields)
            return
        delivered = verdict.kind == "delivered"
        self.delivered += delivered
        self.dead += not delivered
        level = logging.INFO if delivered else logging.ERROR
        self._event(level, f"outbox.{verdict.kind}", entry, error=verdict.error, **fields)
        await self._told(entry, Outcome(delivered, verdict.status, verdict.error, verdict.body))

    async def _write(self, entry: Entry, verdict: Verdict) -> bool:
        store, item, lease = self._store, entry.id, self._lease(entry)
        if verdict.kind == "delivered":
            return await store.ack(item, lease, status=verdict.status, body=verdict.body)
        if verdict.kind == "dead":
            return await store.bury(item, lease, error=str(verdict.error), status=verdict.status, body=verdict.body)
        rest, asked = self._pace.rest(entry.attempts), verdict.retry_after
        delay = rest if asked is None else max(rest, asked)
        return await store.retry_at(item, lease, delay, error=verdict.error, counted=verdict.counted)

    async def _is_written(self, entry: Entry, verdict: Verdict) -> bool:
        found = await self._store.get(entry.id)
        if found is None or found.attempts != entry.attempts:
            # Somebody else has claimed it since.
            return False
        return (found.state, found.status, found.body) == (verdict.kind, verdict.status, verdict.body)

    async def _give_back(self, entry: Entry) -> None:
        with contextlib.suppress(OutboxError):
            await self._store.retry_at(entry.id, self._lease(entry), 0.0, error=None, counted=False)

    def _lease(self, entry: Entry) -> str:
        return self._leases.get(entry.id, str(entry.lease))

    def _event(self, level: int, event: str, entry: Entry | None = None, **fields: Any) -> None:
        if self._log.enabled(level):
            if entry is not None:
                fields |= {"ticket": entry.id, "endpoint": entry.intent.endpoint}
            self._log.emit(level, event, origin=self._origin, **fields)


async def _surely(work: Coroutine[Any, Any, None]) -> None:
    """Await *work* to its end, for ``_LAST_WORD`` seconds even where the one who awaits is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        _, late = await asyncio.wait([task], timeout=_LAST_WORD)
        if late:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
