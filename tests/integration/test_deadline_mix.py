"""A total of 300 ms with any mix of waits, on virtual time, over real sockets."""

import asyncio
import itertools
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.middleware import (
    AttemptTimeout,
    Authorize,
    AuthRefresh,
    CircuitBreaker,
    ConcurrencyLimit,
    Deadline,
    RateLimit,
    Retry,
    StatusErrors,
)
from apiclient.middleware.credential import Token
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
TOTAL = 0.3


class SlowCredential:
    """Takes 100 ms to give a token."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def token(self) -> Token:
        await asyncio.sleep(self.seconds)
        return Token("made-up")

    def invalidate(self, token: Token) -> None:
        """Nothing is kept."""


def chain(*, token: float, limiter: bool, queue: bool, attempt: float, wait: float) -> Pipeline:
    credential = SlowCredential(token)
    parts: list[Any] = [
        StatusErrors(),
        Deadline(30),
        Retry(attempts=50, jitter=None, max_wait=wait),
        CircuitBreaker(),
        AuthRefresh(credential),
        ConcurrencyLimit(1) if queue else None,
        RateLimit(default="2/1s") if limiter else None,
        Authorize(credential),
        AttemptTimeout(attempt),
    ]
    return Pipeline([part for part in parts if part is not None])


MIXES = list(itertools.product((0.0, 0.1, 5.0), (False, True), (False, True), (0.07, 5.0), (0.05, 5.0)))


@pytest.mark.parametrize(("token", "limiter", "queue", "attempt", "wait"), MIXES)
@pytest.mark.parametrize("answer", ["503", "stall", "drip"])
async def test_a_call_ends_within_20_ms_of_its_total(
    peer: Peer, answer: str, *, token: float, limiter: bool, queue: bool, attempt: float, wait: float
) -> None:
    """Token, limiter, queue, backoff, attempt: whatever it waits for; and no request leaves afterwards."""
    arrived: list[float] = []
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        arrived.append(loop.time())
        if answer == "503":
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        if answer == "drip":
            await response.prepare(request)
            await response.write(b"x")
        await over.wait()
        return response

    peer.handler = handler
    pipeline = chain(token=token, limiter=limiter, queue=queue, attempt=attempt, wait=wait)
    async with ApiClient(peer.url, pipeline=pipeline, timeout=TOTAL) as client:

        async def call() -> float:
            began = loop.time()
            with pytest.raises(errors.ApiError):
                await client.get("/x")
            return loop.time() - began

        began = loop.time()
        took = await asyncio.gather(*(call() for _ in range(3)))
        assert max(took) <= TOTAL + 0.02
        before = len(arrived)
        await asyncio.sleep(10)
        assert len(arrived) == before
        assert all(at - began <= TOTAL + 0.02 for at in arrived)
        over.set()
