"""Batches as a library, against a real server."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from apiclient import ApiClient, BatchResult, Request, default_pipeline
from apiclient.batch import BatchStopped
from apiclient.credentials import StaticToken
from apiclient.middleware import AttemptTimeout, RateLimit, Retry
from apiclient.testing import Answer, MockTransport
from tests.conftest import Peer


def _requests(count: int) -> Iterator[Request]:
    return (Request(path="/things/{id}", path_params={"id": number}, id=number) for number in range(count))


async def _into(results: list[BatchResult], batch: AsyncIterator[BatchResult]) -> None:
    async for result in batch:
        results.append(result)  # noqa: PERF401 - what came before an error is kept


async def test_each_request_gets_one_result(peer: Peer) -> None:
    """As many results as requests, each with the request's id, status and body."""
    async with ApiClient(peer.url) as client:
        results = [result async for result in client.batch(_requests(50), concurrency=7)]
    assert sorted(result.id for result in results) == list(range(50))
    assert all(result.ok and result.status == 200 and b"fine" in result.body for result in results)
    assert {result.attempts for result in results} == {1}
    assert {result.endpoint for result in results} == {"GET /things/{id}"}


async def test_no_more_than_the_concurrency_is_under_way(peer: Peer) -> None:
    """The server never sees more requests at once than there are workers, and there is no task for each request."""
    at_once = most = tasks = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal at_once, most, tasks
        at_once += 1
        most = max(most, at_once)
        tasks = max(tasks, sum("_work" in str(task.get_coro()) for task in asyncio.all_tasks()))
        await asyncio.sleep(0.001)
        at_once -= 1
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        async for _ in client.batch(_requests(60), concurrency=6):
            pass
    assert most == 6
    assert tasks == 6


async def test_requests_are_pulled_only_as_they_are_needed(peer: Peer) -> None:
    """A consumer that takes one result and waits lets the source be pulled a bounded number of times."""
    pulled = 0

    def source() -> Iterator[Request]:
        nonlocal pulled
        for request in _requests(10_000):
            pulled += 1
            yield request

    async with ApiClient(peer.url) as client:
        batch = client.batch(source(), concurrency=4)
        async for _ in batch:
            await asyncio.sleep(0.05)
            break
        await batch.aclose()  # type: ignore[attr-defined]
    assert pulled < 100


async def test_an_async_source_is_as_good(peer: Peer) -> None:
    """Async iterables give the same results."""

    async def source() -> AsyncIterator[Request]:
        for request in _requests(20):
            await asyncio.sleep(0)
            yield request

    async with ApiClient(peer.url) as client:
        results = [result async for result in client.batch(source(), concurrency=5)]
    assert len(results) == 20


async def test_ordered_results_come_in_the_order_of_the_requests(peer: Peer) -> None:
    """With ``ordered``, a slow early request holds its followers' results back, not their calls."""

    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(0.02 if request.path.endswith("/0") else 0)
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        ids = [result.id async for result in client.batch(_requests(30), concurrency=5, ordered=True)]
    assert ids == list(range(30))


async def test_a_failure_is_a_result(peer: Peer) -> None:
    """An error of a call neither ends the batch nor is lost: it is in the result, with status and attempts."""
    peer.answers(404)
    async with ApiClient(peer.url) as client:
        requests = [Request(path="/a", id="a"), Request(path="//evil.example/", id="b")]
        results = {result.id: result async for result in client.batch(requests)}
    assert type(results["a"].error).__name__ == "NotFound"
    assert (results["a"].status, results["a"].attempts, results["a"].ok) == (404, 1, False)
    assert type(results["b"].error).__name__ == "InvalidRequest"
    assert results["b"].attempts == 0


@pytest.mark.parametrize("concurrency", [1, 5])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_of_the_source_comes_after_the_results_before_it(
    peer: Peer, *, asynchronous: bool, concurrency: int
) -> None:
    """What the source raises ends the batch, once what was under way has its result."""

    def source() -> Iterator[Request]:
        yield from _requests(3)
        raise OSError("the file broke off")

    async def source_too() -> AsyncIterator[Request]:
        for request in source():
            yield request

    seen: list[BatchResult] = []
    async with ApiClient(peer.url) as client:
        with pytest.raises(OSError, match="broke off"):
            await _into(seen, client.batch(source_too() if asynchronous else source(), concurrency=concurrency))
    assert len(seen) == 3


