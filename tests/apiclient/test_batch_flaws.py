"""The twelve flaws of hand-written batch loops, one test each: none of them is here."""

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, web

from apiclient import ApiClient, Pipeline, Request, default_pipeline
from apiclient.cli._app import run as command
from apiclient.credentials import StaticToken
from apiclient.middleware import AttemptTimeout, RateLimit, Retry
from apiclient.testing import MockTransport
from tests.apiclient.job.runs import job, read, run, things, write
from tests.conftest import Peer


def _client(mock: MockTransport, **limits: Any) -> ApiClient:
    chain = default_pipeline(telemetry=False).after(AttemptTimeout, mock)
    return ApiClient("http://api.test", pipeline=chain.replace(RateLimit, RateLimit(**limits)))


@pytest.mark.looptime
async def test_flaw_1_a_429_is_known_by_its_status_and_pauses_its_endpoint_for_as_long_as_it_says() -> None:
    """A bare 429 with ``Retry-After: 7`` pauses that endpoint for 7 seconds, and no other endpoint."""
    mock = MockTransport()
    mock.get("/limited").respond(status=429, headers={"Retry-After": "7"}, text="slow down").respond(json={})
    mock.get("/other").respond(json={})
    requests = [Request(path="/limited", id=0), Request(path="/limited", id=1), Request(path="/other", id=2)]
    ended: dict[int, float] = {}
    async with _client(mock) as client:
        async for result in client.batch(requests, concurrency=3):
            assert result.ok
            ended[result.id] = asyncio.get_running_loop().time()
    assert ended[2] < 1.0
    assert 7.0 <= min(ended[0], ended[1]) < 7.5


@pytest.mark.looptime
async def test_flaw_2_only_what_can_pass_is_tried_again_and_not_at_once() -> None:
    """400 and 404 are sent once; 500 is sent again after a wait that grows."""
    mock = MockTransport()
    for status in (400, 404):
        mock.get(f"/{status}").respond(status=status)
    mock.get("/500").respond(status=500).respond(status=500).respond(json={})
    async with _client(mock) as client:
        results = [result async for result in client.batch(Request(path=f"/{n}", id=n) for n in (400, 404, 500))]
    attempts = {result.id: result.attempts for result in results}
    assert attempts == {400: 1, 404: 1, 500: 3}
    (retried,) = [result for result in results if result.id == 500]
    assert retried.ok
    assert retried.waits["backoff"] > 0


@pytest.mark.looptime
async def test_flaw_3_a_request_that_costs_more_than_the_quota_is_not_waited_for_for_ever() -> None:
    """A cost of ten where five are allowed takes the whole quota, and goes."""
    mock = MockTransport()
    mock.get("/a").respond(json={})
    requests = [Request(path="/a", id=n, options={"cost": 10}) for n in range(2)]
    async with _client(mock, limits={"GET /a": "5/1s"}) as client:
        results = [result async for result in client.batch(requests)]
    assert [result.ok for result in results] == [True, True]
    assert asyncio.get_running_loop().time() < 3.0


async def test_a_call_that_is_cancelled_from_within_is_a_failure(peer: Peer) -> None:
    """Nobody cancelled the batch, so each request has its result, and no worker is lost."""

    async def cancels(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if request.url.path == "/1":
            shared = asyncio.create_task(asyncio.sleep(10))
            shared.cancel()
            await shared
        return await handler(request)

    requests = [Request(path=f"/{number % 2}", id=number) for number in range(6)]
    async with ApiClient(peer.url, pipeline=Pipeline((cancels,))) as client:
        results = {result.id: result async for result in client.batch(requests, concurrency=2)}
    assert {number: result.ok for number, result in results.items()} == dict.fromkeys(range(6), True) | {
        1: False,
        3: False,
        5: False,
    }
    assert str(results[1].error) == "The call was cancelled by something within its own chain"


async def test_flaw_4_no_task_is_lost_to_the_garbage_collector(peer: Peer) -> None:
    """With a collection at each request, every request still has its result, and the batch ends."""

    async def handler(_: web.Request) -> web.Response:
        gc.collect()
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        requests = (Request(path="/a", id=number) for number in range(25))
        ids = {result.id async for result in client.batch(requests, concurrency=10)}
    assert ids == set(range(25))


@pytest.mark.looptime
async def test_flaw_5_waiting_is_no_polling() -> None:
    """An hour of waiting for quotas asks the limiter a few times for each request, not each millisecond."""
    mock = MockTransport()
    mock.get("/a").respond(json={})
    client = _client(mock, limits={"GET /a": "1/60s"}, learn=False)
    limiter: RateLimit = client.pipeline.find(RateLimit)
    asked = 0
    real = limiter.ready_in

    def counted(key: Any) -> float:
        nonlocal asked
        asked += 1
        return real(key)

    limiter.ready_in = counted  # type: ignore[method-assign]
    async with client:
        results = [result async for result in client.batch((Request(path="/a") for _ in range(60)), concurrency=5)]
    assert len(results) == 60
    assert asyncio.get_running_loop().time() >= 59 * 60
    assert asked < 60 * 10


async def test_flaw_6_however_slow_the_answers_no_more_are_under_way_than_allowed(peer: Peer) -> None:
    """A server that does not answer holds as many requests as there are workers; the others are not begun."""
    arrived = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if peer.count == 4:
            arrived.set()
        await asyncio.sleep(30)
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url, pipeline=default_pipeline().without(RateLimit)) as client:
        batch = client.batch((Request(path="/a") for _ in range(1000)), concurrency=4)
        taking = asyncio.ensure_future(anext(batch))
        await arrived.wait()
        await asyncio.sleep(0.05)
        assert peer.count == 4
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await batch.aclose()  # type: ignore[attr-defined]


