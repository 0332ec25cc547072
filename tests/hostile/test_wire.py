"""Each row of the table: what the caller gets, how often the server was asked, how long it took, and what is left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, errors
from apiclient.middleware import StatusErrors
from tests.hostile.rows import LIMIT, ROWS, TIMEOUT, Outcome, Row
from tests.integration.scripted import Scripted

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def facing(row: Row) -> AsyncIterator[tuple[ApiClient, Scripted]]:
    """A client with one connection and the default pipeline; at the end the pool must be as it was."""
    async with (
        Scripted(otherwise=row.script) as server,
        ApiClient(server.url, connections=1, max_body=LIMIT, timeout=TIMEOUT) as client,
    ):
        yield client, server
        server.otherwise = None
        async with asyncio.timeout(5):
            assert await (await client.get("/after")).text() == "fine"
        await asyncio.sleep(0.01)
        assert client._session is not None
        connector: Any = client._session.connector
        assert not connector._acquired
        assert not connector._waiters


async def outcome_of(client: ApiClient, server: Scripted, kind: str, within: float) -> tuple[Outcome, int]:
    """Make the call, and check what holds in every row; return how it ended and the requests it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    pending = client.post("/x", json={"a": 1}) if kind == "post" else client.get("/x")
    ended: Outcome
    error: BaseException | None = None
    try:
        if kind == "stream":
            async with pending as response:
                async for _ in response.content.iter_chunked(65536):
                    pass
        else:
            response = await pending
            assert await response.read() == (b"fine" if response.status == 200 else b"")
        ended = response.status
    except (aiohttp.ClientError, TimeoutError) as failure:
        error, ended = failure, type(failure)
    assert loop.time() - began <= within
    await asyncio.sleep(0.01)
    assert pending.call is not None
    assert pending.call.attempts == server.wire
    if isinstance(error, errors.ApiError):
        assert error.attempts == server.wire
        assert error.request is not None
        assert not isinstance(error, aiohttp.ClientOSError | aiohttp.ServerDisconnectedError)
        assert len(str(error)) < 1000
    return ended, server.wire


def same(ended: Outcome, expected: Outcome) -> bool:
    """Exactly that class of ours, or that status; of aiohttp's, any below it."""
    if isinstance(expected, int) or isinstance(ended, int) or issubclass(expected, errors.ApiError):
        return ended == expected
    return issubclass(ended, expected)


@pytest.mark.parametrize("name", ROWS)
async def test_a_get_ends_as_the_table_says(name: str) -> None:
    """The error's class, the requests that left, as both sides count them, and the time."""
    row = ROWS[name]
    async with facing(row) as (client, server):
        ended, wire = await outcome_of(client, server, "get", row.fate.within)
        assert same(ended, row.fate.get)
        assert row.fate.attempts in {None, wire}


@pytest.mark.parametrize("name", ROWS)
async def test_a_post_without_a_key_is_never_sent_twice(name: str) -> None:
    """Only an answer that says that nothing was done (429, a redirect) is followed by another request."""
    row = ROWS[name]
    async with facing(row) as (client, server):
        ended, wire = await outcome_of(client, server, "post", row.fate.within)
        assert same(ended, row.fate.post)
        assert wire == 1 or row.fate.get in {errors.TooManyRequests, errors.RedirectRefused}


@pytest.mark.parametrize("name", ROWS)
async def test_a_streamed_get_ends_as_the_table_says(name: str) -> None:
    """Reading ends in an error, never in silence; only what breaks before the body is sent again."""
    row = ROWS[name]
    within = row.fate.within if row.fate.stream != 200 else 600.0
    async with facing(row) as (client, server):
        ended, wire = await outcome_of(client, server, "stream", within)
        assert same(ended, row.fate.get if row.fate.stream is None else row.fate.stream)
        assert wire in {1, row.fate.attempts} or row.fate.attempts is None


async def test_garbage_is_not_worth_keeping_for_later() -> None:
    """What another attempt cannot mend is not recoverable, and a broken connection is."""
    for name, recoverable in (("no HTTP", False), ("101 without being asked", False), ("closed on accept", True)):
        async with facing(ROWS[name]) as (client, _):
            with pytest.raises(errors.TransportError) as caught:
                await client.get("/x")
            assert caught.value.recoverable is recoverable


async def test_without_status_errors_a_silent_error_body_ends_with_the_call() -> None:
    """No policy reads it then, and the call's own time holds all the same."""
    loop = asyncio.get_running_loop()
    async with facing(ROWS["404 and silent in its body"]) as (client, _):
        began = loop.time()
        with pytest.raises(errors.DeadlineExceeded):
            await client.get("/x", pipeline=client.pipeline.without(StatusErrors), timeout=3.0)
        assert loop.time() - began <= 3.1


async def test_what_the_reader_of_a_stream_meets_knows_its_call() -> None:
    """An error of ours from reading names the endpoint and the attempts, as any other."""
    async with facing(ROWS["an endless body"]) as (client, _):
        with pytest.raises(errors.BodyTooLarge) as caught:
            async with client.get("/x/{id}", path_params={"id": 7}) as response:
                await response.read()
        assert caught.value.attempts == 1
        assert "GET /x/{id}" in str(caught.value)
