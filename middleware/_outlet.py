"""Where notices go: a bounded queue before each sink, so that no sink can touch a call."""

import asyncio
import contextlib
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import asdict, dataclass, replace
from typing import Any

from apiclient.middleware._events import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a sink is told.

    Attributes:
        kind: ``alerting``, ``reminder`` or ``resolved``.
        scope: The endpoint, or ``client`` for all of them together.
        origin: The origin of the call that showed it, or "" for the outbox.
        cause: ``ratio``, ``consecutive``, ``breaker``, ``outbox`` or ``dead_letter``.
        failed: Calls that failed.
        calls: Calls in the long window.
        since: When the trouble began, in Unix seconds.
        at: When this was noticed, in Unix seconds.
        last_error: The last failure, in words without secrets, or "".
        trace_id: The server's identifier of that failure, or None.
        dropped: Notices that this sink has lost so far, because it was too slow.
    """

    kind: str
    scope: str
    origin: str
    cause: str
    failed: int
    calls: int
    since: float
    at: float
    last_error: str
    trace_id: str | None
    dropped: int = 0

    def __str__(self) -> str:
        seconds = self.at - self.since
        if self.kind == "resolved":
            return f"{self.scope}: resolved after {seconds:.0f} s"
        last = f"; last: {self.last_error}" if self.last_error else ""
        trace = f" (trace id {self.trace_id})" if self.trace_id else ""
        return f"{self.scope}: {self.kind} ({self.cause}), {self.failed} failed in {seconds:.0f} s{last}{trace}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, fit for JSON."""
        return asdict(self)


Sink = Callable[[Notice], Awaitable[None] | None]
"""Takes a notice: a coroutine function, or a plain one, which runs in a thread."""


class Outlet:
    """Delivers notices to one sink, one after the other, in the background.

    Args:
        sink: Where they go. What it raises is logged and forgotten.
        queue: Notices that may wait; what is beyond is dropped and counted.
        timeout: Seconds for one notice.
    """

    def __init__(self, sink: Sink, *, queue: int, timeout: float) -> None:
        self._sink = sink
        self._asynchronous = inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(
            getattr(sink, "__call__", None)  # noqa: B004 - an object whose __call__ is a coroutine function
        )
        self._limit = queue
        self._timeout = timeout
        self._waiting: deque[Notice] = deque()
        self._task: asyncio.Task[None] | None = None
        self._returned = threading.Event()
        self._returned.set()
        self.dropped = 0

    def __repr__(self) -> str:
        name = getattr(self._sink, "__qualname__", type(self._sink).__qualname__)
        return f"<Outlet {name} {len(self._waiting)} waiting>"

    def put(self, notice: Notice, log: EventLog) -> None:
        """Queue *notice*; never waits and never raises."""
        if len(self._waiting) >= self._limit:
            self.dropped += 1
            return
        self._waiting.append(notice)
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            # An empty context: a request that the sink makes is no part of the call that raised the alarm.
            self._task = loop.create_task(self._deliver(log), name="apiclient alert sink", context=Context())

    async def drained(self, timeout: float) -> None:  # noqa: ASYNC109 - a bound on the wait, not on the work
        """Wait until everything is delivered, for at most *timeout* seconds, and stop delivering then."""
        task = self._task
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({task}, timeout=timeout)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=1.0)

    async def _deliver(self, log: EventLog) -> None:
        while self._waiting:
            notice = replace(self._waiting.popleft(), dropped=self.dropped)
            try:
                async with asyncio.timeout(self._timeout):
                    await self._hand_over(notice)
            except Exception as error:  # noqa: BLE001 - whatever a sink does, it is no trouble of the calls
                reason = "timed out" if isinstance(error, TimeoutError) else type(error).__name__
                log.emit(logging.WARNING, "alert.sink_failed", scope=notice.scope, reason=reason)

    async def _hand_over(self, notice: Notice) -> None:
        if self._asynchronous:
            result = self._sink(notice)
        else:
            result = await self._in_thread(notice)
        if inspect.isawaitable(result):
            await result

    async def _in_thread(self, notice: Notice) -> Awaitable[None] | None:
        if not self._returned.is_set():
            self.dropped += 1
            raise TimeoutError("the sink still holds an earlier notice")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Awaitable[None] | None] = loop.create_future()

        def run() -> None:
            result: Awaitable[None] | None = None
            failure: Exception | None = None
            try:
                result = self._sink(notice)
            except Exception as error:  # noqa: BLE001 - handed to the waiting side
                failure = error
            self._returned.set()
            with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
                loop.call_soon_threadsafe(_settle, done, result, failure)

        # A daemon, unlike the threads of an executor: a sink that hangs must not keep the process from ending.
        self._returned.clear()
        threading.Thread(target=run, name="apiclient alert sink", daemon=True).start()
        return await done


def _settle(
    done: "asyncio.Future[Awaitable[None] | None]", result: Awaitable[None] | None, failure: Exception | None
) -> None:
    if done.done():
        return
    if failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(result)