async def test_leaving_early_leaves_nothing_behind(peer: Peer) -> None:
    """After ``break`` and ``aclose`` no task of the batch is left, whatever was under way."""

    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(0 if peer.count < 5 else 30)
        return web.Response()

    peer.handler = handler
    before = asyncio.all_tasks()
    async with ApiClient(peer.url) as client:
        batch = client.batch(_requests(1000), concurrency=10)
        async for _ in batch:
            break
        await batch.aclose()  # type: ignore[attr-defined]
        files = [str(task.get_coro().cr_code.co_filename) for task in asyncio.all_tasks() - before]  # type: ignore[union-attr]
        left = [file for file in files if "/apiclient/" in file and "/tests/" not in file]
        assert left == []


async def test_leaving_early_with_a_full_queue_does_not_hang(peer: Peer) -> None:
    """A consumer that stops while workers wait to hand results over still gets away."""
    async with ApiClient(peer.url) as client:
        batch = client.batch(_requests(200), concurrency=2)
        async for _ in batch:
            await asyncio.sleep(0.1)
            break
        await asyncio.wait_for(batch.aclose(), 5)  # type: ignore[attr-defined]


async def test_dead_credentials_end_the_batch_at_once(peer: Peer) -> None:
    """The first 401 that no refresh can cure stops the batch; it is no result, so that it can be sent again."""
    peer.answers(401)
    results: list[BatchResult] = []
    async with ApiClient(peer.url, credentials=StaticToken("expired")) as client:
        with pytest.raises(BatchStopped) as caught:
            await _into(results, client.batch(_requests(1000), concurrency=3))
    assert caught.value.reason == "stop_on"
    assert results == []
    assert peer.count <= 3


async def test_nothing_is_fatal_where_nobody_says_so(peer: Peer) -> None:
    """With an empty ``stop_on``, a 401 is a failure like any other."""
    peer.answers(401)
    async with ApiClient(peer.url) as client:
        results = [result async for result in client.batch(_requests(5), stop_on=())]
    assert len(results) == 5


async def test_more_failures_than_allowed_end_the_batch(peer: Peer) -> None:
    """``max_failures`` are put up with, one more stops; what was under way still gets its result."""
    peer.answers(404)
    results: list[BatchResult] = []
    async with ApiClient(peer.url) as client:
        with pytest.raises(BatchStopped, match="max_failures is 3") as caught:
            await _into(results, client.batch(_requests(1000), concurrency=2, max_failures=3))
    assert 4 <= len(results) <= 6
    assert caught.value.reason == "max_failures"
    assert caught.value.failed == len(results)


