"""What watches a client's calls from outside of the chain: telemetry, gauges, and the debug waterfall."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TextIO
from weakref import WeakSet

from aiohttp import ClientResponse

from apiclient._trace import Trace
from apiclient.middleware import Telemetry
from apiclient.middleware._call import Call
from apiclient.middleware._readings import Reading
from apiclient.pipeline import Pipeline
from apiclient.stats import Batch, ClientStats, OutboxStats, Parts, readings_of, stats_of

_FRESH = 1.0
_PATIENCE = 0.5


class Watch:
    """Sees a client's calls whole, redirects and reading of the body included.

    Args:
        base_url: Of the client.
        pipeline: The client's.
        outbox: The client's, or None.
        debug: Whether to print the waterfall of each call that fails.
        stream: Where to; None means standard error, as it is at that time.
    """

    def __init__(
        self, base_url: str, pipeline: Pipeline, outbox: Any, *, debug: bool, stream: TextIO | None = None
    ) -> None:
        self._base_url = base_url
        self._pipeline = pipeline
        self._outbox = _Glance(outbox)
        self._debug = debug
        self._stream = stream
        self.batches: WeakSet[Batch] = WeakSet()
        self._gauges = Gauges(lambda: readings_of(self._parts()))
        if pipeline.observer is not None:
            pipeline.observer.watch(self._gauges)

    def __repr__(self) -> str:
        return f"Watch(debug={self._debug})"

    def over(
        self, call: Call, observer: Telemetry | None, work: Awaitable[ClientResponse]
    ) -> Awaitable[ClientResponse]:
        """Return *work*, which is the whole of *call*, watched by whoever wants to see it."""
        if observer is not None and observer.collects(call.time()):
            self._gauges.attach()
            work = observer.observe(call, work)
        return self._traced(call, work) if self._debug else work

    def stats(self) -> ClientStats:
        """Return how the client stands."""
        return stats_of(self._parts())

    def close(self) -> None:
        """Tell the gauges nothing any more."""
        self._gauges.detach()

    def _parts(self) -> Parts:
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            now = 0.0
        return Parts(self._base_url, self._pipeline, self._outbox.latest(), tuple(self.batches), now)

    async def _traced(self, call: Call, work: Awaitable[ClientResponse]) -> ClientResponse:
        trace = Trace(call)
        response: ClientResponse | None = None
        failure: BaseException | None = None
        try:
            response = await work
            return response
        except BaseException as error:
            failure = error
            raise
        finally:
            if failure is not None or (response is not None and response.status >= 400):
                text = trace.text(None if response is None else response.status, failure)
                with contextlib.suppress(OSError, ValueError):  # A closed stream is no trouble of the call's.
                    (sys.stderr if self._stream is None else self._stream).write(f"{text}\n")
            del failure  # It holds this frame through its traceback.


class Gauges:
    """Reads a client's gauges for whatever thread asks: exporters run in one of their own.

    Args:
        read: Returns the present values; only ever called in the event loop's thread.
    """

    def __init__(self, read: Callable[[], list[Reading]]) -> None:
        self._read = read
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last: list[Reading] = []
        self._taken = -_FRESH

    def __repr__(self) -> str:
        return f"<Gauges {len(self._last)} readings>"

    def attach(self) -> None:
        """Belong to the running event loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    def detach(self) -> None:
        """Tell nothing any more."""
        self._loop = None
        self._last = []

    def read(self) -> list[Reading]:
        """Return the present values, or those of a second ago; where the loop does not answer, the last known."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return []
        now = loop.time()
        if self._taken <= now < self._taken + _FRESH:
            return self._last
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._last, self._taken = self._read(), now
            return self._last
        self._taken = now  # Also where it does not answer: each of the gauges would wait for it again.
        done = threading.Event()

        def take() -> None:
            if self._loop is not None:
                self._last = self._read()
            done.set()

        with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
            loop.call_soon_threadsafe(take)
            done.wait(_PATIENCE)
        return self._last


class _Glance:
    """The state of an outbox as it was counted last; asking has it counted again, in the background."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox
        self._last: OutboxStats | None = None
        self._task: asyncio.Task[None] | None = None

    def latest(self) -> OutboxStats | None:
        count = getattr(self._outbox, "stats", None)
        if count is None:
            return OutboxStats(depth=len(self._outbox)) if hasattr(self._outbox, "__len__") else None
        with contextlib.suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            if self._task is None or self._task.done() or self._task.get_loop() is not loop:
                self._task = loop.create_task(self._count(count))
        return self._last

    async def _count(self, count: Callable[[], Awaitable[Any]]) -> None:
        with contextlib.suppress(Exception):  # The outbox tells its own troubles to those who use it.
            counted = await count()
            self._last = OutboxStats(depth=counted.pending, oldest=counted.oldest, dead=counted.dead)
