"""Fifteen traps that clients of this kind fall into; peers' bug reports are full of them."""

import asyncio
import gc
import io
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import FormData, web

from apiclient import ApiClient, Pipeline, Request, errors
from apiclient.credentials import StaticToken
from apiclient.middleware import (
    AttemptTimeout,
    CircuitBreaker,
    Deadline,
    RateLimit,
    Retry,
    StatusErrors,
)
from apiclient.outbox import MemoryOutbox
from tests.authority import Authority, answer
from tests.conftest import Peer

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def status(client: ApiClient, path: str = "/x", **options: Any) -> int:
    return (await client.get(path, **options)).status


async def drop(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def settled() -> None:
    """Let what was cancelled or closed come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_trap_1_a_hundred_401s_make_one_refresh() -> None:
    """A token revoked before its time: one token request, a hundred replays; refused when fresh, one replay and no loop."""
    async with Authority() as authority, ApiClient(authority.url, credentials=authority.client()) as client:
        assert await status(client) == 200
        authority.revoke()
        authority.delay = authority.api_delay = 0.05
        at_once = client.pipeline.without(RateLimit)
        assert await asyncio.gather(*(status(client, pipeline=at_once) for _ in range(100))) == [200] * 100
        assert (authority.token_requests, authority.calls) == (2, 1 + 200)
        authority.api = answer(401)
        before = authority.calls, authority.token_requests
        with pytest.raises(errors.Unauthorized):
            await client.get("/x")
        assert (authority.calls, authority.token_requests) == (before[0] + 2, before[1] + 1)


async def test_trap_1_a_late_401_for_an_old_token_refreshes_nothing() -> None:
    """Its answer was on the way while the token was replaced: it is sent again with the new one."""
    async with Authority() as authority, ApiClient(authority.url, credentials=authority.client()) as client:
        assert await status(client) == 200

        async def slow(request: web.Request) -> web.StreamResponse:
            old = request.headers["Authorization"] == "Bearer token-1"
            await asyncio.sleep(5.0 if old and request.path == "/late" else 0.0)
            return web.Response(status=401 if old else 200)

        authority.api = slow
        assert [*await asyncio.gather(status(client, "/late"), status(client, "/soon"))] == [200, 200]
        assert authority.token_requests == 2


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_trap_2_a_cancelled_refresh_is_nobody_elses_loss(who: str) -> None:
    """The caller who began it, or one who waits for it, may go; the others get their token by one request."""
    async with Authority() as authority:
        authority.delay = 1.0
        async with ApiClient(authority.url, credentials=authority.client(), connections=1) as client:
            tasks = [asyncio.ensure_future(status(client)) for _ in range(5)]
            await asyncio.sleep(0.5)
            tasks[0 if who == "leader" else 2].cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(map(str, ended)) == ["", "200", "200", "200", "200"]
        assert authority.token_requests == 1


async def test_trap_2_a_refresh_takes_no_place_that_its_waiters_hold() -> None:
    """With one connection and a quota of one, the token is fetched all the same; a failure is shared, and not for ever."""
    async with Authority() as authority:
        chain_of = authority.client()
        async with ApiClient(authority.url, credentials=chain_of, connections=1) as client:
            pipeline = client.pipeline.replace(RateLimit, RateLimit(default="1/1s"))
            async with asyncio.timeout(20):
                calls = (status(client, pipeline=pipeline) for _ in range(5))
                assert await asyncio.gather(*calls) == [200] * 5
            authority.revoke()
            chain_of.invalidate(await chain_of.token())
            authority.delay = 0.1
            authority.script = [answer(400, {"error": "invalid_request"})]
            shared = await asyncio.gather(*(status(client) for _ in range(5)), return_exceptions=True)
            assert {type(each) for each in shared} <= {errors.CredentialsRejected, errors.TokenUnavailable}
            assert authority.token_requests == 2
            await asyncio.sleep(120)
            assert await status(client) == 200


@pytest.mark.parametrize("code", [503, 429])
async def test_trap_3_a_retry_after_beyond_the_deadline_is_not_waited_for(peer: Peer, code: int) -> None:
    """60 s asked for, 5 s left: the call fails at once after one request, and so does a wait for the quota."""
    peer.answers(code, headers={"Retry-After": "60"})
    async with ApiClient(peer.url, timeout=5.0) as client:
        began = now()
        with pytest.raises(errors.ApiError) as caught:
            await client.get("/x")
        assert now() - began < 0.05
        assert caught.value.attempts == peer.count == 1
        if code == 429:
            with pytest.raises(errors.RateLimited) as queued:
                await client.get("/x")
            assert queued.value.would_have_waited == pytest.approx(60, abs=1)
            assert now() - began < 0.05
            assert peer.count == 1


PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("0", 0.0), ("1.5", 1.5), ("-3", 0.0), ("inf", 0.0), ("1e400", 0.0), ("", 0.0), ("5, 5", 5.0), (PAST, 0.0),
        ("in 30 s", 30.0), ("in 30 s by a clock an hour ahead", 30.0), ("naive in 30 s", 30.0),
        ("1000000000000000000", None), ("61", None),
    ],
)  # fmt: skip
async def test_trap_4_every_retry_after_is_kept_or_the_call_given_up(peer: Peer, said: str, wait: float | None) -> None:
    """Never earlier than it says, with jitter on top; above the cap the call ends and is not sent early."""
    times: list[float] = []
    fixed = 1_700_000_000.0

    def http(moment: float) -> str:
        return format_datetime(datetime.fromtimestamp(moment, UTC), usegmt=True)

    headers = {"Retry-After": said, "Date": http(fixed)}
    if "30 s" in said:
        ahead = 3600.0 if "ahead" in said else 0.0
        text = http(fixed + ahead + 30)
        headers = {"Retry-After": text.removesuffix(" GMT") if "naive" in said else text, "Date": http(fixed + ahead)}

    async def handler(_: web.Request) -> web.StreamResponse:
        times.append(now())
        return web.Response(status=503 if len(times) == 1 else 200, headers=headers)

    peer.handler = handler
    chain = Pipeline([StatusErrors(), Deadline(300), Retry(now=lambda: fixed), AttemptTimeout()])
    async with ApiClient(peer.url, pipeline=chain, timeout=300) as client:
        if wait is None:
            with pytest.raises(errors.ServerError) as caught:
                await client.get("/x")
            assert caught.value.stopped == "retry_after"
            assert len(times) == 1
        else:
            assert await status(client) == 200
            assert wait <= times[1] - times[0] <= wait + 0.3


async def test_trap_5_one_429_holds_fifty_siblings_and_then_lets_them_go_one_by_one(peer: Peer) -> None:
    """Nothing is sent on that endpoint while it lasts, no herd after it, and others are not touched."""
    times: list[tuple[str, float]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        times.append((request.path, now()))
        if len(times) == 1:
            text = "API calls quota exceeded! maximum admitted 5 per 1 second."
            return web.Response(status=429, text=text, headers={"Retry-After": "5"})
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        first = asyncio.ensure_future(status(client, "/a"))
        await asyncio.sleep(0.1)
        began = times[0][1]
        siblings = [asyncio.ensure_future(status(client, "/a")) for _ in range(50)]
        assert await status(client, "/b") == 200
        assert now() - began < 1.0
        await asyncio.gather(first, *siblings)
    after = [time - began for path, time in times[1:] if path == "/a"]
    assert len(after) == 51
    assert min(after) >= 5.0
    assert all(later - earlier >= 0.99 for earlier, later in zip(after, after[5:], strict=False))


@pytest.mark.parametrize("fault", ["503", "closed", "silent"])
async def test_trap_6_a_post_is_repeated_only_with_a_key_and_always_with_the_same(peer: Peer, fault: str) -> None:
    """Once bytes may have left; a new call has a new key, and one from the outbox keeps its own."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if peer.count % 2:
            if fault == "silent":
                await asyncio.sleep(1000)
            return web.Response(status=503) if fault == "503" else await drop(request)
        return web.Response()

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.post("/orders", json={})
        assert peer.count == 1
        peer.seen.clear()
        peer.headers.clear()
        for key in ("one", "two"):
            assert (await client.post("/orders", json={}, idempotency_key=key)).status == 200
    sent = [headers["Idempotency-Key"] for headers in peer.headers]
    assert sent[0] == sent[1] != sent[2] == sent[3]


async def test_trap_6_the_outbox_sends_the_key_of_the_call(peer: Peer) -> None:
    """Before deferral and after it: one operation, one key."""
    peer.answers(503)
    outbox = MemoryOutbox()
    async with ApiClient(peer.url, outbox=outbox) as client:
        with pytest.raises(errors.Deferred):
            await client.post("/orders", json={}, idempotency_key="one", defer=True)
        peer.answers(200)
        await outbox.drain()
    assert len({headers["Idempotency-Key"] for headers in peer.headers}) == 1
    assert peer.count == 5


async def pieces() -> AsyncIterator[bytes]:
    yield b"only"
    yield b"once"


async def test_trap_7_a_consumed_body_is_never_sent_again_empty(peer: Peer) -> None:
    """The server has one whole body, and the error names the way out."""
    peer.answers(503, 200)
    async with ApiClient(peer.url) as client:
        with pytest.raises(errors.BodyNotReplayable, match="buffer_body"):
            await client.put("/x", data=pieces())
    assert [body for _, _, body in peer.seen] == [b"onlyonce"]


@pytest.mark.parametrize("kind", ["file", "json", "multipart", "form"])
async def test_trap_7_the_second_attempt_is_the_first_again(peer: Peer, kind: str, tmp_path: Path) -> None:
    """A file from where it stood, and Content-Type and Content-Length to the letter."""
    path = tmp_path / "upload"
    path.write_bytes(b"skipped" + bytes(range(256)) * 100)
    with path.open("rb") as file:
        file.seek(7)
        form = FormData()
        form.add_field("file", io.BytesIO(b"content"), filename="a.txt")
        kinds: dict[str, dict[str, Any]] = {
            "file": {"data": file}, "json": {"json": {"a": 1}}, "multipart": {"data": form}, "form": {"data": {"a": "1"}},
        }  # fmt: skip
        peer.answers(503, 200)
        async with ApiClient(peer.url) as client:
            assert (await client.put("/x", **kinds[kind])).status == 200
    (_, _, first), (_, _, second) = peer.seen
    assert first == second != b""
    for name in ("Content-Type", "Content-Length"):
        assert peer.headers[0].get(name) == peer.headers[1].get(name)
    assert "Content-Type" in peer.headers[0]


async def test_trap_8_no_hidden_second_run_of_the_chain(peer: Peer) -> None:
    """Idempotent methods are repeated by aiohttp itself: through ours the server counts what we report."""
    peer.handler = drop
    for method in ("GET", "PUT", "DELETE"):
        peer.seen.clear()
        async with ApiClient(peer.url) as client:
            with pytest.raises(errors.ConnectionLost) as caught:
                await client.request(method, "/x")
        assert caught.value.attempts == peer.count == 4


async def test_trap_8_a_client_inside_a_client_does_not_multiply(peer: Peer) -> None:
    """A middleware that asks another client of ours: its requests are its own, and the outer count stays true."""
    peer.answers(503)
    chain = Pipeline([StatusErrors(), Retry(attempts=2, jitter=None), AttemptTimeout()])
    async with ApiClient(peer.url, pipeline=chain) as inner:

        async def ask_first(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            with pytest.raises(errors.ServerError) as caught:
                await inner.get("/inner")
            assert caught.value.attempts == 2
            return await handler(request)

        outer_chain = Pipeline([StatusErrors(), ask_first, Retry(attempts=2, jitter=None), AttemptTimeout()])
        async with ApiClient(peer.url, pipeline=outer_chain) as outer:
            with pytest.raises(errors.ServerError) as caught:
                await outer.get("/outer")
            assert caught.value.attempts == 2
    assert [path for _, path, _ in peer.seen] == ["/inner"] * 2 + ["/outer"] * 2


async def test_trap_9_nothing_of_ours_reaches_another_host(peer: Peer) -> None:
    """The other host hears nothing at all by default; see tests/security/test_redirects.py for the ways to allow it."""
    seen: list[Any] = []

    async def evil(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(dict(request.headers))
        return web.Response()

    other = await asyncio.get_running_loop().create_server(web.Server(evil), "127.0.0.1", 0)
    try:
        port = other.sockets[0].getsockname()[1]
        for where in (f"http://127.0.0.1:{port}/", f"//127.0.0.1:{port}/", "http://downgraded.example/"):
            peer.answers(307, headers={"Location": where})
            async with ApiClient(
                peer.url, credentials=StaticToken("canary"), headers={"X-Api-Key": "canary"}
            ) as client:
                with pytest.raises(errors.RedirectRefused):
                    await client.post(
                        "/x", json={"secret": 1}, idempotency_key="canary", headers={"Cookie": "a=canary"}
                    )
    finally:
        other.close()
        await other.wait_closed()
    assert seen == []


async def test_trap_10_hundreds_of_large_errors_pass_through_one_connection(peer: Peer) -> None:
    """Two megabytes each, never read by anybody: no deadlock, and no descriptor is left over."""
    peer.answers(503, body=b"x" * 2 * 2**20)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else None
    chain = Pipeline([StatusErrors(), Deadline(1e6), Retry(attempts=250, budget=False, jitter=None, wait=_at_once)])
    async with ApiClient(peer.url, pipeline=chain, connections=1, timeout=1e6) as client:
        with pytest.raises(errors.ServerError) as caught:
            await client.get("/x")
        assert caught.value.attempts == peer.count == 250
        await settled()
        if before is not None:
            assert len(list(descriptors.iterdir())) <= before + 4
    gc.collect()


def _at_once() -> Any:
    yield None
    while True:
        yield 0.001


@pytest.mark.parametrize("where", ["limiter", "backoff", "probe", "body"])
async def test_trap_11_a_cancelled_wait_gives_everything_back(peer: Peer, where: str) -> None:
    """The CancelledError comes through as it is, nothing is kept, and a timeout around the call works."""
    breaker = CircuitBreaker(minimum=1 if where == "probe" else 20, probes=1, cooldown=1.0)
    limit = RateLimit(default="1/10s") if where == "limiter" else RateLimit()
    chain = Pipeline([StatusErrors(), Deadline(60), Retry(jitter=None), breaker, limit, AttemptTimeout()])
    async with ApiClient(peer.url, pipeline=chain, connections=1) as client:
        tasks = asyncio.all_tasks()
        if where == "limiter":
            await client.get("/x")
        elif where == "probe":
            peer.answers(500)
            with pytest.raises(errors.ApiError):
                await client.get("/x", pipeline=chain.without(Retry))
            await asyncio.sleep(1.0)
        if where == "backoff":
            peer.answers(503, headers={"Retry-After": "9"})
        elif where in {"body", "probe"}:
            peer.handler = _endless
        call = asyncio.ensure_future(status(client))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        assert type(caught.value) is asyncio.CancelledError
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(0.5):
                await client.get("/x")
        assert not isinstance(late.value, errors.ApiError)
        peer.answers(200)
        await asyncio.sleep(10)
        assert await status(client) == 200
        assert breaker.state(peer.url) == "closed"
        await settled()
        assert {task for task in asyncio.all_tasks() - tasks if "RequestHandler" not in repr(task)} == set()


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    await response.write(b"x")
    await asyncio.sleep(1000)
    return response


async def test_trap_12_a_half_open_circuit_lets_so_many_through_and_forgets_nobody(peer: Peer) -> None:
    """A race of fifty has two probes; a probe that is cancelled, or says nothing, makes room for the next."""
    breaker = CircuitBreaker(minimum=1, probes=2, cooldown=1.0)
    async with ApiClient(peer.url, pipeline=Pipeline([StatusErrors(), breaker, AttemptTimeout(5)])) as client:
        peer.answers(500)
        with pytest.raises(errors.ServerError):
            await client.get("/x")
        await asyncio.sleep(1.0)
        before = peer.count
        peer.handler = _endless
        race = [asyncio.ensure_future(status(client)) for _ in range(50)]
        await asyncio.sleep(0.1)
        assert peer.count - before == 2
        for call in race:
            call.cancel()
        assert (
            sum(isinstance(each, errors.CircuitOpen) for each in await asyncio.gather(*race, return_exceptions=True))
            == 48
        )
        peer.answers(429)
        with pytest.raises(errors.TooManyRequests):
            await client.get("/x")
        assert breaker.state(peer.url) == "half_open"
        peer.answers(200)
        assert [await status(client) for _ in range(2)] == [200, 200]
        assert breaker.state(peer.url) == "closed"


@pytest.mark.parametrize("code", [400, 404, 409, 429])
async def test_trap_12_what_the_origin_is_not_to_blame_for_opens_nothing(peer: Peer, code: int) -> None:
    """Forty refusals in a row, and the circuit is closed; another origin has one of its own anyway."""
    peer.answers(code)
    breaker = CircuitBreaker(minimum=5)
    async with ApiClient(peer.url, pipeline=Pipeline([StatusErrors(), breaker])) as client:
        for _ in range(40):
            with pytest.raises(errors.StatusError):
                await client.get("/x")
        assert breaker.state(peer.url) == "closed"
        assert breaker.state("http://127.0.0.1:1") == "closed"


async def test_trap_13_no_window_of_a_second_ever_sees_more_than_the_limit(peer: Peer) -> None:
    """In order of arrival, retries counted, however the windows lie; a cancelled waiter takes nothing."""
    times: list[float] = []
    order: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        times.append(now())
        order.append(request.query["n"])
        return web.Response(status=503 if len(times) == 3 else 200)

    peer.handler = handler
    async with ApiClient(peer.url) as client:
        chain = client.pipeline.replace(RateLimit, RateLimit(default="10/1s")).replace(Retry, Retry(jitter=None))
        calls = [asyncio.ensure_future(status(client, params={"n": str(n)}, pipeline=chain)) for n in range(40)]
        await asyncio.sleep(0.5)
        calls[20].cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(each == 200 for each in ended) == 39
    assert len(times) == 40
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[10:], strict=False))
    assert [int(n) for n in order if n != "2"] == [n for n in range(40) if n not in {2, 20}]
    assert times[-1] - times[0] < 3.3


async def test_trap_14_no_secret_in_what_a_failure_shows(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """Message, repr, traceback with its causes, events; tests/security/test_canary.py has every way in and out."""
    caplog.set_level(0)
    peer.handler = drop
    async with ApiClient(
        peer.url, credentials=StaticToken("canary-token"), headers={"X-Api-Key": "canary-key"}
    ) as client:
        with pytest.raises(errors.OutcomeUnknown) as caught:
            await client.post(
                "/users/{id}", path_params={"id": "canary-id"}, params={"key": "canary-query"},
                json={"password": "canary-body"}, headers={"Cookie": "a=canary-cookie"},
            )  # fmt: skip
    error = caught.value
    events = [record.__dict__ for record in caplog.records if record.name.startswith("apiclient")]
    shown = [str(error), repr(error), error.describe(), *traceback.format_exception(error), repr(events)]
    assert "canary" not in "".join(shown)
    assert len(events) >= 2
    assert "POST /users/{id}" in str(error)


async def test_trap_15_a_batch_holds_back_its_source_and_survives_a_poisoned_item(peer: Peer) -> None:
    """SIGKILL is in tests/apiclient/test_batch_kill.py. Tasks and requests in memory are bounded by the concurrency; one bad item is one failed result."""
    pulled = done = most = 0

    def source() -> Any:
        nonlocal pulled
        for number in range(1_000):
            pulled += 1
            yield Request(path="/../poison" if number == 7 else f"/things/{number}")

    async with ApiClient(peer.url) as client:
        idle = len(asyncio.all_tasks())
        failed = 0
        async for result in client.batch(source(), concurrency=20):
            done += 1
            failed += not result.ok
            most = max(most, pulled - done)
            assert len(asyncio.all_tasks()) - idle < 100
    assert (done, failed, peer.count) == (1_000, 1, 999)
    assert most < 1_000 / 2


async def test_trap_15_an_outage_costs_a_fifth_more_and_half_a_body_is_a_failure(peer: Peer) -> None:
    """At most 1.2 requests a call, and the floor of 100, while everything fails; 200 with half of its body is no success."""
    peer.answers(500)
    async with ApiClient(peer.url) as client:
        chain = client.pipeline.without(CircuitBreaker, RateLimit)
        calls = (status(client, pipeline=chain) for _ in range(600))
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended} == {errors.ServerError}
        assert 600 < peer.count <= 1.2 * 600 + 100

        async def half(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"half")
            return await drop(request)

        peer.handler = half
        results = [result async for result in client.batch([Request(path="/half")])]
        assert [type(result.error) for result in results] == [errors.ResponseBroken]
