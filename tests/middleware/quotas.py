"""Model servers behind a Peer, and as much of a request and a response as a limiter looks at."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web
from yarl import URL

from apiclient.middleware._call import Call, calling
from apiclient.middleware._lane import Lane
from apiclient.middleware.rate_limit import RateLimit
from apiclient.testing import Guard, QuotaServer

TEXT = "API calls quota exceeded! maximum admitted {limit} per {period:g} second."


class Quotas:
    """One model server per path behind a Peer, with the times of arrival."""

    def __init__(self, make: Callable[[], QuotaServer], *, text: bool = True) -> None:
        self._make = make
        self._text = text
        self.servers: dict[str, QuotaServer] = {}
        self.times: dict[str, list[float]] = {}
        self.guards: dict[str, Guard] = {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        server = self.servers.setdefault(request.path, self._make())
        self.times.setdefault(request.path, []).append(now)
        self.guards.setdefault(request.path, Guard(server.period)).arrive(now)
        answer = server.arrive(now)
        if answer.accepted:
            return web.Response(text="fine")
        headers = {} if answer.retry_after is None else {"Retry-After": f"{answer.retry_after:.0f}"}
        text = TEXT.format(limit=server.limit, period=server.period) if self._text else ""
        return web.Response(status=429, text=text, headers=headers)

    @property
    def rejected(self) -> int:
        return sum(server.rejected for server in self.servers.values())


async def batch(session: aiohttp.ClientSession, url: str, count: int, method: str = "GET") -> list[int]:
    """Make *count* requests at once and return their statuses."""

    async def one() -> int:
        async with session.request(method, url) as response:
            return response.status

    return list(await asyncio.gather(*(one() for _ in range(count))))


def lanes(policy: RateLimit) -> list[Lane]:
    """Return the live state of *policy*."""
    places = [place for _, place in policy._lanes.items()]  # pyright: ignore[reportPrivateUsage]
    return [place.lane for place in places if place.lane is not None]


def within(seconds: float) -> Callable[[ClientRequest, ClientHandlerType], Awaitable[ClientResponse]]:
    """Return a middleware that gives each call *seconds*."""

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        loop = asyncio.get_running_loop()
        key = (str(request.url.origin()), "GET /")
        call = Call("GET", "GET /", key=key, url=request.url, time=loop.time, deadline=loop.time() + seconds)
        with calling(call):
            return await handler(request)

    return middleware


def a_call(priority: int = 0, cost: int = 1) -> Call:
    loop = asyncio.get_running_loop()
    call = Call("GET", "GET /", key=("http://a.test", "GET /"), url=URL("http://a.test/"), time=loop.time)
    call.priority, call.cost = priority, cost
    return call


class BareResponse:
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never written


class BareRequest:
    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.headers: dict[str, str] = {}
        self.body = b""
        self.response_class = None
