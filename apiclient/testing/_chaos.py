"""Faults on purpose: the same ones each time."""

import asyncio
import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, StreamReader
from multidict import CIMultiDict

from apiclient.sandbox._dice import HEAD, Dice, Plan
from apiclient.testing._end import spoiled_by
from apiclient.testing._response import Drip, build, phrase, stream


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
        rates = {
            "error": error,
            "status": status,
            "latency": latency,
            "reset": reset,
            "truncation": truncation,
            "slow_body": slow_body,
        }
        self._dice = Dice(seed, rates, delay)
        if not statuses or any(not 200 <= code <= 999 for code in statuses):
            raise ValueError(f"statuses must be some of 200 to 999, got {statuses!r}")
        self._statuses = tuple(statuses)
        self._seed = seed
        self._only = only
        self._rates = rates
        self.enabled = enabled
        self.injected = self._dice.drawn

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
        plan = self._dice.draw()
        if plan.wait:
            await asyncio.sleep(plan.wait)
        if plan.fault == "error":
            raise aiohttp.ClientConnectorError(
                request.connection_key, OSError(errno.ECONNREFUSED, "Connection refused by chaos")
            )
        if plan.fault == "status":
            return await _answered(request, self._statuses[int(plan.place * len(self._statuses))])
        if plan.fault is None:
            return await handler(request)

        async def spoil(request: ClientRequest, response: ClientResponse) -> ClientResponse:
            try:
                return await _spoiled(request, response, plan)
            except BaseException:
                response.close()
                raise

        return await spoiled_by(spoil, request, handler)


async def _spoiled(request: ClientRequest, response: ClientResponse, plan: Plan) -> ClientResponse:
    if plan.fault == "reset":
        raise aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by chaos")
    if plan.fault == "truncation":
        await _truncate(request, response, plan)
    else:
        await _slow_down(request, response, plan)
    return response


async def _answered(request: ClientRequest, status: int) -> ClientResponse:
    body = f"{phrase(status)} (chaos)\n".encode()
    headers = CIMultiDict({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
    return await build(request, status=status, headers=headers, content=stream(request, body))


async def _truncate(request: ClientRequest, response: ClientResponse, plan: Plan) -> None:
    head = await _read(response, HEAD)
    if not head:
        return
    cut = plan.cut(len(head))
    response.close()
    error = aiohttp.ClientPayloadError(f"Response payload is not completed: chaos stopped it after {cut} bytes")
    response.content = stream(request, head, cut=cut, error=error)


async def _slow_down(request: ClientRequest, response: ClientResponse, plan: Plan) -> None:
    body = await _read(response, None)
    if body:
        response.content = stream(request, body, drip=Drip(*plan.piece(len(body))))


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
