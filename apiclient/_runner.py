"""The engine of a batch: a fixed number of workers between a source of requests and a taker of results."""

import asyncio
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Hashable, Iterable, Mapping
from typing import cast

from aiohttp import ClientResponse

from apiclient._batch_model import BatchResult, BatchStopped, Request
from apiclient._caller import Caller, PendingCall
from apiclient._scheduler import Scheduler
from apiclient.middleware import RateLimit
from apiclient.middleware.errors import ApiError, CredentialsRejected, Unauthorized
from apiclient.stats import BatchStats

FATAL: tuple[type[Exception], ...] = (CredentialsRejected, Unauthorized)
"""What ends a batch by default: no request would fare better until somebody puts the credentials right."""

LOOKAHEAD = 10_000
"""Most requests held back because their endpoints must wait."""

_MINIMUM = 100
_NO_WAITS: Mapping[str, float] = {}


class Limits:
    """When a batch is given up.

    Args:
        stop_on: Errors that end it at once. Their requests get no result, since they can still succeed.
        max_failures: Most failures that are put up with; one more ends it. None for any number.
        fail_rate: Largest share of failures, from 0 to 1, judged from the 100th result on; None for any.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        stop_on: tuple[type[Exception], ...] = FATAL,
        max_failures: int | None = None,
        fail_rate: float | None = None,
    ) -> None:
        if max_failures is not None and max_failures < 0:
            raise ValueError(f"max_failures must be at least 0, got {max_failures!r}")
        if fail_rate is not None and not 0 <= fail_rate <= 1:
            raise ValueError(f"fail_rate must be from 0 to 1, got {fail_rate!r}")
        self._stop_on = stop_on
        self._max_failures = max_failures
        self._fail_rate = fail_rate
        self.done = 0
        self.failed = 0
        self.stopped: BatchStopped | None = None

    def __repr__(self) -> str:
        kinds = ", ".join(kind.__name__ for kind in self._stop_on)
        return f"Limits(stop_on=[{kinds}], max_failures={self._max_failures}, fail_rate={self._fail_rate})"

    def judge(self, result: BatchResult) -> bool:
        """Count *result*; return False where it is fatal, and therefore none."""
        error = result.error
        if error is not None and isinstance(error, self._stop_on):
            self._stop("stop_on", f"A fatal error ended the batch: {error}", error)
            return False
        self.done += 1
        if result.ok:
            return True
        self.failed += 1
        if self._max_failures is not None and self.failed > self._max_failures:
            self._stop("max_failures", f"{self.failed} requests failed, and max_failures is {self._max_failures}")
        elif self._fail_rate is not None and self.done >= _MINIMUM and self.failed > self._fail_rate * self.done:
            share = f"{self.failed} of {self.done} requests failed"
            self._stop("fail_rate", f"{share}, and fail_rate is {self._fail_rate:g}")
        return True

    def _stop(self, reason: str, message: str, error: Exception | None = None) -> None:
        if self.stopped is None:
            self.stopped = BatchStopped(message, reason=reason)
            self.stopped.__cause__ = error


Deliver = Callable[[int, BatchResult], Awaitable[None] | None]
"""Takes a result and its number; what it returns is awaited by the worker: how a slow taker slows the batch."""


Refuse = Callable[[Request], Exception | None]
"""Returns why a request is not to be sent at all; that is then its result."""

Admit = Callable[[Request], bool]
"""Returns whether a request is still to be made; one that is not has no result."""


class Runner:
    """The engine: a fixed number of workers between a source of requests and a taker of results.

    Args:
        client: Makes the calls.
        requests: Pulled only as needed.
        deliver: Takes the results.
        concurrency: Workers.
        limits: When to give up.
        lookahead: Most requests held back because their endpoints must wait.
        window: Most requests between the first one without a result and the last one pulled; None for any.
        refuse: Asked about each request before its call is made.
        admit: Asked before that.
    """

    def __init__(
        self,
        client: Caller,
        requests: Iterable[Request] | AsyncIterable[Request],
        deliver: Deliver,
        *,
        concurrency: int,
        limits: Limits,
        lookahead: int = LOOKAHEAD,
        window: int | None = None,
        refuse: Refuse | None = None,
        admit: Admit | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
        if lookahead < 1:
            raise ValueError(f"lookahead must be at least 1, got {lookahead!r}")
        self._client = client
        self._deliver = deliver
        self._refuse = refuse
        self._admit = admit
        self._latest: dict[Hashable, PendingCall] = {}
        self._concurrency = concurrency
        self.limits = limits
        self._limiter: RateLimit | None = client.pipeline.find(RateLimit)
        self.scheduler: Scheduler[Request] = Scheduler(
            requests, lane_of=self._lane_of, ready_in=self._ready_in, lookahead=lookahead, window=window
        )
        self.running = 0

    def __repr__(self) -> str:
        return f"<Runner concurrency={self._concurrency} running={self.running} {self.scheduler!r}>"

    @property
    def progress(self) -> BatchStats:
        """How far it is."""
        limits = self.limits
        return BatchStats(running=self.running, held=self.scheduler.held, done=limits.done, failed=limits.failed)

    async def run(self) -> None:
        """Work until there are no more requests, or the limits say stop.

        Raises:
            Exception: What *requests* raised, after all results.
        """
        self._client.watch.batches.add(self)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._work())
            self.scheduler.raise_source_error()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._client.watch.batches.discard(self)
            await self.scheduler.aclose()

    def stop(self) -> None:
        """Begin no further call; those under way go on."""
        self.scheduler.stop()

    async def _work(self) -> None:
        scheduler, limits, latest = self.scheduler, self.limits, self._latest
        while True:
            item = scheduler.take()
            if item is None:
                item = await scheduler.wait()
                if item is None:
                    return
            request, lane = item.value, item.lane
            if self._admit is not None and not self._admit(request):
                continue
            error = None if self._refuse is None else self._refuse(request)
            if error is not None:
                result = BatchResult(request=request, ok=False, error=error)
            else:
                pending = latest[lane] = self._client.request(request.method, request.path, **request.arguments())
                self.running += 1
                try:
                    result = await perform_call(pending, request)
                finally:
                    self.running -= 1
                    if latest.get(lane) is pending:
                        del latest[lane]
                    scheduler.over(lane)
                result.held = item.held
            if limits.judge(result):
                slow = self._deliver(item.number, result)
                if slow is not None:
                    await slow
            if limits.stopped is not None:
                scheduler.stop()

    def _lane_of(self, request: Request) -> Hashable:
        if not isinstance(cast("object", request), Request):
            raise TypeError(f"a batch takes Request objects, got {type(request).__name__}; write Request(path=...)")
        if self._limiter is None:
            return None
        try:
            return self._client.endpoint_key(request.method, request.path)
        except ValueError:
            return None

    def _ready_in(self, lane: Hashable) -> float:
        if self._limiter is None or lane is None:
            return 0.0
        latest = self._latest.get(lane)
        if latest is not None and (latest.call is None or not latest.call.wire):
            # It is still on its way to the limiter (it waits for a token, perhaps), and is not counted there.
            return math.inf
        return self._limiter.ready_in(cast("tuple[str, str]", lane))


async def perform_call(pending: PendingCall, request: Request) -> BatchResult:
    """Make the call that *pending* stands for; every failure of it is its result.

    Raises:
        CancelledError: This task is cancelled; a cancellation that comes from within the chain is a failure.
    """
    time = asyncio.get_running_loop().time
    began = time()
    try:
        response: ClientResponse = await pending
        body = await response.read()
    except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001 - see above
        error = caught if isinstance(caught, Exception) else _cancelled_within(caught)
        result = BatchResult(
            request=request, ok=False, status=getattr(error, "status", None), error=error, duration=time() - began
        )
        # The traceback holds the frames of the call, and a result may be kept for long.
        error.__traceback__ = caught.__traceback__ = None
    else:
        result = BatchResult(
            request=request,
            ok=response.status < 400,
            status=response.status,
            body=body,
            content_type=response.content_type,
            duration=time() - began,
            waits=_NO_WAITS,
        )
    call = pending.call
    if call is not None:
        result.attempts = call.attempts
        result.network = call.network
        result.endpoint = call.endpoint
        if call.waits:
            result.waits = call.waits
        if call.trail:
            result.trail = call.trail
    return result


def _cancelled_within(cancelled: BaseException) -> ApiError:
    """Return an error in place of *cancelled*, which is raised where it was this task that was cancelled."""
    task = asyncio.current_task()
    if not isinstance(cancelled, asyncio.CancelledError) or task is None or task.cancelling():
        raise cancelled
    error = ApiError("The call was cancelled by something within its own chain")
    error.__cause__ = cancelled
    return error
