"""Law 9: each public coroutine, cancelled at each of its awaits in turn."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from apiclient import ApiClient, Request
from apiclient.middleware.intent import Intent
from apiclient.outbox import MemoryOutbox
from tests.authority import Authority
from tests.conftest import Peer
from tests.integration.cut import at_every_await

pytestmark = pytest.mark.looptime
BODY = b"x" * 200_000


class Moody:
    """An API behind tokens that answers each path 503, then 429, then with a body that comes in two parts."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.tries: dict[str, int] = {}
        authority.api = self

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization", "").partition(" ")[2] not in self.authority.valid:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        number = self.tries[request.path] = self.tries.get(request.path, 0) + 1
        if number == 1:
            return web.Response(status=503, body=BODY)
        if number == 2:
            return web.Response(status=429, headers={"Retry-After": "1"}, body=BODY)
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))})
        await response.prepare(request)
        await response.write(BODY[:1000])
        await asyncio.sleep(0.01)
        await response.write(BODY[1000:])
        return response


async def clean(client: ApiClient) -> None:
    await asyncio.sleep(0.05)
    assert client._session is not None
    connector: Any = client._session.connector
    assert not connector._acquired
    assert not connector._waiters


@pytest.fixture
async def authority() -> AsyncIterator[Authority]:
    async with Authority() as running:
        yield running


@pytest.mark.parametrize("streamed", [False, True], ids=["buffered", "streamed"])
async def test_a_call(authority: Authority, *, streamed: bool) -> None:
    """Token, connection, 503, backoff, 429, pause, 401, body: wherever it ends, the next call has all it needs."""
    moody, number = Moody(authority), 0
    async with ApiClient(authority.url, credentials=authority.client(), connections=1, timeout=600) as client:

        async def work() -> int:
            if not streamed:
                return len(await (await client.put(f"/tasks/{number}", json={})).read())
            async with client.get(f"/tasks/{number}") as response:
                return len(await response.read())

        async def after(_: bool) -> None:  # noqa: FBT001 - a callback
            nonlocal number
            number += 1
            await clean(client)
            moody.tries["/after"] = 2
            async with asyncio.timeout(30):
                assert len(await (await client.get("/after")).read()) == len(BODY)
            authority.revoke()

        assert await at_every_await(work, after) > 10


async def test_a_batch(peer: Peer) -> None:
    """Workers, source and results end with it, and the client goes on."""
    peer.handler = _slowly
    async with ApiClient(peer.url, connections=2) as client:
        tasks: set[Any] = set()

        async def work() -> int:
            requests = (Request(path=f"/things/{number}") for number in range(12))
            return len([result async for result in client.batch(requests, concurrency=4)])

        async def after(_: bool) -> None:  # noqa: FBT001
            await clean(client)
            assert await _ours() <= tasks
            async with asyncio.timeout(30):
                assert (await client.get("/after")).status == 200

        assert (await client.get("/before")).status == 200
        tasks = await _ours()
        assert await at_every_await(work, after) > 5


async def _slowly(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.01)
    return web.Response(text="fine")


async def _ours() -> set[Any]:
    """Tasks of the client's, by name of their code."""
    await asyncio.sleep(0.05)
    names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    return {name for name in names if "RequestHandler" not in name}


async def test_a_pagination(peer: Peer) -> None:
    """Between pages and within them."""

    async def handler(request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("page", "1"))
        headers = {"Link": f'</list?page={page + 1}>; rel="next"'} if page < 4 else {}
        return web.json_response({"page": page}, headers=headers)

    peer.handler = handler
    async with ApiClient(peer.url, connections=1) as client:

        async def work() -> int:
            return len([page.status async for page in client.paginate("/list")])

        async def after(_: bool) -> None:  # noqa: FBT001
            await clean(client)
            assert (await client.get("/after")).status == 200

        assert await at_every_await(work, after) > 3


async def test_a_deferral_a_delivery_and_a_drain(peer: Peer) -> None:
    """What was put is delivered in the end; a cancelled drain loses no item, and its key is the same again."""
    outbox = MemoryOutbox()
    number = 0
    async with ApiClient(peer.url, outbox=outbox, connections=1) as client:

        async def work() -> None:
            key = f"order-{number}"
            await client.defer("POST", "/orders", json={"n": number}, idempotency_key=key)
            await outbox.drain()
            intent = Intent(
                method="PUT", origin=peer.url, path="/sent", endpoint="PUT /sent", idempotency_key=f"sent-{number}"
            )
            await client.send(intent)

        async def after(cancelled: bool) -> None:  # noqa: FBT001
            nonlocal number
            number += 1
            await clean(client)
            await asyncio.sleep(120)
            await outbox.drain()
            assert (await outbox.stats()).pending == 0
            assert (await client.get("/after")).status == 200
            keys = [headers.get("Idempotency-Key") for headers in peer.headers]
            assert cancelled or f"sent-{number - 1}" in str(keys)

        assert await at_every_await(work, after) > 3


async def test_a_token(authority: Authority) -> None:
    """Whoever fetches it may go; the next has one by at most one more request."""
    authority.delay = 0.1
    credentials = authority.client()

    async def work() -> None:
        await credentials.token()

    async def after(_: bool) -> None:  # noqa: FBT001
        before = authority.token_requests
        token = await credentials.token()
        assert authority.token_requests <= before + 1
        credentials.invalidate(token)

    assert await at_every_await(work, after) >= 1


async def test_closing(peer: Peer) -> None:
    """Cancelled anywhere, closing once more ends it, and the connection is gone."""
    client = ApiClient(peer.url)

    async def work() -> None:
        nonlocal client
        client = ApiClient(peer.url)
        assert (await client.get("/x")).status == 200
        await client.aclose()

    async def after(_: bool) -> None:  # noqa: FBT001
        await client.aclose()
        assert client._session is None or client._session.closed

    assert await at_every_await(work, after) > 1
