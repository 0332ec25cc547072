"""A runner's side of a queue: lines taken a little ahead of need, and acknowledged once the disk has their results."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

from apiclient._refused import Refused
from apiclient.job._options import Options
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_queue_store import QueuedLine, QueueFacts, RedisQueueStore

LOOKAHEAD = 1000
"""Most lines held back because their endpoints must wait: less than of a file, since others could run them."""

_LEAST_AHEAD = 16
_BREATH = 0.005  # between two rounds, so that a handful of results goes into one
_IDLE = 0.25  # until somebody else's lines are asked about again
_BUSY = 1.0  # until results are acknowledged at the latest
_AGAIN = 0.5
_PATIENCE = 10.0


class Queue(NamedTuple):
    """A queue that a job takes its lines from.

    Attributes:
        store: Keeps it.
        facts: What it held when the job was opened.
    """

    store: RedisQueueStore
    facts: QueueFacts


def check_queued(options: Options) -> None:
    """Refuse what makes no sense with a queue.

    Raises:
        ValueError: It says which option.
    """
    for name in ("keep_order", "retry_failed", "shard"):
        if getattr(options, name):
            raise ValueError(f"{name} makes no sense with a queue: runners take the lines as they are free")
    if options.output == "-":
        raise ValueError("output must be a file with a queue: a line is done once its result is on the disk")


class Queued:
    """Takes lines, says which are done, and keeps the lease, while ``keep`` runs.

    A server that does not answer is asked again until it does, each time for a bounded time: meanwhile the lines at
    hand are worked on, and nothing is acknowledged. Then both sides agree on who has what.

    Args:
        queue: Where the lines are.
        runner: Names this runner; what an earlier one of this name still has is given back.
        concurrency: Calls under way at once; as many lines are taken ahead, and at least 16.
        settle: Brings all results to the disk, and returns whether they are there.
        notice: Called with lines for the user.

    Attributes:
        facts: As last heard.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        runner: str,
        concurrency: int,
        settle: Callable[[], Awaitable[bool]],
        notice: Callable[[str], None],
    ) -> None:
        self.facts = queue.facts
        self._store = queue.store
        self._runner = runner
        self._ahead = max(_LEAST_AHEAD, concurrency)
        self._settle = settle
        self._notice = notice
        self._lines: deque[QueuedLine] = deque()
        self._held: dict[int, int] = {}  # places by line number, until they are acknowledged
        self._written: list[int] = []  # line numbers whose results may not be on the disk yet
        self._durable: list[int] = []
        self._unsure = True
        self._taking = True
        self._told = False
        self._began: tuple[int, float] | None = None
        self._hungry_since: float | None = None
        self._failed: Exception | None = None
        self._wanted = asyncio.Event()
        self._arrived = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Queued {self._store!r}, {len(self._held)} held>"

    @property
    def rate(self) -> float:
        """Lines per second that all runners together have finished since this one began."""
        if self._began is None:
            return 0.0
        done, since = self._began
        return (self.facts.done - done) / max(asyncio.get_running_loop().time() - since, 0.001)

    @property
    def drained(self) -> bool:
        """Whether every line of the input has a result, here or elsewhere."""
        return self.facts.done >= self.facts.lines

    async def lines(self) -> AsyncIterator[QueuedLine]:
        """Yield lines until the queue is drained.

        Raises:
            Refused: The queue is gone.
        """
        while True:
            while self._lines:
                line = self._lines.popleft()
                if 2 * len(self._lines) < self._ahead:
                    self._wanted.set()
                yield line
            if self._failed is not None:
                raise self._failed
            if self.drained:
                return
            self._arrived.clear()
            self._hungry_since = self._hungry_since or asyncio.get_running_loop().time()
            self._wanted.set()
            await self._arrived.wait()

    def done(self, number: int) -> None:
        """Note that the result of line *number* has been written; it need not be on the disk."""
        if number in self._held:
            self._written.append(number)
            if self._hungry_since is not None:
                self._wanted.set()

    def stop(self) -> None:
        """Take nothing more."""
        self._taking = False

    async def keep(self) -> None:
        """Renew, acknowledge and take, until the queue is drained or gone."""
        try:
            while not self.drained:
                try:
                    await self._round()
                except StoreUnavailable as error:
                    self._unsure = True
                    if not self._told:
                        self._notice(f"{error}; what is at hand goes on, and the queue is asked again until it answers")
                    self._told = True
                    await asyncio.sleep(_AGAIN)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(_BUSY if self._hungry_since is None else _IDLE):
                        await self._wanted.wait()
                self._wanted.clear()
                await asyncio.sleep(_BREATH)
        except Exception as error:  # noqa: BLE001 - it ends the lines
            self._failed = error
        finally:
            self._arrived.set()

    async def finish(self) -> None:
        """Acknowledge what the disk has, give the rest back, and close the connections."""
        try:
            await self._secure()
            await self._store.leave(self._runner, self.facts.run, done=[self._held[each] for each in self._durable])
        except StoreUnavailable as error:
            if self._held:
                self._notice(f"{error}; the lines held here go to others in {self._store.lease:g} s")
        finally:
            await self._store.aclose()

    async def _secure(self) -> None:
        count = len(self._written)
        if count and await self._settle():
            self._durable += self._written[:count]
            del self._written[:count]

    async def _round(self) -> None:
        await self._secure()
        store, run = self._store, self.facts.run
        if self._unsure and not await store.agree(self._runner, run, known=list(self._held.values())):
            raise self._gone()
        wanted = self._ahead - len(self._lines) if self._taking else 0
        done = [self._held[each] for each in self._durable]
        answer = await store.round(self._runner, run, wanted=max(0, wanted), done=done)
        if answer is None:
            raise self._gone()
        if self._told:
            self._notice(f"{self._store.name}: the queue answers again")
        self._unsure = self._told = False
        for number in self._durable:
            del self._held[number]
        self._durable.clear()
        self.facts = answer.facts
        self._began = self._began or (self.facts.done, asyncio.get_running_loop().time())
        fresh = [line for line in answer.lines if line.number not in self._held]
        self._held |= {line.number: line.place for line in fresh}
        self._lines.extend(fresh)
        if fresh:
            self._hungry_since = None
        elif self._hungry_since is not None:
            self._wonder()
        if fresh or self.drained:
            self._arrived.set()

    def _wonder(self) -> None:
        since, now = self._hungry_since, asyncio.get_running_loop().time()
        if since is not None and self.facts.loaded < self.facts.lines and now - since > _PATIENCE:
            self._hungry_since = now + 9e9
            self._notice(
                f"{self._store.name}: only {self.facts.loaded} of {self.facts.lines} lines are loaded; if nobody is "
                "loading the rest, go on with: apiclient batch IN.JSONL --queue URL --load"
            )

    def _gone(self) -> Refused:
        return Refused(
            f"{self._store!r}: the queue is gone or was loaded anew: it was forgotten, or the server restarted without "
            "its append-only file. The results so far are kept; apiclient merge RESULTS --input IN.JSONL says what "
            "is missing"
        )
