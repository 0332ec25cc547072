"""The outbox itself: takes calls, keeps them in a store, delivers them, and answers for the dead."""

import asyncio
import contextlib
import hashlib
import inspect
import logging
import math
import os
import random as _random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from apiclient._caller import Caller
from apiclient.middleware import Alert
from apiclient.middleware._events import EventLog
from apiclient.middleware.errors import OutboxError
from apiclient.middleware.intent import Intent
from apiclient.outbox._drainer import Drainer, Terms
from apiclient.outbox._export import line_of
from apiclient.outbox._pace import Pace
from apiclient.outbox._ticket import Outcome, Ticket
from apiclient.stores.outbox_store import Draft, Entry, OutboxStore, State, Stats
from apiclient.stores.sqlite_outbox_store import SqliteOutboxStore

Told = Callable[[Entry, Outcome], Awaitable[None] | None]
_DAY = 86_400.0
_HOUSEKEEPING = 60.0
_LONGEST_ERROR = 500


class Drained(NamedTuple):
    """What ``drain`` did.

    Attributes:
        delivered: Items delivered.
        dead: Items given up.
        left: Items of the clients' origins that are still pending.
    """

    delivered: int
    dead: int
    left: int


class Outbox:
    """Keeps calls that could not be made, and makes them later through the chain of the client it belongs to.

    What ``put`` (or ``client.defer``, or a ``Deferred``) acknowledged is on the disk: it is delivered at least
    once, with the same idempotency key each time, or becomes a dead letter; exactly one outcome is recorded.
    Any number of processes may put into and drain one file, on one machine.

    Args:
        store: Path of an SQLite file, or a store.
        ordered: Endpoints (``"POST /orders"``) whose items are delivered one after another in the order of storing;
            True for all. One that is not deliverable holds up those behind it until it is dead.
        concurrency: Deliveries of one endpoint under way at once; ten times as many in all.
        attempts: Deliveries after which an item is given up. One that sent nothing, because a circuit is open,
            does not count.
        wait: Seconds before the second attempt of an item; doubled before each further one, and shortened at
            random by up to a half.
        max_wait: Most seconds between two attempts of an item.
        max_pause: Most seconds between two probes of an endpoint that fails.
        lifetime: Seconds after which an item is given up; infinite for never.
        lease: Seconds for which a claim lasts without a sign of life: so long does an item wait whose process died.
        timeout: Total seconds of a delivery; None means the client's.
        max_body: Most bytes of a request body.
        max_answer: Most bytes kept of an answer's body.
        retention: Seconds for which delivered items are kept.
        dead_retention: Seconds for which dead letters are kept; infinite for ever.
        poll: Seconds between two looks for what other processes put.
        on_delivered: Called with each item and its outcome, where this process delivered it; may be async.
        on_dead: The same for dead letters.
        random: Draws from [0, 1).
        logger: As of ``ApiClient``.

    Raises:
        TypeError: ``store`` is neither.
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | OutboxStore,
        *,
        ordered: bool | Collection[str] = False,
        concurrency: int = 10,
        attempts: int = 100,
        wait: float = 2.0,
        max_wait: float = 900.0,
        max_pause: float = 30.0,
        lifetime: float = math.inf,
        lease: float = 60.0,
        timeout: float | None = None,
        max_body: int = 2**20,
        max_answer: int = 2**16,
        retention: float = 7 * _DAY,
        dead_retention: float = math.inf,
        poll: float = 1.0,
        on_delivered: Told | None = None,
        on_dead: Told | None = None,
        random: Callable[[], float] = _random.random,
        logger: Any = None,
    ) -> None:
        for name, count in (("concurrency", concurrency), ("attempts", attempts), ("max_body", max_body)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count!r}")
        for name, seconds in (
            ("wait", wait), ("max_wait", max_wait), ("max_pause", max_pause), ("lifetime", lifetime), ("lease", lease),
            ("retention", retention), ("dead_retention", dead_retention), ("poll", poll),
            ("timeout", 1.0 if timeout is None else timeout),
        ):  # fmt: skip
            if not seconds > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {seconds!r}")
        if max_answer < 0:
            raise ValueError(f"max_answer must be at least 0, got {max_answer!r}")
        if isinstance(ordered, str):
            raise TypeError(f"ordered must be a collection of endpoints, got the string {ordered!r}")
        if isinstance(store, str | os.PathLike):
            store = SqliteOutboxStore(store)
        elif not isinstance(store, OutboxStore):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"store must be a path or an outbox store, got {type(store).__name__}")
        self._store = store
        self._ordered = ordered if isinstance(ordered, bool) else frozenset(ordered)
        self._terms = Terms(concurrency, attempts, lease, timeout, max_answer, poll)
        self._pacing: dict[str, Any] = {
            "concurrency": concurrency, "wait": wait, "max_wait": max_wait, "max_pause": max_pause, "random": random
        }  # fmt: skip
        self._lifetime = lifetime
        self._max_body = max_body
        self._retention: tuple[tuple[State, float], ...] = (("delivered", retention), ("dead", dead_retention))
        self._callbacks = {True: on_delivered, False: on_dead}
        self._log = EventLog(logger)
        self._clients: WeakValueDictionary[str, Caller] = WeakValueDictionary()
        self._tickets: WeakValueDictionary[str, Ticket] = WeakValueDictionary()
        self._drainers: list[Drainer] = []

    def __repr__(self) -> str:
        return f"Outbox({self._store!r})"

    def attach(self, client: Caller) -> None:
        """Deliver through *client* what is for its origin; ``ApiClient(outbox=...)`` does this."""
        self._clients[str(client.base_url.origin())] = client

    def detach(self, client: Caller) -> None:
        """Deliver through *client* no longer; closing it does this."""
        origin = str(client.base_url.origin())
        if self._clients.get(origin) is client:
            del self._clients[origin]

    async def put(
        self,
        intent: Intent,
        *,
        error: str | None = None,
        delay: float = 0.0,
        lifetime: float | None = None,
        dedupe: str | None = None,
    ) -> Ticket:
        """Keep *intent*; once this returns, it is on the disk.

        Args:
            intent: What to send.
            error: Why it could not be sent now.
            delay: Seconds before which it is not sent.
            lifetime: Seconds after which it is given up; None means the outbox's.
            dedupe: While an item with the same one is pending, this one is taken for it and not stored. Default:
                two intents with one idempotency key that are alike in everything are one.

        Raises:
            OutboxError: It is not kept.
            ValueError: An option is out of its range.
        """
        if not 0 <= delay < math.inf:
            raise ValueError(f"delay must be at least 0 seconds and finite, got {delay!r}")
        if lifetime is not None and not lifetime > 0:
            raise ValueError(f"lifetime must be above 0 seconds, got {lifetime!r}")
        if len(intent.body) > self._max_body:
            raise OutboxError(
                f"The body has {len(intent.body)} bytes, and max_body of the outbox is {self._max_body}",
                hint="Raise Outbox(max_body=...), or send less at once",
            )
        ticket = Ticket(secrets.token_hex(8))
        # Before the item is there to be delivered, which another task may do at once.
        self._tickets[ticket.id] = ticket
        ordered = self._ordered if isinstance(self._ordered, bool) else intent.endpoint in self._ordered
        draft = Draft(
            id=ticket.id,
            intent=intent,
            ordered=ordered,
            delay=delay,
            lifetime=self._lifetime if lifetime is None else lifetime,
            dedupe=_alike(intent) if dedupe is None else f"given:{dedupe}",
            error=None if error is None else error[:_LONGEST_ERROR],
        )
        item = await self._store.put(draft)
        if item != ticket.id:
            del self._tickets[ticket.id]
            earlier = self._tickets.get(item)
            ticket = Ticket(item) if earlier is None else earlier
            self._tickets[item] = ticket
        for drainer in self._drainers:
            drainer.wake()
        return ticket

    @asynccontextmanager
    async def running(self, *, grace: float = 25.0) -> AsyncGenerator[None, None]:
        """Deliver in the background for as long as the block runs.

        A failure of the store is logged and outlived. At the end no delivery is begun any more, those under way
        get *grace* seconds, and what is not done by then stays pending. An answer that is there by then is recorded and
        told to a callback, which may take ten seconds more.

        Args:
            grace: In seconds.

        Raises:
            RuntimeError: The outbox belongs to no client.
        """
        with self._drainers_of() as drainers:
            tasks = [asyncio.create_task(each.run(forever=True, once=False, grace=grace)) for each in drainers]
            tasks.append(asyncio.create_task(self._keep_house()))
            try:
                yield
            finally:
                tasks.pop().cancel()
                for drainer in drainers:
                    drainer.stop()
                try:
                    await asyncio.gather(*tasks)
                finally:
                    for task in tasks:
                        task.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, *, once: bool = False, timeout: float | None = None, grace: float = 25.0) -> Drained:  # noqa: ASYNC109 - it ends the work, not the wait
        """Deliver until nothing is pending.

        Args:
            once: Return already when nothing is due, even if items wait for their next attempt.
            timeout: Seconds after which to stop; None for no such time.
            grace: Seconds that deliveries under way are then given.

        Raises:
            OutboxError: The store failed.
            RuntimeError: The outbox belongs to no client.
        """
        loop = asyncio.get_running_loop()
        with self._drainers_of() as drainers:
            timers = [loop.call_later(timeout, each.stop) for each in drainers if timeout is not None]
            tasks = [asyncio.create_task(each.run(forever=False, once=once, grace=grace)) for each in drainers]
            try:
                await asyncio.gather(*tasks)
            finally:
                for timer in timers:
                    timer.cancel()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await self.purge()
            stats = await self._store.stats()
            left = sum(count for (origin, _), count in stats.endpoints.items() if origin in self._clients)
            return Drained(sum(each.delivered for each in drainers), sum(each.dead for each in drainers), left)

    def stop(self) -> None:
        """Let ``drain`` and ``running`` begin no further delivery: for a signal handler."""
        for drainer in self._drainers:
            drainer.stop()

    async def stats(self) -> Stats:
        """Count what there is."""
        return await self._store.stats()

    async def items(self, state: State | None = None) -> AsyncIterator[Entry]:
        """Yield the items in *state*, or all, in the order of storing."""
        last = 0
        while page := await self._store.page(state, after=last, limit=100):
            for entry in page:
                yield entry
            last = page[-1].number

    async def get(self, item: str) -> Entry | None:
        """Return one item by its id, or None."""
        return await self._store.get(item)

    async def retry(self, item: str) -> bool:
        """Make a dead letter pending again, or a waiting item due at once, with all its attempts before it.

        Returns:
            False where there is no such item, or it is delivered or being delivered.
        """
        done = await self._store.revive(item)
        for drainer in self._drainers:
            drainer.wake()
        return done

    async def drop(self, item: str) -> bool:
        """Forget an item, whatever its state; return whether it was there. Who waits for its ticket is told."""
        dropped = await self._store.drop(item)
        ticket = self._tickets.pop(item, None) if dropped else None
        if ticket is not None:
            ticket.settle(Outcome(ok=False, status=None, error="Dropped"))
        return dropped

    async def export(self, state: State | None = "dead") -> AsyncIterator[dict[str, Any]]:
        """Yield the items in *state* as lines for ``apiclient batch``; they stay where they are."""
        async for entry in self.items(state):
            yield line_of(entry)

    async def purge(self) -> int:
        """Forget what has been kept for its time; ``running`` does this from time to time. Returns how many."""
        return sum(
            [await self._store.purge(state, seconds) for state, seconds in self._retention if seconds < math.inf]
        )

    async def aclose(self) -> None:
        """Let go of the store's files; they are opened again when needed. Closing the client does this."""
        await self._store.aclose()

    @contextlib.contextmanager
    def _drainers_of(self) -> Generator[list[Drainer], None, None]:
        clients = list(self._clients.values())
        if not clients:
            raise RuntimeError("this outbox belongs to no client; make one with ApiClient(..., outbox=outbox)")
        drainers = [
            Drainer(
                self._store,
                client,
                terms=self._terms,
                pace=Pace(**self._pacing),
                told=self._told,
                log=self._log,
            )
            for client in clients
        ]
        self._drainers += drainers
        try:
            yield drainers
        finally:
            self._drainers = [each for each in self._drainers if each not in drainers]

    async def _told(self, entry: Entry, outcome: Outcome) -> None:
        ticket = self._tickets.pop(entry.id, None)
        if ticket is not None:
            ticket.settle(outcome)
        callback = self._callbacks[outcome.ok]
        if callback is None:
            return
        state: State = "delivered" if outcome.ok else "dead"
        final = replace(entry, state=state, lease=None, status=outcome.status, error=outcome.error, body=outcome.body)
        try:
            waiting = callback(final, outcome)
            if inspect.isawaitable(waiting):
                await waiting
        except Exception as error:  # noqa: BLE001 - the outcome stands, whatever its hearer does
            self._log.emit(logging.ERROR, "outbox.callback_failed", ticket=entry.id, error_type=type(error).__name__)

    async def _keep_house(self) -> None:
        while True:
            try:
                await self.purge()
                stats = await self._store.stats()
            except OutboxError as error:
                self._log.emit(logging.ERROR, "outbox.store_failed", error=str(error))
            else:
                for client in list(self._clients.values()):
                    alert: Alert | None = client.pipeline.find(Alert)
                    if alert is not None:
                        alert.outbox(oldest=stats.oldest, dead=stats.dead)
            await asyncio.sleep(_HOUSEKEEPING)


def _alike(intent: Intent) -> str | None:
    if intent.idempotency_key is None:
        return None
    parts = [intent.method, intent.origin, intent.path, intent.endpoint, intent.idempotency_key]
    parts += [text for header in intent.headers for text in header]
    # Lengths keep two lists of parts from reading alike.
    head = repr([len(part) for part in parts]) + "".join(parts)
    return f"alike:{hashlib.blake2b(head.encode() + intent.body, digest_size=16).hexdigest()}"
