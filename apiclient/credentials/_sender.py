"""Sends requests to an authorization server, on a connection of their own."""

import asyncio
import math
import ssl as tls
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp

from apiclient.credentials._grants import Outcome, Unavailable, WireRequest, parse_answer
from apiclient.middleware._censored import censored
from apiclient.middleware._parsing.retry_after import retry_after

T = TypeVar("T")

LARGEST_ANSWER = 65536
_FIRST_BACKOFF = 0.25
_LONGEST_BACKOFF = 2.0

innermost: tuple[aiohttp.ClientMiddlewareType, ...] = ()
"""What stands around each request while an application is tested (apiclient.testing.set_testing)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status.
        body: The first 64 KiB at most, after decompression.
        truncated: Whether there was more.
        retry_after: Seconds, where the answer had such a header.
    """

    status: int
    body: bytes = field(repr=False)
    truncated: bool
    retry_after: float | None


class Sender:
    """Sends token requests outside any chain, with a short retry of its own.

    Each request has a session and a connection of its own: it takes nothing from the pool, the limiter or
    the breaker that the calls waiting for the token hold, and no middleware, proxy variable, netrc or
    cookie touches it. Redirects are not followed.

    Args:
        timeout: Seconds for one attempt, its whole answer included.
        attempts: Most attempts, on 5xx, 429 and transport errors.
        longest_wait: Longest ``Retry-After`` in seconds that is waited for; a longer one ends the attempts.
        ssl: As for ``aiohttp``: True, or a context of one's own.
        proxy: URL of a proxy, or None.
        random: Gives numbers from 0 to 1 for the jitter.
        wall: Wall clock, for ``Retry-After`` dates.
    """

    def __init__(
        self,
        *,
        timeout: float,
        attempts: int,
        longest_wait: float = 10.0,
        ssl: tls.SSLContext | bool = True,
        proxy: str | None = None,
        random: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._timeout = timeout
        self._attempts = attempts
        self._longest_wait = longest_wait
        self._ssl = ssl
        self._proxy = proxy
        self._random = random
        self._wall = wall

    def __repr__(self) -> str:
        return f"Sender(timeout={self._timeout:g}, attempts={self._attempts})"

    @property
    def patience(self) -> float:
        """Seconds after which no further attempt is begun."""
        return self._attempts * self._timeout

    @property
    def timeout(self) -> float:
        """Seconds for one attempt."""
        return self._timeout

    async def exchange(self, make: Callable[[], WireRequest], until: Callable[[], float]) -> Outcome:
        """Send until there is an answer that settles it, or attempts or time run out.

        Args:
            make: Builds the request of one attempt; an assertion in it is used once only.
            until: As for ``persist``.
        """
        return await self.persist(lambda: self._attempt(make()), until)

    async def persist(
        self, attempt: Callable[[], Awaitable[T | Unavailable]], until: Callable[[], float]
    ) -> T | Unavailable:
        """Repeat *attempt* while the trouble may pass, with backoff, and return its last outcome.

        Args:
            attempt: One try.
            until: Returns the time on the loop's clock after which nobody waits any more. No wait that
                would end later is begun.
        """
        number = 0
        while True:
            number += 1
            outcome = await attempt()
            if not isinstance(outcome, Unavailable) or not outcome.temporary or number >= self._attempts:
                return outcome
            wait = self._wait_before(number, outcome.retry_after)
            if wait is None or asyncio.get_running_loop().time() + wait > until():
                return outcome
            await asyncio.sleep(wait)

    async def fetch(self, request: WireRequest) -> Answer | Unavailable:
        """Send *request* once and return the answer, or why there is none."""
        try:
            async with asyncio.timeout(self._timeout), self._session() as session:
                return await self._answer(session, request)
        except TimeoutError:
            return Unavailable(f"no answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
            status = f"{error.status} " if isinstance(error, aiohttp.ClientResponseError) else ""
            # aiohttp's errors quote whole URLs, that of a proxy with its password.
            said = request.scrubbed(f"{status}{censored(error)}")
            return Unavailable(f"{type(error).__name__}: {said}", temporary=not certificate)

    async def _attempt(self, request: WireRequest) -> Outcome:
        answer = await self.fetch(request)
        if isinstance(answer, Unavailable):
            return answer
        return parse_answer(
            request, answer.status, answer.body, truncated=answer.truncated, retry_after=answer.retry_after
        )

    async def _answer(self, session: aiohttp.ClientSession, request: WireRequest) -> Answer:
        async with session.request(
            request.method,
            request.url,
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            ssl=self._ssl,
            proxy=self._proxy,
        ) as response:
            body, truncated = await _first(response.content, LARGEST_ANSWER)
            return Answer(response.status, body, truncated, retry_after(response.headers, wall=self._wall()))

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            middlewares=innermost,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=1, force_close=True),
        )

    def _wait_before(self, attempt: int, asked: float | None) -> float | None:
        cap = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * math.ldexp(1.0, attempt - 1))
        wait = cap * (0.5 + 0.5 * self._random())
        if asked is None:
            return wait
        return None if asked > self._longest_wait else asked + wait * 0.1


async def _first(content: aiohttp.StreamReader, limit: int) -> tuple[bytes, bool]:
    blocks: list[bytes] = []
    size = 0
    async for block in content.iter_chunked(limit):
        room = limit - size
        blocks.append(block[:room])
        size += len(block)
        if size > limit:
            return b"".join(blocks), True
    return b"".join(blocks), False
