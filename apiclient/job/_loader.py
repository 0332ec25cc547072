"""Loading the input of a batch into a queue: resumable, and harmless when it is done again."""

import asyncio
import secrets

from apiclient._refused import Refused
from apiclient.job._source import Source
from apiclient.stores._redis_server import StoreUnavailable
from apiclient.stores.redis_queue_store import QueueFacts, RedisQueueStore

EXAMPLE = "redis://host:6379/0?name=orders"

_PART_LINES = 1000
_PART_BYTES = 2**20
_PATIENCE = 60.0
_AGAIN = 0.5


class Loader:
    """Brings the lines of *source* into *store*, in parts, from where it stopped, also beside others who do the same.

    Args:
        store: The queue.
        source: The input; a file.

    Raises:
        Refused: The input cannot be used: it cannot be read, or two lines have one id.
    """

    def __init__(self, store: RedisQueueStore, source: Source) -> None:
        self._store = store
        self._source = source
        self._lines, self._digest = source.scan(lambda _: True)
        self._run = secrets.token_hex(8)
        self._part: list[tuple[int, bytes]] = []

    def __repr__(self) -> str:
        return f"Loader({self._store!r}, {self._source!r})"

    async def run(self) -> tuple[QueueFacts, bool]:
        """Load what is not there; return what the queue holds, and whether the server's disk has it.

        Raises:
            Refused: The queue has another input.
            StoreUnavailable: At first; or later for a minute.
        """
        facts = self._checked(await self._store.load(self._digest, self._run, self._lines, position=0, part=[]))
        while facts.loaded < self._lines:
            # Once more from the beginning of the file where the server has lost its last second.
            facts = await self._pass(facts)
        return facts, await self._store.kept()

    async def _pass(self, facts: QueueFacts) -> QueueFacts:
        part, size, position = self._part, 0, 0
        part.clear()
        for raw, number in self._source.raw():
            position += 1
            if position <= facts.loaded:
                continue
            part.append((number, raw))
            size += len(raw)
            if len(part) >= _PART_LINES or size >= _PART_BYTES or position == self._lines:
                facts, size = await self._handed_over(position), 0
                if facts.loaded < position:
                    return facts
        if position != self._lines:
            raise Refused(f"{self._source.path}: was changed meanwhile; --forget the queue, and load it again")
        return facts

    async def _handed_over(self, position: int) -> QueueFacts:
        """Load the part that ends with line *position*; others may have loaded some of it."""
        part = self._part
        while True:
            start = position - len(part)
            facts = self._checked(await self._patiently(start))
            if not start <= facts.loaded < position:
                part.clear()
                return facts
            del part[: facts.loaded - start]

    async def _patiently(self, position: int) -> QueueFacts:
        loop = asyncio.get_running_loop()
        end = loop.time() + _PATIENCE
        while True:
            try:
                return await self._store.load(self._digest, self._run, self._lines, position=position, part=self._part)
            except StoreUnavailable as error:
                if loop.time() > end:
                    raise StoreUnavailable(f"{error}; the same command goes on where it was") from error
                await asyncio.sleep(_AGAIN)

    def _checked(self, facts: QueueFacts) -> QueueFacts:
        if facts.input != self._digest:
            left = facts.lines - facts.done
            state = f"{left} of its {facts.lines} lines are still to be done" if left else "all of its lines are done"
            raise Refused(
                f"--queue: {self._store.name!r} has another input ({state}); give this one a name of its own, as in "
                f"{EXAMPLE}, or remove that one with --forget"
            )
        return facts
