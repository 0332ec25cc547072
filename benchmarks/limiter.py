"""Time over the least possible, and refusals: our limiter beside others, against servers of every kind.

    python benchmarks/limiter.py                 virtual time, every server and network
    python benchmarks/limiter.py --sockets       real time, real aiohttp sockets, a part of it
    python benchmarks/limiter.py --cost          what an acquire, a waiter and a release cost

A table cell reads ``time / least time (refusals)``, the median of the seeds. The least time is what a client
that knows the server's state would need: the model's own least schedule, one connect, one round trip, and at an
endpoint that works for a while the slowest of the last quota.
"""

import argparse
import asyncio
import gc
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
import pyrate_limiter.clocks
import throttled.utils
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiolimiter import AsyncLimiter
from multidict import CIMultiDict
from pyrate_limiter import Limiter
from pyrate_limiter import Rate as PyrateRate
from throttled.asyncio import MemoryStore, RateLimiterType, Throttled, per_duration
from yarl import URL

from apiclient.middleware._call import Call, calling
from apiclient.middleware._lane import Lane
from apiclient.middleware._pacing.pacer import Pacer
from apiclient.middleware._parsing.rate import Rate
from apiclient.middleware.rate_limit import RateLimit
from apiclient.testing._models import (
    NETWORKS,
    FixedWindow,
    Latency,
    LeakyBucket,
    QuotaServer,
    SlidingCounter,
    SlidingLog,
    TokenBucket,
    Verdict,
    least_time,
)

URL_ = URL("http://api.test/employees")
Send = Callable[[Any], Awaitable[Any]]
Client = Callable[[Send, QuotaServer], Callable[[], Coroutine[Any, Any, None]]]

SERVERS: dict[str, Callable[[int, float], QuotaServer]] = {
    "fixed, first request": lambda limit, _: FixedWindow(limit),
    "sliding log": lambda limit, _: SlidingLog(limit),
    "token bucket": lambda limit, _: TokenBucket(limit),
    "fixed, clock": lambda limit, phase: FixedWindow(limit, start="clock", phase=phase),
    "fixed, timer": lambda limit, phase: FixedWindow(limit, start="timer", phase=phase, retry_after=False),
    "log counting refusals": lambda limit, _: SlidingLog(limit, count_rejected=True),
    "sliding counter": lambda limit, phase: SlidingCounter(limit, phase=phase),
    "half token bucket": lambda limit, _: TokenBucket(limit, capacity=limit / 2),
    "leaky bucket": lambda limit, _: LeakyBucket(limit),
}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without files, whose clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    def _jump(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for ever")
        # Each turn takes a moment, as in reality: some limiters spin where time stands still.
        self.now += 1e-7
        if timeout > 0:
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined] # noqa: SLF001
        return []


class Response:
    """As much of a ClientResponse as a limiter looks at."""

    cookies: dict[str, Any] = {}  # noqa: RUF012 - never written
    reason = ""
    url = URL_

    def __init__(self, *_: Any, **__: Any) -> None:
        self.status = 200
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.body = b""
        self.content_length = 0

    async def read(self) -> bytes:
        """Return the body."""
        return self.body

    def release(self) -> None:
        """There is no connection to release."""

    close = release


class Wire:
    """A server behind a network with a pool of connections, on the loop's clock."""

    def __init__(self, server: QuotaServer, network: Latency, *, text: bool, headers: bool) -> None:
        self.server = server
        self.network = network
        self.text = text
        self.headers = headers
        self.idle = 0
        self.arrivals: list[tuple[float, bool]] = []

    async def send(self, request: Any) -> Response:
        """Carry *request* to the server and its answer back."""
        network, server, loop = self.network, self.server, asyncio.get_running_loop()
        if self.idle:
            self.idle -= 1
        else:
            await asyncio.sleep(network.connect())
        response: Response = request.response_class()
        await asyncio.sleep(network.way())
        verdict = server.arrive(loop.time())
        self.arrivals.append((loop.time(), verdict.accepted))
        self.shown(verdict, response)
        if verdict.accepted and network.handler:
            await asyncio.sleep(network.work())
        await asyncio.sleep(network.way())
        self.idle += 1
        return response

    def shown(self, verdict: Verdict, response: Response | None = None) -> Response:
        """Return *response* with what the server says."""
        response = Response() if response is None else response
        server = self.server
        if self.headers:
            response.headers["RateLimit-Policy"] = f'"default";q={server.limit};w={server.period:.0f}'
            response.headers["RateLimit"] = f'"default";r={verdict.remaining};t={verdict.reset:.0f}'
        if not verdict.accepted:
            response.status = 429
            if self.text:
                text = f"API calls quota exceeded! maximum admitted {server.limit} per {server.period:.0f} second."
                response.body = text.encode()
                response.content_length = len(response.body)
            if verdict.retry_after is not None:
                response.headers["Retry-After"] = f"{verdict.retry_after:.0f}"
        return response


