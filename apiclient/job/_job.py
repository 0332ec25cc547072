"""A batch from file to file: read, checked, sent, written, counted; and gone on with after any interruption."""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

from apiclient._batch_model import BatchResult, BatchStopped, Request
from apiclient._jsonl import Line, dead_letter, parse_line, result_line
from apiclient._runner import FATAL, LOOKAHEAD, Limits, Runner, perform_call
from apiclient.client import ApiClient
from apiclient.job._checkpoint import Checkpoint
from apiclient.job._ids import Ids, digest_of
from apiclient.job._options import Options, Progress
from apiclient.job._queued import LOOKAHEAD as FEW
from apiclient.job._queued import Queue, Queued, check_queued
from apiclient.job._source import Source
from apiclient.job._statistics import Statistics
from apiclient.job._stdout import Stdout
from apiclient.middleware import CircuitBreaker, RateLimit
from apiclient.middleware.errors import ApiError, ConnectFailed, InvalidRequest

OK, DEAD_LETTERS, REFUSED, STOPPED, CREDENTIALS = 0, 1, 2, 3, 4
_KEYED = frozenset({"POST", "PATCH"})
_CANARIES = 3
_WATCHED = 1.0


class Job:
    """One run of a batch from file to file, or from a queue to a file.

    Opening it reads the input once and locks the output; nothing is sent before ``run``.

    Args:
        client: Makes the calls; closed at the end.
        options: See ``Options``.
        notice: Called with lines for the user: bad input lines, and why a batch ended.
        now: Wall clock in Unix seconds.
        queue: Where the lines are, in place of ``options.source``.

    Raises:
        Refused: Input or output cannot be used.
        ValueError: An option is out of its range, or makes no sense with a queue.

    Attributes:
        statistics: Of this run.
        stopped: Why it ended early, or None.
    """

    def __init__(
        self,
        client: ApiClient,
        options: Options,
        *,
        notice: Callable[[str], None],
        now: Callable[[], float] = time.time,
        queue: Queue | None = None,
    ) -> None:
        self._client = client
        self._options = options
        self._notice = notice
        self._now = now
        self._limits = Limits(stop_on=FATAL, max_failures=options.max_failures, fail_rate=options.fail_rate)
        self.stopped: BatchStopped | None = None
        self.statistics = Statistics(now())
        self._queue = queue
        self._queued: Queued | None = None
        self._source: Source | None = None
        self.total: int | None = None
        described: dict[str, Any] = {
            "input": "standard input",
            "target": options.target,
            "shard": None if options.shard is None else f"{options.shard[0]}/{options.shard[1]}",
            "queue": None,
        }
        if queue is not None:
            check_queued(options)
            facts = queue.facts
            described |= {"input": facts.input, "queue": f"{queue.store.name} {facts.run}", "lines": facts.lines}
        else:
            self._source = Source(options.source, self._parse)
            if not self._source.streamed:
                self.total, described["input"] = self._source.scan(self._mine)
        if options.output == "-":
            self.output: Checkpoint | Stdout = Stdout(render=self._rendered, on_error=self.interrupt)
        else:
            self.output = Checkpoint(Path(options.output), render=self._rendered, on_error=self._unwritable)
            self.output.open(described, resume=options.resume, retry_failed=options.retry_failed, force=options.force)
        # Idempotency keys are made from it: of a queue it is the same for every runner.
        self._run = self.output.run if queue is None else queue.facts.run
        self._some = options.shard is not None or len(self.output.done) > 0
        self._runner: Runner | None = None
        self._task: asyncio.Task[None] | None = None
        self._interrupted = False
        self._reading = False
        self._held: dict[int, tuple[BatchResult, float]] = {}
        self._following = 0
        self._states: dict[str, str] = {}
        self._seen = Ids()

    def __repr__(self) -> str:
        return f"<Job {self._options.source} -> {self._options.output}>"

    @property
    def resumed(self) -> int:
        """How many requests had a result before this run."""
        return len(self.output.done)

    @property
    def failures(self) -> int:
        """Failures in the output, those of earlier runs included."""
        return self.output.failed + self.statistics.failed

    async def run(self) -> int:
        """Work until everything has a result, or something ends it early; return the exit code."""
        self.statistics.began = self.statistics.ended = self._now()
        if self._queue is not None and isinstance(self.output, Checkpoint):
            self._queued = Queued(
                self._queue,
                runner=self.output.run,
                concurrency=self._options.concurrency,
                settle=self.output.settle,
                notice=self._notice,
            )
        self._task = asyncio.create_task(self._work())
        beside = [asyncio.create_task(self._watch())]
        if self._queued is not None:
            beside.append(asyncio.create_task(self._queued.keep()))
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._interrupted or cast("asyncio.Task[int]", asyncio.current_task()).cancelling():
                raise
        finally:
            for task in beside:
                task.cancel()
            try:
                await asyncio.gather(*beside, return_exceptions=True)
                if self._queued is not None:
                    await self._queued.finish()
            finally:
                # Cancelled once more meanwhile, it still leaves the output unlocked and nothing open.
                self.output.flush()
                self.output.close()
                await self._client.aclose()
        for name, endpoint in self.statistics.endpoints.items():
            endpoint.rates = self._rates(name)
        return self._code()

    def interrupt(self) -> None:
        """First: begin nothing more, and let what is under way end within the grace. Second: end now."""
        if self._task is None:
            return
        again, self._interrupted = self._interrupted, True
        if again or self._reading:
            self._task.cancel()
            return
        if self._queued is not None:
            self._queued.stop()
        if self._runner is not None:
            self._runner.stop()
        asyncio.get_running_loop().call_later(self._options.grace, self._task.cancel)

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked it to end."""
        return self._interrupted

    def progress(self) -> Progress:
        """Return how far it is."""
        statistics = self.statistics
        now = self._now()
        done, total = self.resumed + statistics.calls, self.total
        if self._queued is not None:
            done, total = self._queued.facts.done, self._queued.facts.lines
        lately = statistics.rate(now)
        return Progress(
            done=done,
            total=total,
            ok=self.output.ok + statistics.ok,
            failed=self.failures,
            again=statistics.again,
            now=lately,
            average=statistics.calls / max(now - statistics.began, 0.001),
            p50=statistics.call_latency.quantile(0.5),
            p95=statistics.call_latency.quantile(0.95),
            running=0 if self._runner is None else self._runner.running,
            held=0 if self._runner is None else self._runner.scheduler.held,
            breaker=self._breaker(now),
            eta=self._eta(done, total, lately if self._queued is None else self._queued.rate),
        )

    # The work

    async def _work(self) -> None:
        options, queued = self._options, self._queued
        requests: Iterator[Request] | AsyncIterator[Request]
        if queued is not None:
            requests = self._leased(queued)
        else:
            source = cast("Source", self._source)
            requests = self._streamed(source) if source.streamed else self._requests(source)
        if options.canary and not await self._canaries(requests):
            return
        if self._interrupted or self._limits.stopped is not None:
            self.stopped = self._limits.stopped
            return
        self._runner = Runner(
            self._client,
            requests,
            self._deliver if not options.keep_order else self._deliver_in_order,
            concurrency=options.concurrency,
            limits=self._limits,
            lookahead=LOOKAHEAD if queued is None else FEW,
            window=10_000 if options.keep_order else None,
            refuse=self._refused,
            admit=None if queued is None else lambda request: queued.begin(request.id.number),
        )
        await self._runner.run()
        for number in sorted(self._held):
            self.output.add(*self._held.pop(number))
        self.stopped = self._limits.stopped

    async def _canaries(  # noqa: PLR0911 - each end says why
        self, requests: Iterator[Request] | AsyncIterator[Request]
    ) -> bool:
        """Send the first request alone, two more where it fails in a way that a wrong base URL would explain."""
        kinds: set[str] = set()
        for count in range(1, _CANARIES + 1):
            self._reading = True
            request = await anext(requests, None) if isinstance(requests, AsyncIterator) else next(requests, None)
            self._reading = False
            if request is None or self._interrupted:
                return request is not None
            error = self._refused(request)
            if error is None:
                pending = self._client.request(request.method, request.path, **request.arguments())
                result = await perform_call(pending, request)
                error = result.error
            else:
                result = BatchResult(request=request, ok=False, error=error)
            if isinstance(error, ConnectFailed):
                self.stopped = BatchStopped(f"The first request could not be sent: {error}", reason="stop_on")
                return False
            if not self._limits.judge(result):
                self.stopped = self._limits.stopped
                return False
            self._deliver(-1, result)
            if error is None or not isinstance(error, ApiError) or isinstance(error, InvalidRequest):
                return True
            kinds.add(type(error).__name__)
            if result.status not in {403, 404, 405} or len(kinds) > 1:
                return True
            if count == _CANARIES:
                self.stopped = BatchStopped(
                    f"The first {count} requests all ended as {kinds.pop()}: {error}. The base URL may be wrong; "
                    "--no-canary goes on all the same",
                    reason="stop_on",
                )
                return False
        return True

    def _parse(self, raw: bytes, number: int) -> Line:
        return parse_line(raw, number, self._client.base_url)

    def _requests(self, source: Source) -> Iterator[Request]:
        for chunk in source.chunks():
            yield from [request for line in chunk if (request := self._request(line)) is not None]

    async def _leased(self, queued: Queued) -> AsyncIterator[Request]:
        async for taken in queued.lines():
            line = self._parse(taken.raw, taken.number)
            digest = digest_of(line.key)
            if digest in self._seen or digest in self.output.done:
                # It came again after its result was written, and before that was acknowledged.
                queued.done(line.number)
            elif (request := self._request(line)) is not None:
                yield request

    async def _streamed(self, source: Source) -> AsyncIterator[Request]:
        async for line in source.streamed_lines():
            digest = digest_of(line.key)
            if digest in self._seen:
                self._notice(f"line {line.number}: the id {line.key} was there before; the line is left out")
                continue
            self._seen.add(digest)
            request = self._request(line)
            if request is not None:
                yield request

    def _mine(self, digest: int) -> bool:
        shard = self._options.shard
        return shard is None or digest % shard[1] == shard[0] - 1

    def _request(self, line: Line) -> Request | None:
        if self._some:
            digest = digest_of(line.key)
            if not self._mine(digest) or digest in self.output.done:
                return None
        request = line.request
        if request is None:
            return Request(path="/", id=line)
        request.id = line
        if self._options.keys and request.idempotency_key is None and request.method in _KEYED:
            request.idempotency_key = self._key(line.key)
        return request

    def _key(self, key: str) -> str:
        return hashlib.blake2b(key.encode(), key=self._run.encode(), digest_size=16).hexdigest()

    def _refused(self, request: Request) -> Exception | None:
        line: Line = request.id
        if line.bad is None:
            return None
        self._notice(f"line {line.number}: {line.bad.reason}")
        return InvalidRequest(f"line {line.number}: {line.bad.reason}", hint="Correct the line and run it again")

    def _deliver(self, _number: int, result: BatchResult) -> None:
        self.output.add(result, self._now())
        if self._queued is not None:
            line: Line = result.request.id
            self._seen.add(digest_of(line.key))
            self._queued.done(line.number)

    def _deliver_in_order(self, number: int, result: BatchResult) -> None:
        held = self._held
        held[number] = result, self._now()
        while self._following in held:
            self.output.add(*held.pop(self._following))
            self._following += 1
        if self._runner is not None:
            self._runner.scheduler.settle(self._following)

    def _rendered(self, result: BatchResult, now: float) -> tuple[bytes, bytes | None]:
        line: Line = result.request.id
        self.statistics.add(result, line.key, now)
        text = result_line(result, line.key, now - result.duration)
        if result.ok:
            return text, None
        return text, dead_letter(
            line, result.error if result.error is not None else ApiError(f"status {result.status}")
        )

    def _unwritable(self) -> None:
        if self._runner is not None:
            self._runner.stop()
        elif self._task is not None:
            self._interrupted = True
            self._task.cancel()

    # The end

    def _code(self) -> int:
        if self.output.error is not None:
            return REFUSED
        if self.stopped is not None:
            return CREDENTIALS if self.stopped.reason == "stop_on" else STOPPED
        return DEAD_LETTERS if self.failures else OK

    # How it goes

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCHED)
            self._breaker(self._now())

    def _breaker(self, now: float) -> str:
        breaker: CircuitBreaker | None = self._client.pipeline.find(CircuitBreaker)
        if breaker is None:
            return ""
        states = {name: state.value for name, state in breaker.states().items()}
        for name, state in states.items():
            before = self._states.get(name, "closed")
            if state != before:
                self.statistics.event(now, f"circuit {state}: {name}")
        self._states = states
        return ", ".join(f"{name} {state}" for name, state in states.items() if state != "closed")

    def _rates(self, endpoint: str) -> tuple[tuple[int, float], ...]:
        limiter: RateLimit | None = self._client.pipeline.find(RateLimit)
        if limiter is None or not endpoint or endpoint.startswith("("):
            return ()
        key = (str(self._client.base_url.origin()), endpoint)
        return tuple((rate.limit, rate.per) for rate in limiter.rates(key))

    def _eta(self, done: int, total: int | None, rate: float) -> float | None:
        if total is None or done >= total:
            return 0.0 if total is not None else None
        if rate <= 0:
            return None
        seconds = (total - done) / rate
        limiter: RateLimit | None = self._client.pipeline.find(RateLimit)
        if limiter is not None and self._runner is not None:
            for lane, waiting in self._runner.scheduler.waiting.items():
                for each in limiter.rates(cast("tuple[str, str]", lane)) if isinstance(lane, tuple) else ():
                    seconds = max(seconds, waiting / each.limit * each.per)
        return seconds if math.isfinite(seconds) else None