async def test_too_large_a_share_of_failures_ends_the_batch(peer: Peer) -> None:
    """``fail_rate`` is judged from the hundredth result on."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=404 if int(request.path.rpartition("/")[2]) % 5 == 0 else 200)

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        with pytest.raises(BatchStopped, match=r"fail_rate is 0\.1") as caught:
            await _into([], client.batch(_requests(1000), concurrency=2, fail_rate=0.1))
        assert caught.value.done in range(100, 103)
        results = [result async for result in client.batch(_requests(200), concurrency=2, fail_rate=0.21)]
    assert len(results) == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"max_failures": -1}, "max_failures must be at least 0, got -1"),
        ({"fail_rate": 1.5}, r"fail_rate must be from 0 to 1, got 1\.5"),
        ({"lookahead": 0}, "lookahead must be at least 1, got 0"),
    ],
)
async def test_a_wrong_option_is_refused(options: dict[str, float], message: str) -> None:
    """The message names option and value."""
    async with ApiClient("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match=message):
            await _into([], client.batch([], **options))  # type: ignore[arg-type]


def _mocked(limiter: RateLimit) -> tuple[ApiClient, MockTransport]:
    mock = MockTransport()
    mock.get("/slow").respond(json={}).delay(0.01)
    mock.get("/fast").respond(json={}).delay(0.01)
    chain = default_pipeline(telemetry=False).replace(RateLimit, limiter).after(AttemptTimeout, mock)
    return ApiClient("http://api.test", pipeline=chain), mock


def _mixed(slow: int, fast: int) -> Iterator[Request]:
    yield from (Request(path="/slow", id="slow") for _ in range(slow))
    yield from (Request(path="/fast", id="fast") for _ in range(fast))


@pytest.mark.looptime
async def test_a_mixed_batch_ends_in_the_greatest_of_its_least_times() -> None:
    """200 requests at 5 per second before 4000 without a limit: these do not wait, and the whole takes 2 % more at most."""
    client, _ = _mocked(RateLimit(limits={"GET /slow": "5/1s"}, learn=False))
    time = asyncio.get_running_loop().time
    began = time()
    last = {"slow": 0.0, "fast": 0.0}
    async with client:
        async for result in client.batch(_mixed(200, 4000), concurrency=50):
            assert result.ok
            last[result.id] = time() - began
    assert last["fast"] <= 4000 / 49 * 0.01 * 1.05
    assert 39.0 <= last["slow"] <= 39.0 * 1.02


@pytest.mark.looptime
async def test_a_quota_that_must_be_learned_does_not_hold_up_the_others_either() -> None:
    """Nothing configured: after the first 429 the endpoint is held back, and no worker waits in the limiter."""
    client, mock = _mocked(RateLimit())
    loop = asyncio.get_running_loop()
    window: list[float] = []

    async def handler(_request: object) -> object:
        now = loop.time()
        window[:] = [at for at in window if at > now - 1.0]
        if len(window) < 5:
            window.append(now)
            return Answer(json={})
        text = "API calls quota exceeded! maximum admitted 5 per 1 second."
        return Answer(status=429, text=text, headers={"Retry-After": "1"})

    mock.get("/limited").respond(handler)  # type: ignore[arg-type]
    requests = [Request(path="/limited", id="slow") for _ in range(50)]
    requests += [Request(path="/fast", id="fast") for _ in range(200)]
    waited = 0.0
    last = {"slow": 0.0, "fast": 0.0}
    async with client:
        async for result in client.batch(requests, concurrency=5):
            assert result.ok
            waited += result.waits.get("limiter", 0.0)
            last[result.id] = loop.time()
    assert last["fast"] < 6.0
    assert last["slow"] < 12.0
    assert waited < 10.0


@pytest.mark.looptime
async def test_a_wait_before_the_limiter_does_not_let_everybody_in() -> None:
    """While calls of an endpoint wait for a token, no further ones begin: workers stay free for other endpoints."""
    mock = MockTransport()
    mock.get("/slow").respond(json={})
    mock.get("/fast").respond(json={})

    async def gate(request: object, handler: object) -> object:
        if request.url.path == "/slow":  # type: ignore[attr-defined]
            await asyncio.sleep(10)
        return await handler(request)  # type: ignore[operator]

    chain = default_pipeline(telemetry=False).before(Retry, gate).after(AttemptTimeout, mock)  # type: ignore[arg-type]
    done: list[tuple[str, float]] = []
    async with ApiClient("http://api.test", pipeline=chain, timeout=100) as client:
        async for result in client.batch(_mixed(20, 20), concurrency=4):
            done.append((result.id, asyncio.get_running_loop().time()))
            if len(done) == 20:
                break
    assert {name for name, _ in done} == {"fast"}
    assert done[-1][1] < 1.0


@pytest.mark.looptime
async def test_a_request_held_back_tells_for_how_long_and_that_is_not_its_duration() -> None:
    """What waits for its endpoint's quota has not begun: its deadline does not run, and ``held`` says how long it was."""
    client, _ = _mocked(RateLimit(limits={"GET /slow": "1/100s"}, learn=False))
    async with client:
        results = [result async for result in client.batch(_mixed(3, 0), concurrency=2)]
    assert [round(result.held, -2) for result in results] == [0, 100, 200]
    assert all(result.ok and result.duration < 1 for result in results)


async def test_memory_does_not_grow_with_the_number_of_requests(peer: Peer) -> None:
    """After a batch three times as long, no more objects of its kinds are alive than after a short one."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, Request | BatchResult) for each in gc.get_objects())

    async with ApiClient(peer.url) as client:
        most = 0
        count = 0
        async for _ in client.batch(_requests(600), concurrency=5):
            count += 1
            if count % 200 == 0:
                most = max(most, alive())
    assert most < 150