def request() -> Any:
    """Return as much of a ClientRequest as a limiter looks at."""
    return SimpleNamespace(response_class=Response, headers=CIMultiDict(), body=b"", method="GET", url=URL_)


def ours(*, told: bool) -> Client:
    """Our limiter, told the limit or nothing."""

    def made(send: Send, server: QuotaServer) -> Callable[[], Coroutine[Any, Any, None]]:
        policy = RateLimit(default=f"{server.limit}/{server.period:g}s" if told else None)
        key = ("http://api.test", "GET /employees")
        made.policy = policy  # type: ignore[attr-defined]

        async def one() -> None:
            call = Call("GET", key[1], key=key, url=URL_, time=asyncio.get_running_loop().time)
            with calling(call):
                response = await policy(request(), send)
            assert response.status == 200, response.status

        return one

    return made


def _resending(acquire: Callable[[], Awaitable[Any]] | None) -> Callable[[Send], Coroutine[Any, Any, None]]:
    async def one(send: Send) -> None:
        while True:
            if acquire is not None:
                await acquire()
            response = await send(request())
            if response.status == 200:
                return
            await asyncio.sleep(float(response.headers.get("Retry-After", 1.0)))

    return one


def naive(send: Send, _: QuotaServer) -> Callable[[], Coroutine[Any, Any, None]]:
    one = _resending(None)
    return lambda: one(send)


def aiolimiter(send: Send, server: QuotaServer) -> Callable[[], Coroutine[Any, Any, None]]:
    one = _resending(AsyncLimiter(server.limit, server.period).acquire)
    return lambda: one(send)


def aiolimiter_even(send: Send, server: QuotaServer) -> Callable[[], Coroutine[Any, Any, None]]:
    one = _resending(AsyncLimiter(1, server.period / server.limit).acquire)
    return lambda: one(send)


def pyrate(send: Send, server: QuotaServer) -> Callable[[], Coroutine[Any, Any, None]]:
    limiter = Limiter(PyrateRate(server.limit, int(server.period * 1000)))
    one = _resending(lambda: limiter.try_acquire_async("key", blocking=True))
    return lambda: one(send)


def throttled_py(send: Send, server: QuotaServer) -> Callable[[], Coroutine[Any, Any, None]]:
    quota = per_duration(timedelta(seconds=server.period), server.limit, burst=server.limit)
    limiter = Throttled(
        key="key", using=RateLimiterType.TOKEN_BUCKET.value, quota=quota, timeout=3600, store=MemoryStore()
    )
    one = _resending(limiter.limit)
    return lambda: one(send)


CLIENTS: dict[str, tuple[Client, bool, bool]] = {
    "told": (ours(told=True), True, False),
    "headers": (ours(told=False), True, True),
    "text": (ours(told=False), True, False),
    "naive": (naive, False, False),
    "aiolimiter": (aiolimiter, False, False),
    "aiolimiter even": (aiolimiter_even, False, False),
    "pyrate-limiter": (pyrate, False, False),
    "throttled-py": (throttled_py, False, False),
}


