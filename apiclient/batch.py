"""Many calls through one client: a fixed number of workers, results as they come."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable

from apiclient._batch_model import BatchResult, BatchStopped, Request
from apiclient._caller import Caller
from apiclient._runner import FATAL, LOOKAHEAD, Limits, Runner

__all__ = ["FATAL", "LOOKAHEAD", "BatchResult", "BatchStopped", "Request", "run_batch"]


async def run_batch(
    client: Caller,
    requests: Iterable[Request] | AsyncIterable[Request],
    *,
    concurrency: int = 100,
    ordered: bool = False,
    stop_on: tuple[type[Exception], ...] = FATAL,
    max_failures: int | None = None,
    fail_rate: float | None = None,
    lookahead: int = LOOKAHEAD,
) -> AsyncIterator[BatchResult]:
    """Make *requests* through *client*, at most *concurrency* at a time, and yield each result once.

    Requests are pulled only as workers become free, and a result waits until it is taken: memory does not
    grow with their number. A request whose endpoint has no quota left is held back, and others go first;
    within an endpoint they begin in order. Leaving the loop early cancels what is under way. An error of a call is a
    result; an error of *requests* itself ends the batch and is raised after the results before it.

    Args:
        client: Makes the calls.
        requests: Iterable or async iterable.
        concurrency: Workers, at least 1.
        ordered: Yield in the order of *requests* rather than as results come. Results are kept until it is their
            turn, at most *lookahead* of them; beyond that nothing new begins before the oldest has ended.
        stop_on: Errors that end the batch at once. Their requests get no result.
        max_failures: Most failures that are put up with; None for any number.
        fail_rate: Largest share of failures, from 0 to 1, judged from the 100th result on; None for any.
        lookahead: Most requests held back because their endpoints must wait.

    Raises:
        ValueError: An option is out of its range.
        BatchStopped: A limit was reached; raised once what was under way has ended, after its results.
    """
    results: asyncio.Queue[tuple[int, BatchResult] | None] = asyncio.Queue(maxsize=max(2, 2 * concurrency))
    limits = Limits(stop_on=stop_on, max_failures=max_failures, fail_rate=fail_rate)

    def deliver(number: int, result: BatchResult) -> Awaitable[None] | None:
        if results.full():
            return results.put((number, result))
        results.put_nowait((number, result))
        return None

    runner = Runner(
        client,
        requests,
        deliver,
        concurrency=concurrency,
        limits=limits,
        lookahead=lookahead,
        window=lookahead if ordered else None,
    )

    async def run() -> None:
        try:
            await runner.run()
        except Exception:
            await results.put(None)
            raise
        # Not when cancelled: then nobody takes results any more.
        await results.put(None)

    task = asyncio.create_task(run())
    held: dict[int, BatchResult] = {}
    following = 0
    try:
        while (item := await results.get()) is not None:
            if not ordered:
                yield item[1]
                continue
            held[item[0]] = item[1]
            while following in held:
                following += 1
                runner.scheduler.settle(following)
                yield held.pop(following - 1)
        # Where the batch was stopped, some have no result, and those behind them still have one.
        for number in sorted(held):
            yield held[number]
        await task
        if limits.stopped is not None:
            limits.stopped.done, limits.stopped.failed = limits.done, limits.failed
            raise limits.stopped
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
