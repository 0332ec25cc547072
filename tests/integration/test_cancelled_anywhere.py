"""Law 9: a call cancelled after any number of turns of the event loop leaves everything as it was."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, Pipeline, errors
from apiclient.middleware import (
    Alert,
    AttemptTimeout,
    CircuitBreaker,
    ConcurrencyLimit,
    Deadline,
    Idempotency,
    Retry,
    StatusErrors,
)
from tests.conftest import Peer

pytestmark = pytest.mark.looptime
TURNS = 80


def counting(peer: Peer, *statuses: int) -> None:
    """Answer each call's first attempts with *statuses*, its further ones with 200, in bodies that need a second read."""
    tries: dict[str, int] = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        number = tries.get(request.path, 0)
        tries[request.path] = number + 1
        status = statuses[number] if number < len(statuses) else 200
        response = web.StreamResponse(status=status, headers={"Content-Length": "200000"})
        await response.prepare(request)
        await response.write(b"x" * 100_000)
        await asyncio.sleep(0.01)
        await response.write(b"x" * 100_000)
        return response

    peer.handler = handler


async def after(turns: int, task: "asyncio.Task[Any]") -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()


async def fetch(client: ApiClient, path: str) -> int:
    response = await client.put(path, json={"a": 1})
    return len(await response.read())


async def test_a_cancelled_call_harms_nobody(peer: Peer) -> None:
    """One connection, one place: after each cancellation the next call has both; nothing is counted as a failure."""
    counting(peer, 503, 503)
    alert, breaker, limit = Alert(consecutive=1), CircuitBreaker(minimum=1000), ConcurrencyLimit(1, per="origin")
    chain = Pipeline(
        [
            alert,
            StatusErrors(),
            Deadline(60),
            Idempotency(methods={"PUT"}),
            Retry(budget=False),
            breaker,
            limit,
            AttemptTimeout(9),
        ]
    )
    outcomes: list[str] = []
    async with ApiClient(peer.url, pipeline=chain, connections=1) as client:
        for turns in range(TURNS):
            task = asyncio.ensure_future(fetch(client, f"/first/{turns}"))
            await after(turns, task)
            try:
                outcomes.append(str(await task))
            except asyncio.CancelledError:
                outcomes.append("cancelled")
            async with asyncio.timeout(5):
                assert await fetch(client, f"/second/{turns}") == 200_000
    assert set(outcomes) <= {"cancelled", "200000"}
    assert outcomes.count("cancelled") > TURNS / 2
    assert alert.phase() == "ok"
    assert [gate.inside for _, gate in limit._gates.items()] == [0]


async def test_a_cancelled_probe_frees_its_place_whenever_it_was(peer: Peer) -> None:
    """Half-open with one probe: cancelled after any number of turns, the next caller probes."""
    for turns in range(0, TURNS, 2):
        breaker = CircuitBreaker(minimum=1, probes=1, cooldown=1.0)
        async with ApiClient(
            peer.url, pipeline=Pipeline([StatusErrors(), breaker, AttemptTimeout(9)]), connections=1
        ) as client:
            peer.answers(503)
            with pytest.raises(errors.ServerError):
                await client.get("/x")
            await asyncio.sleep(1)
            counting(peer)
            task = asyncio.ensure_future(fetch(client, "/first"))
            await after(turns, task)
            await asyncio.gather(task, return_exceptions=True)
            assert breaker.state(peer.url) in {"half_open", "open", "closed"}
            async with asyncio.timeout(5):
                assert await fetch(client, "/second") == 200_000
            assert breaker.state(peer.url) == "closed"
