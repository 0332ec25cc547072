"""What a person who is new to it gets wrong: each mistake is refused where it is made, and the message says what to write."""

import asyncio
import gc
import math
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from apiclient import ApiClient, Pipeline, default_pipeline
from apiclient.credentials import StaticToken
from apiclient.middleware import RateLimit, Retry
from tests.conftest import Peer

URL = "https://api.example.com"

MISTAKES: list[tuple[Callable[[Any], object], Any, type[Exception], str]] = [
    (lambda wrong: ApiClient(URL, pipeline=wrong), [Retry()], TypeError, "got list; write Pipeline([...])"),
    (lambda wrong: ApiClient(URL, pipeline=wrong), Retry(), TypeError, "got Retry; write Pipeline([...])"),
    (lambda wrong: ApiClient(URL, outbox=wrong), "outbox.db", TypeError, "got str; write Outbox(path)"),
    (lambda wrong: ApiClient(URL, shared=wrong), "redis://a", TypeError, "got str; write Redis(url)"),
    (lambda wrong: ApiClient(URL, timeout=wrong), aiohttp.ClientTimeout(3), TypeError, "math.inf for none"),
    (lambda wrong: ApiClient(URL, timeout=wrong), None, TypeError, "math.inf for none"),
    (
        lambda wrong: ApiClient(URL, credentials=wrong, pipeline=default_pipeline()),
        StaticToken("t"),
        ValueError,
        "write default_pipeline(credentials=...)",
    ),
    (lambda wrong: Pipeline([wrong, Retry()]), Retry(), ValueError, "Retry is listed twice"),
    (StaticToken, None, TypeError, "value must be a str, got NoneType"),
    (StaticToken, "Bearer abc", ValueError, "value must be the token alone"),
    (lambda wrong: RateLimit(default=wrong), 5, TypeError, "'5/1s'"),
    (lambda wrong: RateLimit(limits={wrong: "5/1s"}), "/employees", ValueError, "got '/employees'"),
]


@pytest.mark.parametrize(("make", "wrong", "kind", "words"), MISTAKES, ids=[each[3] for each in MISTAKES])
def test_it_is_refused_where_it_is_made(
    make: Callable[[Any], object], wrong: Any, kind: type[Exception], words: str
) -> None:
    """Not at the first call, and never in words of our inside."""
    with pytest.raises(kind) as caught:
        make(wrong)
    assert words in str(caught.value)


async def test_an_option_that_a_call_has_not_is_answered_with_those_it_has() -> None:
    """Who knows aiohttp tries ``ssl=`` first."""
    options: Any = {"ssl": False}
    async with ApiClient(URL) as client:
        with pytest.raises(TypeError, match=r"no option 'ssl'; it has: body, .*, timeout, "):
            await client.get("/", **options)


async def test_a_batch_names_what_it_takes() -> None:
    """A list of paths is the first thing that one tries."""
    requests: Any = ["/ping"]
    async with ApiClient(URL, timeout=math.inf) as client:
        with pytest.raises(TypeError, match=r"got str; write Request\(path=...\)"):
            _ = [result async for result in client.batch(requests)]


async def forgets_to_return(request: Any, handler: Any) -> None:
    await handler(request)


async def forgets_to_await(request: Any, handler: Any) -> Any:
    return handler(request)


def is_not_async(request: Any, handler: Any) -> None:
    """Does nothing."""


@pytest.mark.parametrize("middleware", [forgets_to_return, is_not_async])
async def test_a_middleware_that_gives_no_response_is_named(peer: Peer, middleware: Any) -> None:
    """And not the one outside of it, which has to do without a response."""
    async with ApiClient(peer.url, pipeline=Pipeline([Retry(), middleware])) as client:
        with pytest.raises(TypeError, match=rf"^{middleware.__name__} "):
            await client.get("/a")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_a_middleware_that_forgets_to_await_is_named(peer: Peer) -> None:
    """It hands on a coroutine."""
    async with ApiClient(peer.url, pipeline=Pipeline([Retry(), forgets_to_await])) as client:
        with pytest.raises(TypeError, match=r"^forgets_to_await returned coroutine .* return await handler\(request\)"):
            await client.get("/a")


async def test_a_call_that_nobody_awaited_is_warned_of() -> None:
    """Nothing is sent by naming a call."""
    async with ApiClient(URL) as client:
        with pytest.warns(RuntimeWarning, match=r"^<PendingCall POST '/a'> was never awaited: nothing was sent$"):
            client.post("/a")


@pytest.mark.parametrize("wrap", [asyncio.create_task, asyncio.gather])
async def test_a_call_that_was_cancelled_before_it_began_was_not_forgotten(wrap: Any) -> None:
    """No warning: warnings are errors here."""
    async with ApiClient(URL) as client:
        task = wrap(client.get("/a"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()


async def test_a_task_takes_a_call(peer: Peer) -> None:
    """As it takes any coroutine, cancellation included."""
    async with ApiClient(peer.url) as client:
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(client.get("/a")), group.create_task(client.get("/b"))
        assert (first.result().status, second.result().status) == (200, 200)
        task = asyncio.create_task(client.get("/c"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
