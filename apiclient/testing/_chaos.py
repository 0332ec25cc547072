"""Faults on purpose: the same ones each time."""

import asyncio
import errno
import random
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, StreamReader
from multidict import CIMultiDict

from apiclient.testing._end import spoiled_by
from apiclient.testing._response import Drip, build, phrase, stream

_HEAD = 65536
_SPOILING = frozenset({"reset", "truncation", "slow_body"})


class Chaos:
    """Disturb a share of the attempts: a native middleware, to be listed innermost, off until it is enabled.

    Each attempt takes the same number of draws from its own generator, so that one seed gives one series of faults
    (for attempts that begin in the same order), and changing one rate leaves the other faults where they were.

    Args:
        seed: Of the series.
        error: Share of attempts that fail before anything is sent, as an ``aiohttp.ClientConnectorError``.
        status: Share answered with one of *statuses* before anything is sent.
        latency: Share that *delay* is waited for before they are sent.
        reset: Share sent, and answered, whose answer is lost: an ``aiohttp.ClientOSError`` (ECONNRESET).
        truncation: Share whose body breaks off somewhere in its first 64 KiB. Empty bodies stay whole.
        slow_body: Share whose body comes in ten pieces, with *delay* in all. The body is read first, so not for
            endless ones.
        statuses: What *status* chooses from; 200 to 999.
        delay: Seconds, or the ``(shortest, longest)`` of an even spread.
        enabled: Whether faults happen; also an attribute.
        only: Which requests may be disturbed; by default all.

    Raises:
        ValueError: A rate is not from 0 to 1, or another option is out of its range.

    Attributes:
        enabled: Whether faults happen. No draw is taken while they do not.
        injected: How many of each fault there were.
    """

    def __init__(
        self,
        *,
        seed: int,
        error: float = 0.0,
        status: float = 0.0,
        latency: float = 0.0,
        reset: float = 0.0,
        truncation: float = 0.0,
        slow_body: float = 0.0,
        statuses: Sequence[int] = (500, 502, 503),
        delay: float | tuple[float, float] = (0.05, 0.5),
        enabled: bool = False,
        only: Callable[[ClientRequest], bool] | None = None,
    ) -> None:
        self._rates = {
            "error": error,
            "status": status,
            "latency": latency,
            "reset": reset,
            "truncation": truncation,
            "slow_body": slow_body,
        }
        for name, rate in self._rates.items():
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {rate!r}")
        if not statuses or any(not 200 <= code <= 999 for code in statuses):
            raise ValueError(f"statuses must be some of 200 to 999, got {statuses!r}")
        self._delay = delay if isinstance(delay, tuple) else (delay, delay)
        if not 0 <= self._delay[0] <= self._delay[1] < float("inf"):
            raise ValueError(f"delay must be one number, or two in order, not negative and finite, got {delay!r}")
        self._statuses = tuple(statuses)
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - to be repeatable is the point
        self._only = only
        self.enabled = enabled
        self.injected: Counter[str] = Counter()

    def __repr__(self) -> str:
        rates = "".join(f", {name}={rate:g}" for name, rate in self._rates.items() if rate)
        return f"Chaos(seed={self._seed}{rates}, {'enabled' if self.enabled else 'off'})"

    @contextmanager
    def on(self) -> Generator["Chaos"]:
        """Enable the faults for a while."""
        before, self.enabled = self.enabled, True
        try:
            yield self
        finally:
            self.enabled = before

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send *request*, or something worse."""
        if not self.enabled or (self._only is not None and not self._only(request)):
            return await handler(request)
        plan = self._drawn()
        if "latency" in plan.faults:
            await asyncio.sleep(plan.delay)
        if "error" in plan.faults:
            raise aiohttp.ClientConnectorError(
                request.connection_key, OSError(errno.ECONNREFUSED, "Connection refused by chaos")
            )
        if "status" in plan.faults:
            return await _answered(request, self._statuses[int(plan.place * len(self._statuses))])
        if plan.faults.isdisjoint(_SPOILING):
            return await handler(request)

        async def spoil(request: ClientRequest, response: ClientResponse) -> ClientResponse:
            try:
                return await _spoiled(request, response, plan)
            except BaseException:
                response.close()
                raise

        return await spoiled_by(spoil, request, handler)

    def _drawn(self) -> "_Plan":
        faults = frozenset(name for name, rate in self._rates.items() if self._random.random() < rate)
        plan = _Plan(faults, self._random.random(), self._random.uniform(*self._delay))
        # Only what will be seen: an attempt that is never sent has no answer to spoil.
        for name in ("latency", "error", "status", "reset", "truncation", "slow_body"):
            if name in faults:
                self.injected[name] += 1
                if name != "latency":
                    break
        return plan


class _Plan(NamedTuple):
    faults: frozenset[str]
    place: float
    delay: float


async def _spoiled(request: ClientRequest, response: ClientResponse, plan: _Plan) -> ClientResponse:
    if "reset" in plan.faults:
        raise aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by chaos")
    if "truncation" in plan.faults:
        await _truncate(request, response, plan.place)
    else:
        await _slow_down(request, response, plan.delay)
    return response


async def _answered(request: ClientRequest, status: int) -> ClientResponse:
    body = f"{phrase(status)} (chaos)\n".encode()
    headers = CIMultiDict({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
    return await build(request, status=status, headers=headers, content=stream(request, body))


async def _truncate(request: ClientRequest, response: ClientResponse, place: float) -> None:
    head = await _read(response, _HEAD)
    if not head:
        return
    cut = int(place * len(head))
    response.close()
    error = aiohttp.ClientPayloadError(f"Response payload is not completed: chaos stopped it after {cut} bytes")
    response.content = stream(request, head, cut=cut, error=error)


async def _slow_down(request: ClientRequest, response: ClientResponse, delay: float) -> None:
    body = await _read(response, None)
    if body:
        size = -(-len(body) // 10)
        response.content = stream(request, body, drip=Drip(size, delay / -(-len(body) // size)))


async def _read(response: ClientResponse, limit: int | None) -> bytes:
    content: StreamReader = response.content
    pieces: list[bytes] = []
    size = 0
    while limit is None or size < limit:
        piece = await content.readany() if limit is None else await content.read(limit - size)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