def simulated(client: str, kind: str, network: str, *, limit: int, count: int, seed: int) -> tuple[float, Wire]:
    """Let *count* requests go at once in virtual time; return the seconds that they took, and the wire."""
    chance = random.Random(seed)
    phase = chance.random()
    make, text, headers = CLIENTS[client]
    loop = VirtualLoop()
    clock = SimpleNamespace(
        time=lambda: 1.7e9 + loop.now,
        monotonic=lambda: loop.now,
        monotonic_ns=lambda: int(loop.now * 1e9),
        perf_counter_ns=lambda: int(loop.now * 1e9),
    )
    setattr(pyrate_limiter.clocks, "monotonic_ns", clock.monotonic_ns)  # noqa: B010 - it is not exported
    setattr(throttled.utils, "time", clock)  # noqa: B010 - likewise
    wire = Wire(SERVERS[kind](limit, phase), NETWORKS[network](chance), text=text, headers=headers)

    async def batch() -> float:
        one = make(wire.send, wire.server)
        await asyncio.gather(*(one() for _ in range(count)))
        return loop.time()

    try:
        took = loop.run_until_complete(asyncio.wait_for(batch(), 20 * count / limit))
    except TimeoutError:
        took = float("inf")
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    return took, wire


def virtual(client: str, kind: str, network: str, *, limit: int, count: int, seed: int) -> tuple[float, int]:
    """Return time over least time, and refusals, of *count* requests at once in virtual time."""
    took, wire = simulated(client, kind, network, limit=limit, count=count, seed=seed)
    path = wire.network
    slowest = statistics.mean(max(path.work() for _ in range(limit)) for _ in range(100))
    start = 3 * path.base
    server = SERVERS[kind](limit, random.Random(seed).random())
    least = least_time(server, count, start=start) + start + path.base + slowest
    return took / least, wire.server.rejected


