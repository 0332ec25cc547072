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

_LEAST_AHEAD, _MOST_AHEAD = 16, 1024
_PACE = 0.1  # that half of what is taken ahead should last
_GATHER = 0.05  # between two rounds, so that many results go into one, as long as there are lines
_BREATH = 0.005  # where there are none
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

    It takes ahead what lasts a fifth of a second, and at least 16 lines. A disk that is slow holds up what is
    acknowledged, but not the lease. A server that does not answer is asked again until it does, each time for a bounded
    time: meanwhile the lines at hand are worked on, and nothing is acknowledged. Then, and whenever they count
    differently, both sides agree on who has what: lines that are others' by now and were not begun are left to them.

    Args:
        queue: Where the lines are.
        runner: Names this runner; what an earlier one of this name still has is given back.
        concurrency: Calls under way at once; at least as many lines are taken ahead.
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
        self._least = self._ahead = max(_LEAST_AHEAD, concurrency)
        self._settle = settle
        self._notice = notice
        self._lines: deque[QueuedLine] = deque()
        self._held: dict[int, int] = {}  # places by line number, until they are acknowledged
        self._lost: set[int] = set()  # numbers of those among them that are others' by now
        self._written: list[int] = []  # line numbers whose results may not be on the disk yet
        self._durable: list[int] = []
        self._unsure = True
        self._taking = True
        self._told = False
        self._began: tuple[int, float] | None = None
        self._hungry_since: float | None = None
        self._failed: Exception | None = None
        self._used = 0
        self._asked = 0.0
        self._securing: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._dry = asyncio.Event()
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
                self._used += 1
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
            self._dry.set()
            await self._arrived.wait()

    def begin(self, number: int) -> bool:
        """Return whether line *number* is still this runner's, and is to be run."""
        if number not in self._lost:
            return True
        self._lost.discard(number)
        del self._held[number]
        return False

    def done(self, number: int) -> None:
        """Note that the result of line *number* has been written; it need not be on the disk."""
        if number in self._held:
            self._written.append(number)
            if self._hungry_since is not None:
                self._wanted.set()
                self._dry.set()

    def stop(self) -> None:
        """Take nothing more."""
        self._taking = False

    async def keep(self) -> None:
        """Renew, acknowledge and take, until the queue is drained or gone."""
        often = self._store.lease / 4
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
                await _within(min(often, _BUSY if self._hungry_since is None else _IDLE), self._wanted)
                if self._hungry_since is None:
                    await _within(_GATHER, self._dry)
                await asyncio.sleep(_BREATH)
                self._wanted.clear()
                self._dry.clear()
        except Exception as error:  # noqa: BLE001 - it ends the lines
            self._failed = error
        finally:
            self._arrived.set()

    async def finish(self) -> None:
        """Acknowledge what the disk has, give the rest back, and close the connections."""
        try:
            if self._securing is not None:
                await self._securing
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

    async def _secured(self) -> None:
        """Wait for the disk, but not for so long that the lease is over."""
        if self._securing is None or self._securing.done():
            self._securing = asyncio.create_task(self._secure())
        await asyncio.wait([self._securing], timeout=self._store.lease / 4)

    async def _agree(self) -> None:
        known = dict(self._held)
        places = await self._store.agree(self._runner, self.facts.run, known=list(known.values()))
        if places is None:
            raise self._gone()
        self._lost = {number for number, place in known.items() if place not in places}

    async def _round(self) -> None:
        await self._secured()
        store, run = self._store, self.facts.run
        if self._unsure:
            await self._agree()
        wanted = self._ahead - len(self._lines) if self._taking else 0
        durable = list(self._durable)
        done = [self._held[each] for each in durable]
        answer = await store.round(self._runner, run, wanted=max(0, wanted), done=done)
        if answer is None:
            raise self._gone()
        if self._told:
            self._notice(f"{self._store.name}: the queue answers again")
        self._told = False
        for number in durable:
            del self._held[number]
            self._lost.discard(number)
        del self._durable[: len(durable)]
        self.facts = answer.facts
        self._began = self._began or (self.facts.done, asyncio.get_running_loop().time())
        fresh = [line for line in answer.lines if line.number not in self._held]
        self._held |= {line.number: line.place for line in fresh}
        self._lost.difference_update(line.number for line in answer.lines)
        self._lines.extend(fresh)
        if 2 * len(self._lines) >= self._ahead:
            self._wanted.clear()
        self._unsure = answer.held != len(self._held) - len(self._lost)
        self._adapt()
        if fresh:
            self._hungry_since = None
        elif self._hungry_since is not None:
            self._wonder()
        if fresh or self.drained:
            self._arrived.set()

    def _adapt(self) -> None:
        now = asyncio.get_running_loop().time()
        lasted, used = now - self._asked, self._used
        self._asked, self._used = now, 0
        if 2 * used >= self._ahead and lasted < _PACE:
            self._ahead = min(2 * self._ahead, _MOST_AHEAD)
        elif 8 * used < self._ahead:
            self._ahead = max(self._ahead // 2, self._least)

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


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
