"""The simulation itself: a loop whose time jumps over every wait, and a model server in place of the network."""

import asyncio
import math
import random as _random
import selectors
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from multidict import CIMultiDict
from yarl import URL

from apiclient._batch_model import Request
from apiclient._jsonl import parse_line
from apiclient._refused import Refused
from apiclient.batch import run_batch
from apiclient.client import ApiClient
from apiclient.job._source import Source
from apiclient.middleware import (
    Authorize,
    AuthRefresh,
    Defer,
    Rate,
    ScopeStepUp,
    Telemetry,
    current_call,
)
from apiclient.pipeline import Pipeline
from apiclient.testing import FixedWindow, Latency, least_time
from apiclient.testing._end import answered_by
from apiclient.testing._response import build, phrase, stream

# They would go to the network, or tell of calls that nobody made.
_LEFT_OUT = (Authorize, AuthRefresh, ScopeStepUp, Defer, Telemetry)
_WORDING = {
    "limiter": "finding out the quotas",
    "queue": "the order of the queue",
    "backoff": "failures, and the pauses after them",
    "network": "the network and the server's own work",
}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that never waits: where it would, its clock goes on to the next timer instead."""

    def __init__(self) -> None:
        super().__init__(_Impatient(self))
        self.now = 0.0

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self.now


class _Impatient(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if found or timeout == 0:
            return found
        if timeout is None:
            # Nothing is due at all: something outside must wake the loop, a signal or a thread.
            return super().select(None)
        self._loop.now += max(timeout, 0.0)
        return found


class Quotas:
    """The quota of each endpoint, and one for those that are not named; None for none."""

    def __init__(self, default: Rate | None, named: dict[str, Rate]) -> None:
        self.default = default
        self.named = named

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Self:
        """Return what *texts* such as ``5/1s`` and ``GET /x/{id}=5/1s`` say."""
        default: Rate | None = None
        named: dict[str, Rate] = {}
        for text in texts:
            endpoint, equals, rate = text.rpartition("=")
            try:
                if equals:
                    named[endpoint.strip()] = Rate.parse(rate)
                else:
                    default = Rate.parse(rate)
            except ValueError as error:
                raise Refused(f"--server: {error}") from error
        return cls(default, named)

    def window(self, endpoint: str) -> FixedWindow | None:
        """Return a fresh counter for *endpoint*."""
        rate = self.named.get(endpoint, self.default)
        return None if rate is None else FixedWindow(rate.limit, rate.per)


class Model:
    """A server that answers 200, 429 by its quotas, or 503 by chance: a middleware, to be listed innermost."""

    def __init__(self, quotas: Quotas, *, latency: float, jitter: float, work: float, fail: float, seed: int) -> None:
        self._quotas = quotas
        self._random = _random.Random(seed)  # noqa: S311 - to be repeatable is the point
        self._latency = Latency(
            max(0.0, latency - jitter) / 2, min(jitter, latency) / 2, handler=work, random=self._random
        )
        self._fail = fail
        self._windows: dict[str, FixedWindow | None] = {}
        self._inside = 0
        self.most_inside = 0
        self.answered: Counter[int] = Counter()

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Answer *request* as a server far away would."""
        return await answered_by(self._answer, request, handler)

    async def _answer(self, request: ClientRequest) -> ClientResponse:
        self._inside += 1
        self.most_inside = max(self.most_inside, self._inside)
        try:
            await asyncio.sleep(self._latency.way())
            status, headers, body = self._said(current_call().endpoint)
            if status == 200:
                await asyncio.sleep(self._latency.work())
            await asyncio.sleep(self._latency.way())
        finally:
            self._inside -= 1
        self.answered[status] += 1
        given = CIMultiDict({"Content-Type": "text/plain", "Content-Length": str(len(body)), **headers})
        return await build(request, status=status, headers=given, content=stream(request, body))

    def _said(self, endpoint: str) -> tuple[int, dict[str, str], bytes]:
        if endpoint not in self._windows:
            self._windows[endpoint] = self._quotas.window(endpoint)
        window = self._windows[endpoint]
        if window is not None:
            verdict = window.arrive(asyncio.get_running_loop().time())
            if not verdict.accepted:
                text = f"API calls quota exceeded! maximum admitted {window.limit} per {window.period:g} second."
                return 429, {"Retry-After": f"{verdict.retry_after or 1:.0f}"}, text.encode()
        if self._random.random() < self._fail:
            return 503, {}, phrase(503).encode()
        return 200, {}, b"{}"

    def least(self, requests: dict[str, int]) -> float:
        """Return the seconds that the quotas make so many requests of each endpoint take at least."""
        times = [0.0]
        for endpoint, count in requests.items():
            window = self._quotas.window(endpoint)
            if window is not None:
                times.append(_least(window, count))
        return max(times)