async def test_flaw_7_a_second_run_neither_repeats_nor_appends_twice(peer: Peer, tmp_path: Path) -> None:
    """Every line has an id and one shape; running again makes nothing twice, with or without ``resume``."""
    peer.answers(200, 200, 404, 200)
    source, output = write(tmp_path / "in.jsonl", things(8)), tmp_path / "out.jsonl"
    await run(peer.url, source, output, canary=False)
    lines = read(output)
    assert {frozenset(line) - {"body", "error"} for line in lines} == {
        frozenset({"id", "ok", "status", "attempts", "started_at", "duration_ms"})
    }
    await run(peer.url, source, output, resume=True)
    assert read(output) == lines
    assert peer.count == 8


async def test_flaw_8_a_torn_last_line_is_cut_off(peer: Peer, tmp_path: Path) -> None:
    """Wherever in its last line the output ends, a resumption completes it, and every line is whole."""
    source, output = write(tmp_path / "in.jsonl", things(4)), tmp_path / "out.jsonl"
    await run(peer.url, source, output)
    whole = output.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in (last + 1, last + 20, len(whole) - 1):
        output.write_bytes(whole[:cut])
        assert await run(peer.url, source, output, resume=True) == 0
        assert sorted(line["id"] for line in read(output)) == [0, 1, 2, 3]


async def test_flaw_9_an_interruption_loses_nothing_that_is_under_way(peer: Peer, tmp_path: Path) -> None:
    """What the server has begun when the interruption comes has its result afterwards."""
    begun = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        if peer.count == 6:
            begun.set()
        await asyncio.sleep(0.03 if peer.count > 1 else 0)
        return web.Response()

    peer.handler = handler
    source, output = write(tmp_path / "in.jsonl", things(200)), tmp_path / "out.jsonl"
    running = job(peer.url, source, output, concurrency=5)
    task = asyncio.create_task(running.run())
    await begun.wait()
    running.interrupt()
    await task
    assert {f"/things/{line['id']}" for line in read(output)} == {path for _, path, _ in peer.seen}


async def test_flaw_10_failures_show_in_the_exit_code(peer: Peer, tmp_path: Path) -> None:
    """One failure among many is enough for a code that is not 0."""
    peer.answers(200, 200, 422, 200)
    source = write(tmp_path / "in.jsonl", things(20))
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 1


async def test_flaw_11_a_bad_line_kills_nothing(peer: Peer, tmp_path: Path) -> None:
    """Lines that are no JSON, of another type, or not UTF-8 become failures; the rest is made."""
    source = write(tmp_path / "in.jsonl", [*things(3), b"{", b"[]", b"\xff", *things(6)[3:]])
    assert await run(peer.url, source, tmp_path / "out.jsonl") == 1
    assert sum(line["ok"] for line in read(tmp_path / "out.jsonl")) == 6
    assert len(read(tmp_path / "out.jsonl")) == 9


async def test_flaw_12_no_secret_is_an_argument_and_none_is_written(
    peer: Peer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command has no option for a secret, and neither results, letters, header nor summary hold the token."""
    assert command(("batch", "--help")) == 0
    shown = capsys.readouterr().out.lower()
    assert not any(option in shown for option in ("--token", "--secret", "--password", "--api-key"))
    peer.answers(200, 422, 500, 200)
    client = ApiClient(peer.url, credentials=StaticToken("s3cret-token"))
    source = write(tmp_path / "in.jsonl", things(8))
    running = job(peer.url, source, tmp_path / "out.jsonl", client=client)
    await running.run()
    assert any("s3cret-token" in str(headers) for headers in peer.headers)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"s3cret-token" not in written
    assert "s3cret-token" not in json.dumps(running.statistics.data())


async def test_an_error_that_is_no_json_is_still_a_result(peer: Peer, tmp_path: Path) -> None:
    """Whatever a middleware raises becomes a failure with its type and text, and stops nothing."""

    class Odd(Exception):
        """Holds what JSON cannot."""

    async def odd(request: Any, handler: Any) -> Any:
        if request.url.path.endswith("/1"):
            raise Odd({1, 2}, object)
        return await handler(request)

    client = ApiClient(peer.url, pipeline=default_pipeline(telemetry=False).before(Retry, odd))
    source = write(tmp_path / "in.jsonl", things(3))
    assert await run(peer.url, source, tmp_path / "out.jsonl", client=client) == 1
    (failed,) = [line for line in read(tmp_path / "out.jsonl") if not line["ok"]]
    assert failed["error"]["type"] == "Odd"


@pytest.mark.looptime
async def test_a_moment_without_capacity_is_no_failure() -> None:
    """A server that is over capacity for a while answers 503 with ``Retry-After``: requests wait, and succeed."""
    mock = MockTransport()
    mock.get("/a").respond(status=503, headers={"Retry-After": "2"}).respond(json={})
    async with _client(mock) as client:
        results = [result async for result in client.batch(Request(path="/a", id=n) for n in range(20))]
    assert all(result.ok for result in results)
