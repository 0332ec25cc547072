"""A seeded soak against a server that fails before, while and after it works, and keeps a ledger of what it did."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.middleware import AttemptTimeout, CircuitBreaker, Deadline, Idempotency, Retry, StatusErrors
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
ORDERS = 300


class Shop:
    """Takes orders, loses its temper by a seeded chance, and writes down each order that it really carried out."""

    def __init__(self, peer: Peer, seed: int) -> None:
        self.chance = random.Random(seed)
        self.ledger: Counter[int] = Counter()
        self.answers: dict[str, int] = {}
        self.working: set[str] = set()
        peer.handler = self

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        order = int(request.match_info["tail"].rpartition("/")[2])
        key = request.headers.get("Idempotency-Key")
        if key in self.working:
            return web.json_response({"title": "A request is outstanding for this Idempotency-Key"}, status=409)
        before = self.chance.random()
        if before < 0.10:
            return web.Response(status=503)
        if before < 0.15:
            return self.dropped(request)
        if key is None or key not in self.answers:
            # Goes on when the client has gone away, as a real transaction does.
            await asyncio.shield(asyncio.ensure_future(self.work(order, key)))
        return await self.finished(request, order)

    async def finished(self, request: web.Request, order: int) -> web.StreamResponse:
        after = self.chance.random()
        if after < 0.05:
            return web.Response(status=500)
        if after < 0.15:
            return self.dropped(request)
        if after < 0.20:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"half")
            return self.dropped(request, response)
        return web.json_response({"order": order})

    async def work(self, order: int, key: str | None) -> None:
        if key is not None:
            self.working.add(key)
        if self.chance.random() < 0.05:
            await asyncio.sleep(3)  # Longer than an attempt may take: the client asks again while this goes on.
        self.ledger[order] += 1
        if key is not None:
            self.working.discard(key)
            self.answers[key] = order

    def dropped(self, request: web.Request, response: web.StreamResponse | None = None) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response() if response is None else response


async def sold(peer: Peer, *policies: Any) -> list[str]:
    chain = Pipeline(
        [
            StatusErrors(),
            Deadline(300),
            *policies,
            Retry(attempts=15, budget=False, random=random.Random(3).random),
            CircuitBreaker(minimum=10_000),
            AttemptTimeout(2),
        ]
    )
    outcomes: list[str] = []
    async with ApiClient(peer.url, pipeline=chain, connections=20, timeout=300) as client:

        async def order(number: int) -> str:
            pending = client.post(f"/orders/{number}", json={"order": number})
            try:
                response = await pending
            except errors.OutcomeUnknown:
                return "unknown"
            assert await response.json() == {"order": number}
            return "sold"

        for start in range(0, ORDERS, 20):
            outcomes += await asyncio.gather(*(order(number) for number in range(start, start + 20)))
    return outcomes


@pytest.mark.parametrize("seed", [1, 2])
async def test_with_keys_every_order_is_carried_out_exactly_once(peer: Peer, seed: int) -> None:
    """Every call succeeds, and the ledger holds each order once."""
    shop = Shop(peer, seed)
    outcomes = await sold(peer, Idempotency(methods={"POST"}))
    assert outcomes == ["sold"] * ORDERS
    assert shop.ledger == Counter(dict.fromkeys(range(ORDERS), 1))
    assert peer.count > 1.3 * ORDERS


@pytest.mark.parametrize("seed", [1, 2])
async def test_without_keys_no_order_is_carried_out_twice(peer: Peer, seed: int) -> None:
    """One request each; a success is in the ledger once, an unknown outcome at most once, and both happen."""
    shop = Shop(peer, seed)
    outcomes = await sold(peer)
    assert peer.count == ORDERS
    for number, outcome in enumerate(outcomes):
        assert shop.ledger[number] == 1 if outcome == "sold" else shop.ledger[number] <= 1
    unknown = [shop.ledger[number] for number, outcome in enumerate(outcomes) if outcome == "unknown"]
    assert set(unknown) == {0, 1}