def _least(window: FixedWindow, count: int) -> float:
    # Whole windows are all alike: only the last few are gone through.
    whole = max(0, (count - 1) // window.limit - 2)
    return whole * window.period + least_time(window, count - whole * window.limit)


@dataclass(slots=True)
class Found:
    """What a simulation found."""

    calls: int
    failed: int
    seconds: float
    least: float
    wire: int
    answered: Counter[int]
    concurrency: int
    enough: int
    took: float
    spent: Mapping[str, float] = field(default_factory=dict[str, float])

    def lines(self) -> list[str]:
        """Return it for a person."""
        rest = {"refused (429)": self.answered[429], "failed (503)": self.answered[503]}
        said = ", ".join(f"{count:,} {name}" for name, count in rest.items() if count)
        if self.least > self.seconds / 2:
            where, share = "the quotas of the server", self.least / self.seconds
        else:
            kind = max(self.spent, key=lambda each: self.spent[each], default="network")
            where = _WORDING.get(kind, kind)
            share = self.spent.get(kind, 0.0) / max(sum(self.spent.values()), 1e-9)
        return [
            f"{self.calls:,} calls in {_clock(self.seconds)}"
            + (f", {self.failed:,} of them failed" if self.failed else ""),
            f"{self.wire:,} requests" + (f": {said}" if said else ""),
            f"the quotas alone take {_clock(self.least)}" if self.least else "no quota holds it up",
            f"most time goes to {where} ({share:.0%})",
            f"a concurrency of {self.enough:,} is enough (simulated with {self.concurrency:,})",
            f"simulated in {self.took:.1f} s; nothing was sent",
        ]


def read_requests(source: str, base: URL) -> tuple[list[Request], int]:
    """Return the requests in the file *source*, or on stdin where it is ``-``, and the number of lines that are none.

    Raises:
        Refused: It cannot be read.
    """
    if source == "-":
        raw = sys.stdin.buffer.read().split(b"\n")
        lines = [parse_line(line, number, base) for number, line in enumerate(raw, 1) if line.strip()]
    else:
        lines = list(Source(source, lambda line, number: parse_line(line, number, base)).lines())
    requests = [line.request for line in lines if line.request is not None]
    return requests, len(lines) - len(requests)


def run_simulation(client: ApiClient, requests: Sequence[Request], model: Model, *, concurrency: int) -> Found:
    """Run *requests* as a batch of *client* against *model*, and return what there is to say about it."""
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        found = runner.run(_simulated(client, requests, model, concurrency))
    found.took = time.perf_counter() - began
    return found


async def _simulated(client: ApiClient, requests: Sequence[Request], model: Model, concurrency: int) -> Found:
    chain = Pipeline((*client.pipeline.without(*_LEFT_OUT), model), check=False)
    loop = asyncio.get_running_loop()
    spent: defaultdict[str, float] = defaultdict(float)
    endpoints: Counter[str] = Counter()
    failed = wire = 0
    async with client:
        began = loop.time()
        async for result in run_batch(client, _through(requests, chain), concurrency=concurrency):
            failed += not result.ok
            wire += result.attempts
            endpoints[result.endpoint] += 1
            spent["network"] += result.network
            for kind, waited in result.waits.items():
                spent[kind] += waited
        seconds = loop.time() - began
    return Found(
        calls=len(requests),
        failed=failed,
        seconds=seconds,
        least=model.least(endpoints),
        wire=wire,
        answered=model.answered,
        concurrency=concurrency,
        enough=max(1, math.ceil(model.most_inside)),
        took=0.0,
        spent=spent,
    )


def _through(requests: Iterable[Request], chain: Pipeline) -> Iterator[Request]:
    for request in requests:
        yield replace(request, options={**(request.options or {}), "pipeline": chain, "timeout": math.inf})


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
