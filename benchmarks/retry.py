"""What the reliability policies cost where nothing goes wrong, and what each decision of their machines costs.

``python benchmarks/retry.py`` measures whole requests, CPU time of the process, against a server in another process:
a bare session, an ApiClient with an empty pipeline, and one with Retry, CircuitBreaker, Deadline and AttemptTimeout,
each alone and all together; aiohttp-retry and ``backoff.on_exception`` beside them. Then nanoseconds per decision.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
import timeit
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import backoff
from _measure import Contender, alternate, arguments, machine, run, save, table
from _server import CLIENT_CORE, pin, serving
from yarl import URL

from apiclient import ApiClient, Pipeline
from apiclient.middleware._alarm import Alarm, Thresholds
from apiclient.middleware._backoff import Delays, full_jitter
from apiclient.middleware._breaker import Breaker
from apiclient.middleware._budget import Budget, RetryBudget
from apiclient.middleware._verdict import Outcome, Rules, decide
from apiclient.middleware.attempt_timeout import AttemptTimeout
from apiclient.middleware.circuit_breaker import CircuitBreaker
from apiclient.middleware.deadline import Deadline
from apiclient.middleware.errors import CircuitOpen
from apiclient.middleware.retry import Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from _measure import Call

_TOTAL = aiohttp.ClientTimeout(total=None)


async def _read(session: aiohttp.ClientSession, url: URL) -> None:
    async with session.get(url) as response:
        await response.read()


@asynccontextmanager
async def _session(base: str, *chain: Any, timeout: aiohttp.ClientTimeout = _TOTAL) -> AsyncGenerator[Call]:
    url = URL(base) / "employees" / "7"
    async with aiohttp.ClientSession(
        middlewares=chain, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield partial(_read, session, url)


@asynccontextmanager
async def _client(base: str, *chain: Any) -> AsyncGenerator[Call]:
    async with ApiClient(base, pipeline=Pipeline(chain)) as client:

        async def call() -> None:
            response = await client.get("/employees/7")
            await response.read()

        yield call


@asynccontextmanager
async def _aiohttp_retry(base: str) -> AsyncGenerator[Call]:
    from aiohttp_retry import ExponentialRetry, RetryClient

    url = URL(base) / "employees" / "7"
    async with aiohttp.ClientSession(timeout=_TOTAL, cookie_jar=aiohttp.DummyCookieJar()) as session:
        client: Any = RetryClient(client_session=session, retry_options=ExponentialRetry(attempts=4))
        client._logger.setLevel(logging.WARNING)  # noqa: SLF001 - it logs every request at DEBUG otherwise

        async def call() -> None:
            async with client.get(url) as response:
                await response.read()

        yield call


@asynccontextmanager
async def _backoff(base: str) -> AsyncGenerator[Call]:
    async with _session(base) as call:
        yield backoff.on_exception(backoff.expo, aiohttp.ClientError, max_tries=4)(call)


def contenders() -> list[Contender]:
    """List what is compared; the first is the baseline."""
    four = "Deadline, Retry, CircuitBreaker, AttemptTimeout"
    return [
        Contender("bare, no total", "ClientTimeout(total=None)", _session),
        Contender("bare", "default timeout", lambda base: _session(base, timeout=aiohttp.ClientTimeout())),
        Contender("empty", "ApiClient, Pipeline()", _client),
        Contender("Deadline", "60 s", lambda base: _client(base, Deadline(60.0))),
        Contender("Retry", "4 attempts, a budget", lambda base: _client(base, Retry())),
        Contender("CircuitBreaker", "per origin", lambda base: _client(base, CircuitBreaker())),
        Contender("AttemptTimeout", "30 s", lambda base: _client(base, AttemptTimeout(30.0))),
        Contender("all four", four, lambda base: _client(base, *_four())),
        Contender("aiohttp-retry", "ExponentialRetry(4)", _aiohttp_retry),
        Contender("backoff", "on_exception(expo)", _backoff),
    ]


def _four() -> list[Any]:
    return [Deadline(60.0), Retry(), CircuitBreaker(), AttemptTimeout(30.0)]


def decisions() -> dict[str, Callable[[], object]]:
    """Return one decision of each machine, ready to be repeated."""
    budget, breaker, alarm = Budget(ratio=0.2, window=10.0, floor=10.0), Breaker(), Alarm(Thresholds())
    shared = RetryBudget()
    open_breaker = Breaker(minimum=1)
    open_breaker.force("open", 0.0)
    delays = Delays(partial(backoff.expo, factor=0.1), cap=20.0)
    rules = Rules(4, frozenset({408, 500, 502, 503, 504}), frozenset({421, 425}), None, 60.0)
    outcome = Outcome(503)
    draw = random.Random(7).random

    def attempt() -> None:
        breaker.succeeded(breaker.generation, 1.0)

    return {
        "budget: count a call": lambda: budget.call(1.0),
        "budget: find an origin's": lambda: shared.of("https://api.example.com", 1.0),
        "budget: ask for a retry": lambda: budget.withdraw(1e9, 1.0),
        "breaker: an attempt that succeeds": attempt,
        "breaker: refuse": lambda: open_breaker.enter(1.0),
        "retry: decide": lambda: decide(
            rules, outcome, method="GET", attempt=1, repeatable=True, replayable=True, delay=0.1
        ),
        "retry: next wait, jittered": lambda: full_jitter(delays.next(), draw()),
        "alarm: a call that succeeds": lambda: alarm.success(1.0),
    }


async def refusal(base: str, count: int = 2000) -> float:
    """Return the CPU seconds of a call that an open circuit refuses, ApiClient and exception included."""
    breaker = CircuitBreaker()
    async with ApiClient(base, pipeline=Pipeline([Deadline(60.0), Retry(), breaker])) as client:
        breaker.hold(base, "open")
        began = time.process_time()
        for _ in range(count):
            with contextlib.suppress(CircuitOpen):
                await client.get("/employees/7")
        return (time.process_time() - began) / count


def main() -> None:
    """Measure whole requests, then the machines alone."""
    parser = arguments("What Retry, CircuitBreaker, Deadline and AttemptTimeout cost where nothing goes wrong.")
    options = parser.parse_args()
    every = contenders()
    chosen = [every[0], *(each for each in every[1:] if options.only in each.name)]
    pin(CLIENT_CORE)
    with serving() as base:
        shape = {"rounds": options.rounds, "requests": options.requests, "concurrency": options.concurrency}
        outcome = run(alternate(chosen, base, **shape), uvloop=options.uvloop)
        refused = [run(refusal(base), uvloop=options.uvloop) for _ in range(5)]
    about = f"{machine(uvloop=options.uvloop)}; " + ", ".join(f"{value} {name}" for name, value in shape.items())
    print(about, table(outcome), sep="\n")
    figures = {sample.name: sample.summary(outcome.samples[0]) for sample in outcome.samples}
    if {"empty", "all four"} <= figures.keys():
        least, median = (figures["all four"][key] - figures["empty"][key] for key in ("cpu_min_us", "cpu_median_us"))
        print(
            f"\nthe four together, above an empty pipeline: {least:.1f} us (minima), {median:.1f} us (medians); aim 8"
        )
    print(f"a call refused by an open circuit: {min(refused) * 1e6:.0f} us")
    print("\nns per decision")
    for name, decision in decisions().items():
        best = min(timeit.repeat(decision, number=20_000, repeat=5)) / 20_000
        print(f"  {name:36} {best * 1e9:7.0f}")
    if options.json is not None:
        save(options.json, outcome, about=about)


if __name__ == "__main__":
    main()
