"""Law 9 where work is kept: what was acknowledged stays, what was leased is given back, wherever a cancellation falls."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient
from apiclient.credentials import RefreshToken
from apiclient.middleware.intent import Intent
from apiclient.outbox import MemoryOutbox, Outbox, Ticket
from apiclient.testing import Cassette
from tests.apiclient.job import runs
from tests.authority import Authority
from tests.conftest import Peer
from tests.integration.cut import at_every_await

pytestmark = pytest.mark.looptime


def tasks() -> set[str]:
    """The tasks there are, the server's own left out, by the names of their code."""
    names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    return {name for name in names if "RequestHandler" not in name}


async def settled(client: ApiClient, before: set[str]) -> None:
    """See that no connection is held, and no task left."""
    await asyncio.sleep(0.05)
    session: Any = client._session
    assert session is None or not session.connector._acquired
    assert tasks() <= before


@pytest.fixture(params=["memory", "sqlite"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outbox]:
    kept = MemoryOutbox() if request.param == "memory" else Outbox(tmp_path / "outbox.db")
    yield kept
    await kept.aclose()


def order(peer: Peer, number: int) -> Intent:
    key = f"order-{number}"
    return Intent(method="POST", origin=peer.url, path="/orders", endpoint="POST /orders", idempotency_key=key)


def keys(peer: Peer) -> list[str]:
    return [headers["Idempotency-Key"] for headers in peer.headers if "Idempotency-Key" in headers]


async def test_putting(peer: Peer, outbox: Outbox) -> None:
    """What was acknowledged is there; what was not is there whole or not at all, and putting it again makes it one."""
    number, acknowledged = 0, list[str]()
    async with ApiClient(peer.url, outbox=outbox):

        async def work() -> None:
            acknowledged.append((await outbox.put(order(peer, number))).id)

        async def after(_: bool) -> None:  # noqa: FBT001 - a callback
            nonlocal number
            ticket = await outbox.put(order(peer, number))
            acknowledged.append(ticket.id)
            number += 1
            assert (await outbox.stats()).pending == number

        assert await at_every_await(work, after) >= 1
        stored = [entry.id async for entry in outbox.items()]
        assert set(acknowledged) == set(stored)
        assert len(stored) == len(set(stored)) == number
        assert (await outbox.drain()).delivered == number
    assert sorted(keys(peer)) == sorted(f"order-{each}" for each in range(number))


async def test_delivering_in_the_background(peer: Peer, outbox: Outbox) -> None:
    """A block with ``running`` in it: no lease is kept, nothing acknowledged is lost, no task goes on."""
    peer.handler = _slowly
    number, acknowledged = 0, set[str]()
    async with ApiClient(peer.url, outbox=outbox, connections=2) as client:
        assert (await client.get("/before")).status == 200
        before = tasks()

        async def work() -> None:
            async with outbox.running(grace=0.005):
                ticket = await outbox.put(order(peer, number))
                acknowledged.add(ticket.id)
                assert (await ticket.wait()).ok

        async def after(_: bool) -> None:  # noqa: FBT001
            nonlocal number
            number += 1
            await settled(client, before)
            assert (await outbox.stats()).leased == 0
            await outbox.drain()
            states = {entry.id: entry.state async for entry in outbox.items()}
            assert acknowledged <= set(states)
            assert set(states.values()) <= {"delivered"}

        assert await at_every_await(work, after) > 3
        assert {len(states) for states in [keys(peer)]} != {0}
        assert set(keys(peer)) <= {f"order-{each}" for each in range(number)}


async def _slowly(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.01)
    return web.Response(text="fine")


async def test_waiting_for_an_outcome(peer: Peer, outbox: Outbox) -> None:
    """One who waits may go; who waits for the same ticket gets the outcome, and so does who asks later."""
    peer.handler = _slowly
    tickets: list[Ticket] = []
    others: list[asyncio.Future[Any]] = []
    async with ApiClient(peer.url, outbox=outbox) as client:
        before = tasks()

        async def work() -> None:
            tickets.append(await outbox.put(order(peer, len(tickets))))
            others.append(asyncio.ensure_future(tickets[-1].wait()))
            drain = asyncio.ensure_future(outbox.drain())
            try:
                assert (await tickets[-1].wait(60)).ok
            finally:
                await drain

        async def after(_: bool) -> None:  # noqa: FBT001
            await outbox.drain()
            async with asyncio.timeout(5):
                for ticket, other in zip(tickets, others, strict=False):
                    assert (await other).ok
                    assert (await ticket.wait()).ok
            await settled(client, before)

        assert await at_every_await(work, after) > 1
        assert len(others) > 1


@pytest.mark.parametrize("turns", [*range(1, 60, 3), *range(60, 240, 15)])
async def test_a_job(peer: Peer, tmp_path: Path, turns: int) -> None:
    """Cancelled after any number of turns of the loop: whole lines, the lock free, and resumed each request has one."""
    peer.handler = _slowly
    source = runs.write(tmp_path / "in.jsonl", runs.things(12))
    await _cut(runs.job(peer.url, source, tmp_path / "out.jsonl", concurrency=3), turns)
    assert await runs.run(peer.url, source, tmp_path / "out.jsonl", resume=(tmp_path / "out.jsonl").exists()) == 0
    assert sorted(line["id"] for line in runs.read(tmp_path / "out.jsonl")) == list(range(12))


async def _cut(job: Any, turns: int) -> None:
    before = tasks()
    task = asyncio.ensure_future(job.run())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert tasks() <= before
    assert job._client._session is None or job._client._session.closed


async def test_a_job_at_each_of_its_own_awaits(peer: Peer, tmp_path: Path) -> None:
    """Also while it ends: the file is closed and unlocked, the client closed, and the next run goes on."""
    peer.handler = _slowly
    source = runs.write(tmp_path / "in.jsonl", runs.things(5))
    number = 0
    jobs: list[Any] = []

    async def work() -> int:
        jobs.append(runs.job(peer.url, source, tmp_path / f"{number}.jsonl"))
        result: int = await jobs[-1].run()
        return result

    async def after(_: bool) -> None:  # noqa: FBT001
        nonlocal number
        await asyncio.sleep(0.05)
        assert jobs[-1]._client._session is None or jobs[-1]._client._session.closed
        output = tmp_path / f"{number}.jsonl"
        assert await runs.run(peer.url, source, output, resume=True) == 0
        assert sorted(line["id"] for line in runs.read(output)) == list(range(5))
        number += 1

    assert await at_every_await(work, after) > 2


async def test_a_rotated_refresh_token() -> None:
    """Used once each: whoever fetches the token may go, and the next one still has a grant that works."""
    async with Authority() as authority:
        authority.rotating, authority.delay, authority.lifetime = True, 0.05, 600
        credentials = RefreshToken(
            token_url=f"{authority.url}/token", client_id="x", refresh_token=authority.refresh_token
        )
        before = tasks()

        async def work() -> None:
            await credentials.token()

        async def after(_: bool) -> None:  # noqa: FBT001
            requests = authority.token_requests
            credentials.invalidate(await credentials.token())
            assert authority.token_requests <= requests + 1
            await asyncio.sleep(0.05)
            assert tasks() <= before
            assert not authority.revoked

        assert await at_every_await(work, after) >= 1
        await credentials.aclose()


@pytest.mark.parametrize("streamed", [False, True], ids=["buffered", "streamed"])
async def test_a_recording(peer: Peer, tmp_path: Path, *, streamed: bool) -> None:
    """The connection is free again, and the file has what ended, each of it fit to be replayed."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "200000"})
        await response.prepare(request)
        await response.write(b"x" * 1000)
        await asyncio.sleep(0.01)
        await response.write(b"x" * 199_000)
        return response

    peer.handler = handler
    path, number = tmp_path / "a.json", 0
    with Cassette(path, mode="record") as cassette:
        async with ApiClient(peer.url, connections=1) as client:

            async def work() -> int:
                if not streamed:
                    return len(await (await client.put(f"/{number}", json={"n": 1})).read())
                async with client.get(f"/{number}") as response:
                    return len(await response.read())

            async def after(_: bool) -> None:  # noqa: FBT001
                nonlocal number
                number += 1
                await asyncio.sleep(0.05)
                session: Any = client._session
                assert not session.connector._acquired
                async with asyncio.timeout(5):
                    assert len(await (await client.get(f"/after/{number}")).read()) == 200_000

            assert await at_every_await(work, after) >= 3
    count = peer.count
    with Cassette(path) as cassette:
        async with ApiClient(peer.url) as client:
            for each in range(1, number + 1):
                assert len(await (await client.get(f"/after/{each}")).read()) == 200_000
    assert peer.count == count
    assert "Cassette" in repr(cassette)


async def test_a_replay(peer: Peer, tmp_path: Path) -> None:
    """Whoever is cancelled has used up at most its own interaction."""
    path, number = tmp_path / "a.json", 0
    with Cassette(path, mode="record"):
        async with ApiClient(peer.url) as client:
            for each in range(60):
                await client.put(f"/{each}", json={"n": each})
    with Cassette(path):
        async with ApiClient(peer.url) as client:

            async def work() -> int:
                return (await client.put(f"/{number}", json={"n": number})).status

            async def after(_: bool) -> None:  # noqa: FBT001
                nonlocal number
                number += 2
                assert (await client.put(f"/{number - 1}", json={"n": number - 1})).status == 200

            assert await at_every_await(work, after) >= 1
    assert peer.count == 60