def table(clients: list[str], servers: list[str], networks: list[str], seeds: int) -> None:
    """Print the table of the virtual part."""
    for limit, count in ((5, 100), (50, 500)):
        for network in networks:
            print(f"\n{count} requests at {limit}/1s over {network}")
            print(f"{'':24}" + "".join(f"{name:>24}" for name in clients))
            for kind in servers:
                cells: list[str] = []
                for client in clients:
                    runs = [
                        virtual(client, kind, network, limit=limit, count=count, seed=seed) for seed in range(seeds)
                    ]
                    ratio = statistics.median(run[0] for run in runs)
                    refused = [run[1] for run in runs]
                    cells.append(f"{ratio:.3f} ({statistics.median(refused):.0f}, max {max(refused)})")
                print(f"{kind:24}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def serve() -> None:
    """Run model servers in a process of their own: ``/kind/limit/client`` is one, made at its first request."""
    servers: dict[str, QuotaServer] = {}

    async def answer(request: web.Request) -> web.Response:
        kind, limit, client, ask = request.path.strip("/").split("/")
        server = servers.get(kind + limit + client)
        if server is None:
            server = servers[kind + limit + client] = list(SERVERS.values())[int(kind)](int(limit), 0.5)
        if ask == "rejected":
            return web.json_response(server.rejected)
        _, text, headers = CLIENTS[client]
        verdict = server.arrive(time.monotonic())
        shown = Wire(server, Latency.lan(), text=text, headers=headers).shown(verdict)
        return web.Response(status=shown.status, body=shown.body, headers=shown.headers)

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        async with TestServer(app) as site:
            print(site.make_url("/").port, flush=True)
            await asyncio.Event().wait()

    asyncio.run(run())


async def sockets(port: int, kind: int, limit: int, count: int) -> None:
    """Print a column of the real part: every client, one after another, against a server of its own on loopback."""
    loop = asyncio.get_running_loop()
    name = list(SERVERS)[kind]
    for client, (make, _, _) in CLIENTS.items():
        url = URL(f"http://127.0.0.1:{port}/{kind}/{limit}/{client}/")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def send(_: Any, session: aiohttp.ClientSession = session, url: URL = url) -> Any:
                async with session.get(url / "employees") as response:
                    await response.read()
                    return response

            one: Callable[[], Coroutine[Any, Any, None]]
            if client in {"told", "headers", "text"}:
                policy = RateLimit(default=f"{limit}/1s" if client == "told" else None)
                one = partial(_get, session, url / "employees", policy)
            else:
                one = make(send, SERVERS[name](limit, 0.5))
            began = loop.time()
            try:
                async with asyncio.timeout(5 * count / limit):
                    await asyncio.gather(*(one() for _ in range(count)))
                ratio = (loop.time() - began) / least_time(SERVERS[name](limit, 0.5), count)
            except TimeoutError:
                ratio = float("inf")
            async with session.get(url / "rejected") as response:
                rejected = await response.json()
        print(f"{name:24}{client:>20}{ratio:8.3f} ({rejected})", flush=True)


async def _get(session: aiohttp.ClientSession, url: URL, policy: RateLimit) -> None:
    async with session.get(url, middlewares=(policy,)) as response:
        await response.read()
        assert response.status == 200, response.status


def cost() -> None:
    """Print what the limiter itself takes in time and memory."""
    for limit in (50, 4000, 1_000_000):
        print(f"take, sent and settle at {limit}/1s: {min(_cycle(limit) for _ in range(5)):.2f} us")
    print(f"take alone, uncontended: {min(_take() for _ in range(5)):.2f} us")
    plain, waiting = _waiters(limited=False), _waiters(limited=True)
    print(f"100,000 waiters: {waiting[0] - plain[0]:.0f} bytes each beside {plain[0]:.0f} of a task that waits anyway")
    print(f"100,000 releases at 10,000/1s: {waiting[1] - plain[1]:.2f} us each beside {plain[1]:.2f} of waking a task")
    loop = VirtualLoop()
    print(f"10,000 idle keys: {loop.run_until_complete(_keys()):,} left of them after an hour without use")


def _cycle(limit: int, count: int = 100_000) -> float:
    pacer, now, step = Pacer((Rate(limit),)), 0.0, 1.5 / limit
    began = time.perf_counter()
    for _ in range(count):
        now += step
        slot = pacer.take(now)
        if slot is None:
            continue
        pacer.sent(slot, now + 1e-7)
        pacer.settle(slot, now + 2e-7)
    return (time.perf_counter() - began) / count * 1e6


def _take(count: int = 50_000) -> float:
    pacer = Pacer((Rate(1_000_000_000, per=1e-3),))
    pacer._caution.calm = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    began = time.perf_counter()
    for _ in range(count):
        pacer.take(0.0)
    return (time.perf_counter() - began) / count * 1e6


def _waiters(count: int = 100_000, *, limited: bool) -> tuple[float, float]:
    loop = VirtualLoop()

    async def measured() -> tuple[float, float]:
        call = Call("GET", "GET /employees", key=("", ""), url=URL_, time=loop.time)
        lane = Lane(Pacer((Rate(10_000),)), loop, lambda _: None)
        lane.pacer.halt(1.0)
        future = loop.create_future()

        async def one() -> None:
            if limited:
                slot = await lane.slot(call, longest=1e9, most=None)
                lane.sent(slot)
                lane.over(slot, answered=True)
            else:
                await future

        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(one()) for _ in range(count)]
        await asyncio.sleep(0)
        size = (tracemalloc.get_traced_memory()[0] - before) / count
        tracemalloc.stop()
        began = time.process_time()
        future.set_result(None)
        await asyncio.gather(*tasks)
        return size, (time.process_time() - began) / count * 1e6

    return loop.run_until_complete(measured())


async def _keys() -> int:
    loop = asyncio.get_running_loop()
    policy = RateLimit(default="5/1s", key=lambda call: call.endpoint)

    async def send(_: Any) -> Any:
        return Response()

    async def one(name: str) -> None:
        with calling(Call("GET", name, key=("", name), url=URL_, time=loop.time)):
            await policy(request(), send)

    for number in range(10_000):
        await one(str(number))
    await asyncio.sleep(3600)
    await one("last")
    return len(policy._lanes)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--servers", default=";".join(SERVERS))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sockets", action="store_true", help="real sockets and real time: some minutes")
    parser.add_argument("--cost", action="store_true", help="time and memory of the limiter itself")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.cost:
        cost()
        return
    if options.sockets:
        with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
            try:
                port = int(process.stdout.readline() if process.stdout is not None else 0)
                for kind in range(3):
                    for limit, count in ((5, 50), (50, 250)):
                        print(f"\n{count} requests at {limit}/1s, loopback: time / least time (refusals)")
                        asyncio.run(sockets(port, kind, limit, count))
            finally:
                process.terminate()
        return
    table(options.clients.split(","), options.servers.split(";"), options.networks.split(","), options.seeds)


if __name__ == "__main__":
    main()
